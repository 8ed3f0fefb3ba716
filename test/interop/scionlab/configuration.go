//go:build linux

package scionlab

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"text/template"
)

// configure writes what the programs of the network read, keys and certificates
// included, which are made for it.
func configure(ctx context.Context, cfg Config, dir string, all []*AS) error {
	pki := filepath.Join(dir, "pki")
	if err := makeCertificates(ctx, cfg.Tools, dir, pki, all); err != nil {
		return err
	}
	for _, as := range all {
		if err := as.configure(pki, cfg.Short); err != nil {
			return fmt.Errorf("configure %s: %w", as.IA, err)
		}
	}
	return nil
}

func makeCertificates(ctx context.Context, tools *Tools, dir, pki string, all []*AS) error {
	var layout strings.Builder
	layout.WriteString("ASes:\n")
	for _, as := range all {
		kind := "cert_issuer: " + all[0].IA
		switch {
		case as == all[0]:
			kind = "core: true, voting: true, authoritative: true, issuing: true"
		case as.Core:
			kind = "core: true, " + kind
		}
		fmt.Fprintf(&layout, "  %q: {%s}\n", as.IA, kind)
	}
	file := filepath.Join(dir, "lab.topo")
	if err := os.WriteFile(file, []byte(layout.String()), 0o644); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, tools.Path("scion-pki"), "testcrypto", "-t", file, "-o", pki, "--as-validity", "30d")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("make certificates: %w\n%s", err, out)
	}
	return nil
}

func (as *AS) configure(pki string, short bool) error {
	for _, name := range []string{"certs", "keys", "db"} {
		if err := os.MkdirAll(filepath.Join(as.Dir, name), 0o755); err != nil {
			return err
		}
	}
	made := filepath.Join(pki, fmt.Sprintf("ASff00_0_%d", as.number), "crypto")
	if err := os.CopyFS(filepath.Join(as.Dir, "crypto"), os.DirFS(made)); err != nil {
		return err
	}
	if err := os.CopyFS(filepath.Join(as.Dir, "certs"), os.DirFS(filepath.Join(pki, "trcs"))); err != nil {
		return err
	}
	for _, name := range []string{"master0.key", "master1.key"} {
		key := make([]byte, 16)
		rand.Read(key)
		if err := os.WriteFile(filepath.Join(as.Dir, "keys", name), []byte(base64.StdEncoding.EncodeToString(key)), 0o600); err != nil {
			return err
		}
	}
	topology, err := json.MarshalIndent(as.topology(), "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(as.Topology(), topology, 0o644); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(as.Dir, "short.yml"), []byte("MaxExpTime: 0\n"), 0o644); err != nil {
		return err
	}
	for _, p := range as.programs() {
		p.Short = short
		if err := p.configure(); err != nil {
			return err
		}
	}
	return nil
}

// topology is the content of topology.json.
func (as *AS) topology() any {
	type object = map[string]any
	routers := object{}
	for _, r := range as.routers {
		interfaces := object{}
		for _, i := range r.interfaces {
			entry := object{
				"underlay": object{"local": i.local.String(), "remote": i.remote.String()},
				"isd_as":   i.neighbor, "link_to": i.linkTo, "mtu": mtu,
			}
			if i.linkTo == "peer" {
				entry["remote_interface_id"] = i.remoteID
			}
			interfaces[fmt.Sprint(i.id)] = entry
		}
		routers[r.name] = object{"internal_addr": netip.AddrPortFrom(as.Host(r.host), routerPort).String(), "interfaces": interfaces}
	}
	attributes := []string{}
	if as.Core {
		attributes = append(attributes, "core")
	}
	control := object{fmt.Sprintf("cs-%d", as.number): object{"addr": as.ControlService().String()}}
	return object{
		"isd_as": as.IA, "mtu": mtu, "attributes": attributes, "dispatched_ports": "1024-65535",
		"control_service": control, "discovery_service": control, "border_routers": routers,
	}
}

// A program is one that an AS runs.
type program struct {
	tool   string
	config string // path of its configuration
	text   *template.Template
	// What the text names:
	Name, Dir string
	Core      bool
	Short     bool           // paths that do not live long
	Issuer    bool           // issues the certificates of the ISD
	Echo      netip.Addr     // of the echo responder
	Metrics   netip.AddrPort // of a router
}

var (
	// A neighbour is held for dead after a second: machines that run tests are
	// busy, and with the usual 0.6 seconds links fail that nobody has touched.
	//
	// Programs on loopback send at once what no link would carry so fast. The
	// kernel may grant less of a buffer.
	routerText = template.Must(template.New("").Parse(`[general]
id = "{{.Name}}"
config_dir = "{{.Dir}}"
[log.console]
level = "info"
[metrics]
prometheus = "{{.Metrics}}"
[router]
num_processors = 1
receive_buffer_size = 4194304
send_buffer_size = 4194304
[router.bfd]
detect_mult = 5
`))
	controlText = template.Must(template.New("").Parse(`[general]
id = "{{.Name}}"
config_dir = "{{.Dir}}"
[log.console]
level = "info"
[beacon_db]
connection = "{{.Dir}}/db/{{.Name}}.beacon.db"
[trust_db]
connection = "{{.Dir}}/db/{{.Name}}.trust.db"
[path_db]
connection = "{{.Dir}}/db/{{.Name}}.path.db"
[path]
query_interval = "1s"
[beaconing]
origination_interval = "1s"
propagation_interval = "1s"
registration_interval = "1s"
{{if .Short}}[beaconing.policies]
propagation = "{{.Dir}}/short.yml"
{{if .Core}}core_registration = "{{.Dir}}/short.yml"
{{else}}up_registration = "{{.Dir}}/short.yml"
down_registration = "{{.Dir}}/short.yml"
{{end}}{{end}}{{if .Issuer}}[ca]
mode = "in-process"
{{end}}`))
	// The dispatcher is what is left of a former design, and answers SCMP echo
	// requests to its address.
	dispatcherText = template.Must(template.New("").Parse(`[dispatcher]
id = "{{.Name}}"
underlay_addr = "{{.Echo}}"
[log.console]
level = "info"
`))
)

func (as *AS) programs() []*program {
	var all []*program
	add := func(name, tool string, text *template.Template) *program {
		p := &program{tool: tool, config: filepath.Join(as.Dir, name+".toml"), text: text,
			Name: name, Dir: as.Dir, Core: as.Core, Issuer: as.number == 110, Echo: as.Host(echoHost)}
		all = append(all, p)
		return p
	}
	for _, r := range as.routers {
		add(r.name, "router", routerText).Metrics = as.metrics(r)
	}
	add(fmt.Sprintf("cs-%d", as.number), "control", controlText)
	add(fmt.Sprintf("echo-%d", as.number), "dispatcher", dispatcherText)
	return all
}

func (p *program) configure() error {
	var text strings.Builder
	if err := p.text.Execute(&text, p); err != nil {
		return err
	}
	return os.WriteFile(p.config, []byte(text.String()), 0o644)
}
