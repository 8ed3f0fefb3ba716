//go:build e2e && linux

package test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

const (
	webName = "web.test"
	webText = "only the exit may see this\n"
)

// A village is the three roles, each in a network namespace of its own as
// nobody, and a web server that has a link to the exit's namespace only:
//
//	client ─ snap ─ exit ─ web
type village struct {
	snapNS, exitNS, clientNS, webNS *netns
	snap, exit, client              *process
	topology                        *topology // keys and files
	listener
	traces map[*process]string
}

func newVillage(t *testing.T) *village {
	t.Helper()
	needRoot(t, "strace", "curl", "mount")
	v := &village{
		snapNS: newNetns(t, "snap"), exitNS: newNetns(t, "exit"), clientNS: newNetns(t, "client"), webNS: newNetns(t, "web"),
		traces: map[*process]string{},
	}
	v.clientNS.link("10.77.1.2/24", v.snapNS, "10.77.1.1/24")
	v.exitNS.link("10.77.2.2/24", v.snapNS, "10.77.2.1/24")
	v.exitNS.link("10.77.3.2/24", v.webNS, "10.77.3.1/24")

	tp := &topology{scope: t, dir: tempDir(t)}
	v.topology = tp
	tp.authorized = tp.file("authorized_keys")
	tp.newKey("snap")
	tp.authorize(tp.newKey("exit"), tp.newKey("client"))
	writeFile(t, tp.file("hosts"), "127.0.0.1 localhost\n10.77.3.1 "+webName+"\n")
	entries, err := os.ReadDir(tp.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		os.Chown(tp.file(e.Name()), 65534, 65534)
	}
	v.startSNAP(t, "0.0.0.0:0")
	port := portOf(flagOf(v.snap.line(), "--snap"))
	v.exit = v.start(t, v.exitNS, "exit", strings.Fields(v.snap.line()), "--snap", "10.77.2.1:"+port, "--bind", "10.77.2.2:0",
		"--key", tp.file("exit.key"), "--authorized-keys", tp.authorized, "--allow", "10.77.3.0/24", "--allow", "198.51.100.0/24")
	v.client = v.start(t, v.clientNS, "client", strings.Fields(v.snap.line()+" "+v.exit.line()), "--snap", "10.77.1.1:"+port,
		"--key", tp.file("client.key"), "--socks", "1080", "--http", "3128")
	v.listener = listenerOf(v.client)
	return v
}

func (v *village) startSNAP(t *testing.T, listen string) {
	t.Helper()
	v.snap = v.start(t, v.snapNS, "snap", nil, "--isd-as", isdAS, "--listen", listen, "--key", v.topology.file("snap.key"),
		"--authorized-keys", v.topology.authorized)
}

func (v *village) start(t *testing.T, n *netns, role string, flags []string, more ...string) *process {
	t.Helper()
	hosts := ""
	if role == "exit" {
		hosts = v.topology.file("hosts")
	}
	trace := v.topology.file(role + ".trace")
	p := launch(t, n.traced(trace, hosts, append(append([]string{program(t), role}, flags...), more...)...))
	v.traces[p] = trace
	p.awaitReady()
	return p
}

