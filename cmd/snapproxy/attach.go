package main

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"

	"github.com/spf13/pflag"

	"github.com/snapproxy/snapproxy"
	"github.com/snapproxy/snapproxy/scion"
	"github.com/snapproxy/snapproxy/scion/endhost"
	"github.com/snapproxy/snapproxy/tunnel/control"
	"github.com/snapproxy/snapproxy/tunnel/snaptun"
)

// attachOptions are the flags that say how to join SCION: the ready line of a
// SNAP, which names it or an endhost API, or the routers of an AS.
type attachOptions struct {
	snap    string
	snapKey snaptun.PublicKey
	ia      scion.IA

	apis         []string
	discovery    []string
	token        string
	tokenFile    string
	tokenCommand string
	snapHosts    []string
	apiProxy     *url.URL

	direct   bool
	topology string
	asHosts  []netip.Prefix

	policy *scion.Policy
	flags  *pflag.FlagSet
}

func (o *attachOptions) add(fs *pflag.FlagSet) {
	o.flags = fs
	addValue(fs, &o.snap, "snap", "HOST:PORT", "", "the SNAP to attach to", parseHostPort)
	addValue(fs, &o.snapKey, "snap-key", "KEY", "", "public key of the SNAP", parsePublicKey)
	addIA(fs, &o.ia)
	addList(fs, &o.apis, "endhost-api", "URL", "endhost API that names the SNAP and finds paths, instead of --snap (repeatable: tried in order)", parseAPI)
	addList(fs, &o.discovery, "discovery", "URL", "service that names endhost APIs (repeatable: tried in order)", parseAPI)
	addValue(fs, &o.token, "token", "TOKEN", "", "token for the endhost API and its SNAPs; others see it in the list of processes", parseText)
	addValue(fs, &o.tokenFile, "token-file", "FILE", "", "file of the token, read again when it changes", parseText)
	addValue(fs, &o.tokenCommand, "token-command", "CMD", "", "shell command that prints the token, run again before it expires", parseText)
	addList(fs, &o.snapHosts, "snap-host", "HOST", "host of a SNAP that may be sent the token, besides that of --endhost-api (repeatable)", parseText)
	addValue(fs, &o.apiProxy, "api-proxy", "URL", "", "proxy for requests to endhost API and SNAP; the environment's are ignored", parseProxyURL)
	addValue(fs, &o.direct, "underlay", "snap|udp", "snap", "attach to a SNAP, or by UDP to the routers of the AS", parseUnderlay)
	addValue(fs, &o.topology, "topology", "FILE", "", "topology.json of the AS: its routers and control service, for --underlay udp", parseText)
	addASHosts(fs, &o.asHosts)
	addValue(fs, &o.policy, "path-policy", "POLICY", "shortest", "shortest, latency, sequence=SEQ or acl=ENTRY,…; several joined by ;", scion.ParsePolicy)
}

func addASHosts(fs *pflag.FlagSet, to *[]netip.Prefix) {
	addList(fs, to, "as-hosts", "CIDR", "hosts of the AS that packets are exchanged with directly, by UDP (repeatable; default none)", parsePrefix)
}

// network is the configuration that the flags make. It refuses those that
// contradict each other or leave something out.
func (o *attachOptions) network() (snapproxy.NetworkConfig, error) {
	if err := o.check(); err != nil {
		return snapproxy.NetworkConfig{}, err
	}
	topology, err := readTopology(o.flags, o.topology)
	if err != nil {
		return snapproxy.NetworkConfig{}, err
	}
	if topology != nil && o.flags.Changed("isd-as") && o.ia != topology.IA {
		return snapproxy.NetworkConfig{}, otherTopology(o.flags, o.ia, topology.IA)
	}
	token, err := o.tokenSource()
	return snapproxy.NetworkConfig{
		SNAP: o.snap, SNAPKey: o.snapKey, IA: o.ia,
		EndhostAPIs: o.apis, Discovery: o.discovery, Token: token, SNAPHosts: o.snapHosts, APIProxy: o.apiProxy,
		Direct: o.direct, Topology: topology, ASHosts: o.asHosts, PathPolicy: o.policy,
	}, err
}

