//go:build linux

package scionlab

import (
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// An attachment is how clients and exits of an AS reach SCION.
type attachment struct {
	name  string
	as    *AS
	flags func(t *testing.T) []string
}

// attachSNAP starts a SNAP of ours in an AS. Each role that attaches to it gets
// a token of its own.
func attachSNAP(t *testing.T, as *AS) attachment {
	t.Helper()
	return attachment{"SNAP", as, startSNAP(t, as).flags}
}

// attachDirectly lets roles send to the border routers of an AS themselves.
func attachDirectly(as *AS) attachment {
	return attachment{"direct", as, func(*testing.T) []string {
		return []string{"--underlay", "udp", "--topology", as.Topology()}
	}}
}

// A snap is a SNAP of ours with an endhost API.
type snap struct {
	*role
	dir, signingKey string
	mu              sync.Mutex // guards what follows
	tokens          int
}

func startSNAP(t *testing.T, as *AS) *snap {
	t.Helper()
	s := &snap{dir: t.TempDir()}
	s.signingKey = filepath.Join(s.dir, "signing.pem")
	verifying := filepath.Join(s.dir, "verifying.pem")
	writeFile(t, verifying, mustRun(t, "keygen", "--token", s.signingKey))
	mustRun(t, "keygen", "-o", filepath.Join(s.dir, "snap.key"))
	host := as.Host(nextHost(as)).String()
	s.role = startRole(t, "snap", "--topology", as.Topology(), "--listen", host+":0", "--api", host+":0",
		"--token-key", verifying, "--key", filepath.Join(s.dir, "snap.key"))
	return s
}

// api is the URL of the SNAP's endhost API.
func (s *snap) api() string { return flagOf(s.line(), "--endhost-api") }

// flags attach one role more.
func (s *snap) flags(t *testing.T) []string {
	t.Helper()
	return []string{"--endhost-api", s.api(), "--token-file", s.token(t)}
}

// token makes a token and returns the file that holds it.
func (s *snap) token(t *testing.T) string {
	t.Helper()
	s.mu.Lock()
	s.tokens++
	subject := fmt.Sprintf("role-%d", s.tokens)
	s.mu.Unlock()
	file := filepath.Join(s.dir, subject)
	writeFile(t, file, mustRun(t, "token", "--signing-key", s.signingKey, "--subject", subject, "--expires", "1h"))
	return file
}

// A pair is an exit in one AS and a client of it in another.
type pair struct {
	exit, client *role
	exitFlags    []string // by which further clients find the exit
	clientKey    string   // file
	proxy        string   // HOST:PORT of the client's SOCKS and HTTP listener
	from         attachment
}

// connect starts an exit and a client, the latter with further flags.
func connect(t *testing.T, from, to attachment, more ...string) *pair {
	t.Helper()
	dir := t.TempDir()
	p := &pair{clientKey: filepath.Join(dir, "client.key"), from: from}
	authorized := filepath.Join(dir, "authorized_keys")
	writeFile(t, authorized, mustRun(t, "keygen", "-o", p.clientKey))
	mustRun(t, "keygen", "-o", filepath.Join(dir, "exit.key"))
	p.exit = startRole(t, slices.Concat([]string{"exit"}, to.flags(t), []string{"--key", filepath.Join(dir, "exit.key"),
		"--authorized-keys", authorized, "--bind", to.bind(), "--allow", "127.0.0.0/8"})...)
	p.exitFlags = strings.Fields(p.exit.line())
	exit, err := netip.ParseAddrPort(strings.TrimPrefix(flagOf(p.exit.line(), "--exit"), to.as.IA+","))
	if err != nil || !to.as.Prefix().Contains(exit.Addr()) {
		t.Fatalf("the exit in %s is at %q, want an address in %v", to.as.IA, p.exit.line(), to.as.Prefix())
	}
	p.client = p.startClient(t, more...)
	p.proxy = listener(t, p.client)
	return p
}

func (p *pair) startClient(t *testing.T, more ...string) *role {
	t.Helper()
	return startRole(t, slices.Concat([]string{"client"}, p.from.flags(t), p.exitFlags,
		[]string{"--key", p.clientKey, "--socks", "127.0.0.1:0", "--http", "off"}, more)...)
}

// bind is the underlay address of a role: all programs of the network share
// loopback, so the kernel would choose the same address in every AS.
func (a attachment) bind() string {
	return netip.AddrPortFrom(a.as.Host(nextHost(a.as)), 0).String()
}

// listener is the HOST:PORT of a client's SOCKS listener.
func listener(t *testing.T, client *role) string {
	t.Helper()
	u, err := url.Parse(strings.Fields(client.line())[0])
	if err != nil {
		t.Fatalf("ready line %q: %v", client.line(), err)
	}
	return u.Host
}

var hosts struct {
	mu   sync.Mutex // guards what follows
	last map[string]byte
}

// nextHost is a host of the AS that no role has had. After the last it begins
// anew.
func nextHost(as *AS) byte {
	hosts.mu.Lock()
	defer hosts.mu.Unlock()
	if hosts.last == nil {
		hosts.last = map[string]byte{}
	}
	n := hosts.last[as.IA] + 1
	if n <= FirstHost || n > 250 {
		n = FirstHost + 1
	}
	hosts.last[as.IA] = n
	return n
}

func writeFile(t *testing.T, name, content string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}