// TestThreeUnprivilegedProcesses is the purpose of the whole.
func TestThreeUnprivilegedProcesses(t *testing.T) {
	v := newVillage(t)
	ca := v.serveWeb(t)
	for _, p := range []*process{v.snap, v.exit, v.client} {
		for _, field := range []string{"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"} {
			if got := procStatus(p, field); strings.Trim(got, "0") != "" {
				t.Errorf("%s of %v: %s", field, p.cmd.Args, got)
			}
		}
		if got := procStatus(p, "Uid"); got != "65534\t65534\t65534\t65534" {
			t.Errorf("Uid: %s", got)
		}
	}
	curl := func(env string, args ...string) (string, error) {
		cmd := v.clientNS.command(append([]string{"curl", "-sS", "--max-time", "60", "--cacert", ca}, args...)...)
		cmd.Env = environ(env)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := curl("", "--connect-timeout", "3", "http://10.77.3.1/"); err == nil {
		t.Fatalf("the client's network reaches the web server by itself: %q", out)
	}
	urls := []string{"http://" + webName + "/", "https://" + webName + "/", "http://10.77.3.1/"}
	for _, env := range []string{
		"ALL_PROXY=socks5h://" + v.socks, "ALL_PROXY=http://" + v.http,
		"HTTPS_PROXY=http://" + v.http, "http_proxy=http://" + v.http,
	} {
		for _, url := range urls {
			if strings.HasPrefix(env, "HTTPS") != strings.HasPrefix(url, "https") && !strings.HasPrefix(env, "ALL") {
				continue
			}
			if out, err := curl(env, url); err != nil || out != webText {
				t.Errorf("%s curl %s: %q, %v", env, url, out, err)
			}
		}
	}
	v.refusals(t)

	listen := "0.0.0.0:" + portOf(flagOf(v.snap.line(), "--snap"))
	v.snap.kill()
	head := "CONNECT " + webName + ":80 HTTP/1.1\r\nHost: x\r\n\r\n"
	if !eventually(patience, func() bool {
		w := v.clientNS.wire(v.http)
		w.write(head)
		res, _ := w.response(http.MethodConnect)
		return res.StatusCode == http.StatusServiceUnavailable
	}) {
		t.Error("the client does not notice that the SNAP is gone")
	}
	if out, err := curl("ALL_PROXY=socks5h://"+v.socks, urls[0]); err == nil {
		t.Errorf("curl without a SNAP: %q", out)
	}
	old := v.snap
	v.startSNAP(t, listen)
	if !eventually(patience, func() bool { _, err := curl("ALL_PROXY=socks5h://"+v.socks, urls[0]); return err == nil }) {
		t.Error("the client does not recover")
	}
	for _, p := range []*process{v.client, v.exit, v.snap} {
		p.end()
	}
	delete(v.traces, old) // its file is the new one's
	v.judgeTraces(t)
}

// refusals holds that what the exit's network says comes through.
func (v *village) refusals(t *testing.T) {
	t.Helper()
	for i, kind := range []string{"unreachable", "prohibit"} {
		v.exitNS.ip("route", "add", kind, []string{"198.51.100.1", "198.51.100.2"}[i])
	}
	for _, tt := range []struct {
		target string
		rep    byte
		status int
	}{
		{"198.51.100.1:80", repHost, 502},    // no such host
		{"198.51.100.2:80", repPolicy, 403},  // prohibited
		{"198.51.100.3:80", repNetwork, 502}, // no route
		{"10.77.3.99:80", repHost, 502},      // nobody answers for the address
		{"10.77.3.1:1", repRefused, 502},
		{"10.77.2.1:80", repPolicy, 403}, // the SNAP is none of the client's business
		{"10.77.3.2:80", repRefused, 502},
	} {
		w := v.clientNS.wire(v.socks)
		w.write(noAuthGreeting, request(cmdConnect, tt.target))
		w.wants(noAuthSelected)
		if rep, _ := w.reply(); rep != tt.rep {
			t.Errorf("%s: REP %d, want %d", tt.target, rep, tt.rep)
		}
		w = v.clientNS.wire(v.http)
		w.write("CONNECT " + tt.target + " HTTP/1.1\r\nHost: x\r\n\r\n")
		if res, body := w.response(http.MethodConnect); res.StatusCode != tt.status {
			t.Errorf("%s: %s %q, want %d", tt.target, res.Status, body, tt.status)
		}
	}
}

// judgeTraces holds that no role did what needs privileges, and that the client
// told nobody where it goes.
func (v *village) judgeTraces(t *testing.T) {
	t.Helper()
	for p, name := range v.traces {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		trace := string(b)
		if !strings.Contains(trace, "socket(AF_INET") {
			t.Errorf("%s: no trace", name)
		}
		for _, never := range []string{"/dev/net/tun", "AF_PACKET", "SOCK_RAW", "AF_NETLINK"} {
			if strings.Contains(trace, never) {
				t.Errorf("%s: %s", name, lineWith(trace, never))
			}
		}
		if p == v.exit {
			// So much for the trace being one.
			for _, must := range []string{"/etc/hosts", `connect(`, "10.77.3.1"} {
				if !strings.Contains(trace, must) {
					t.Errorf("%s: nothing of %s", name, must)
				}
			}
			continue
		}
		for _, never := range []string{webName, "htons(53)", "10.77.3.", "resolv.conf", "/etc/hosts"} {
			if strings.Contains(trace, never) {
				t.Errorf("%s: %s", name, lineWith(trace, never))
			}
		}
	}
}

func lineWith(text, part string) string {
	for line := range strings.Lines(text) {
		if strings.Contains(line, part) {
			return line
		}
	}
	return ""
}

// serveWeb serves HTTP and HTTPS in the web server's namespace, and returns the
// file with the certificate to trust.
func (v *village) serveWeb(t *testing.T) (ca string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "throw-away"}, DNSNames: []string{webName},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	ca = v.topology.file("ca.pem")
	writeFile(t, ca, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	os.Chmod(ca, 0o644)
	config := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	for addr, wrap := range map[string]func(net.Listener) net.Listener{
		"10.77.3.1:80":  func(ln net.Listener) net.Listener { return ln },
		"10.77.3.1:443": func(ln net.Listener) net.Listener { return tls.NewListener(ln, config) },
	} {
		ln := v.webNS.listen(addr)
		srv := &http.Server{Handler: textHandler(webText)}
		t.Cleanup(func() { srv.Close() })
		go srv.Serve(wrap(ln))
	}
	return ca
}