func (o *attachOptions) check() error {
	fs := o.flags
	named, offered, mapped := fs.Changed("snap"), len(o.apis)+len(o.discovery) > 0, o.topology != ""
	switch {
	case o.direct && named:
		return contradiction(fs, "snap", "underlay")
	case o.direct && offered && mapped:
		return contradiction(fs, "topology", "endhost-api")
	case o.direct && !offered && !mapped:
		return missing(fs.Lookup("topology"))
	case !o.direct && mapped:
		return &usageError{&settingError{given(fs.Lookup("topology")), errors.New("only for --underlay udp: a SNAP knows its routers itself")}}
	case !o.direct && len(o.asHosts) > 0:
		return &usageError{&settingError{given(fs.Lookup("as-hosts")), errors.New("only for --underlay udp")}}
	case named && offered:
		return contradiction(fs, "snap", "endhost-api")
	case !o.direct && !offered:
		if !named {
			err := errors.New("missing (want --snap HOST:PORT with --snap-key and --isd-as, --endhost-api URL, or --underlay udp with --topology FILE)")
			return &usageError{&settingError{"--snap", err}}
		}
		if err := require(fs, "snap-key", "isd-as"); err != nil {
			return err
		}
	}
	if !offered {
		for _, name := range []string{"token", "token-file", "token-command", "snap-host", "api-proxy"} {
			if fs.Changed(name) {
				return &usageError{&settingError{given(fs.Lookup(name)), errors.New("only with --endhost-api")}}
			}
		}
	}
	return nil
}

// contradiction is what two flags are that exclude each other.
func contradiction(fs *pflag.FlagSet, a, b string) error {
	return &usageError{&settingError{given(fs.Lookup(a)), fmt.Errorf("not together with %s", given(fs.Lookup(b)))}}
}

// tokenSource is the one that the flags name, nil if none does.
func (o *attachOptions) tokenSource() (*control.TokenSource, error) {
	var source *control.TokenSource
	from := ""
	for _, s := range []struct {
		name string
		make func() *control.TokenSource
	}{
		{"token", func() *control.TokenSource { return control.StaticToken("--token", o.token) }},
		{"token-file", func() *control.TokenSource { return control.FileToken(o.tokenFile) }},
		{"token-command", func() *control.TokenSource { return control.CommandToken("--token-command", shell(o.tokenCommand)) }},
	} {
		if !o.flags.Changed(s.name) {
			continue
		}
		if source != nil {
			return nil, contradiction(o.flags, from, s.name)
		}
		source, from = s.make(), s.name
	}
	return source, nil
}

func parseAPI(s string) (string, error) {
	_, err := endhost.ParseURL(s)
	return s, err
}

func parseProxyURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "socks5" && u.Scheme != "socks5h" {
		return nil, errors.New("no URL of a proxy (want http://HOST:PORT or socks5://HOST:PORT)")
	}
	return u, nil
}

func parseUnderlay(s string) (direct bool, err error) {
	switch s {
	case "snap":
		return false, nil
	case "udp":
		return true, nil
	}
	return false, fmt.Errorf("unknown underlay %q (want snap or udp)", s)
}

// readTopology reads the file of --topology; nil: there is none.
func readTopology(fs *pflag.FlagSet, name string) (*scion.Topology, error) {
	if name == "" {
		return nil, nil
	}
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, &settingError{given(fs.Lookup("topology")), err}
	}
	t, err := scion.ParseTopology(b)
	if err != nil {
		return nil, &settingError{given(fs.Lookup("topology")), fmt.Errorf("%s: %w", name, err)}
	}
	return t, nil
}

func otherTopology(fs *pflag.FlagSet, ia, of scion.IA) error {
	return &settingError{given(fs.Lookup("isd-as")), fmt.Errorf("%s is not the AS of the topology, %s", ia, of)}
}
