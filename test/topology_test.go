//go:build unix

package test

import (
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/snapproxy/snapproxy/tunnel/snaptun"
)

const isdAS = "1-ff00:0:110"

// A layout says how a topology differs from the usual one: SNAP, exit and
// client on 127.0.0.1, and an exit that may reach all of loopback.
type layout struct {
	host               string              // of the underlay and the listeners
	snap, exit, client []string            // further flags of the roles
	via                func(string) string // what the client takes for the SNAP's address; nil: that address
	noClient           bool
}

// A topology is a SNAP, an exit and a client as three processes.
type topology struct {
	scope      scope
	layout     layout
	dir        string
	authorized string // the file of authorized keys that SNAP and exit share
	snapKey    snaptun.PublicKey
	exitKey    snaptun.PublicKey
	clientKey  snaptun.PublicKey

	snap, exit, client *process
	via                string // what layout.via has made
	listener                  // of the client
}

// A listener is where a client serves.
type listener struct {
	socks, http string   // HOST:PORT
	forwards    []string // HOST:PORT each
}

func build(s scope, l layout) *topology {
	s.Helper()
	if l.host == "" {
		l.host = "127.0.0.1"
	}
	tp := &topology{scope: s, layout: l, dir: tempDir(s)}
	tp.authorized = filepath.Join(tp.dir, "authorized_keys")
	tp.snapKey, tp.exitKey, tp.clientKey = tp.newKey("snap"), tp.newKey("exit"), tp.newKey("client")
	tp.authorize(tp.exitKey, tp.clientKey)
	tp.startSNAP("0")
	tp.startExit("0")
	if !l.noClient {
		tp.client = tp.startClient()
		tp.listener = listenerOf(tp.client)
	}
	return tp
}

// file is the path of a file of the topology.
func (tp *topology) file(name string) string { return filepath.Join(tp.dir, name) }

// newKey makes a key file NAME.key.
func (tp *topology) newKey(name string) snaptun.PublicKey {
	tp.scope.Helper()
	k, err := snaptun.NewPrivateKey()
	if err != nil {
		tp.scope.Fatalf("%v", err)
	}
	writeFile(tp.scope, tp.file(name+".key"), k.Base64()+"\n")
	return k.PublicKey()
}

// authorize replaces the authorized keys.
func (tp *topology) authorize(keys ...snaptun.PublicKey) {
	tp.scope.Helper()
	var b strings.Builder
	for _, k := range keys {
		b.WriteString(k.String() + " somebody\n")
	}
	next := tp.authorized + ".next"
	writeFile(tp.scope, next, b.String())
	if err := os.Rename(next, tp.authorized); err != nil {
		tp.scope.Fatalf("%v", err)
	}
}

// reload makes SNAP and exit read the authorized keys now, and waits until they
// have.
func (tp *topology) reload() {
	tp.scope.Helper()
	for _, p := range []*process{tp.snap, tp.exit} {
		taken := func(s string) int { return strings.Count(s, "authorized keys taken") }
		before := taken(p.stderr.String())
		p.signal(syscall.SIGHUP)
		if !p.stderr.await(patience, p.ended, func(s string) bool { return taken(s) > before }) {
			tp.scope.Fatalf("authorized keys are not taken; standard error:\n%s", &p.stderr)
		}
	}
}

// startSNAP starts the SNAP on a port.
func (tp *topology) startSNAP(port string) {
	tp.scope.Helper()
	tp.snap = start(tp.scope, slices.Concat([]string{"snap", "--isd-as", isdAS, "--listen", hostPort(tp.layout.host, port),
		"--key", tp.file("snap.key"), "--authorized-keys", tp.authorized}, tp.layout.snap)...)
}

func (tp *topology) startExit(port string) {
	tp.scope.Helper()
	tp.exit = start(tp.scope, slices.Concat([]string{"exit"}, strings.Fields(tp.snap.line()), []string{"--key", tp.file("exit.key"),
		"--authorized-keys", tp.authorized, "--bind", hostPort(tp.layout.host, port), "--allow", "127.0.0.0/8", "--allow", "::1/128"}, tp.layout.exit)...)
}

// startClient starts a client, with the topology's flags and then more.
func (tp *topology) startClient(more ...string) *process {
	tp.scope.Helper()
	return start(tp.scope, append([]string{"client"}, tp.clientFlags(more...)...)...)
}

// launchClient is startClient without waiting until the client is ready.
func (tp *topology) launchClient(more ...string) *process {
	tp.scope.Helper()
	return launch(tp.scope, exec.Command(program(tp.scope), append([]string{"client"}, tp.clientFlags(more...)...)...))
}

func (tp *topology) clientFlags(more ...string) []string {
	return slices.Concat(tp.attachFlags(), []string{"--key", tp.file("client.key"),
		"--socks", hostPort(tp.layout.host, "0"), "--http", hostPort(tp.layout.host, "0")}, tp.layout.client, more)
}

// attachFlags are the flags by which a client finds SNAP and exit.
func (tp *topology) attachFlags() []string {
	flags := strings.Fields(tp.snap.line() + " " + tp.exit.line())
	if tp.layout.via != nil {
		if tp.via == "" {
			tp.via = tp.layout.via(tp.snapAddr())
		}
		flags = append(flags, "--snap", tp.via)
	}
	return flags
}

// snapAddr is the SNAP's HOST:PORT.
func (tp *topology) snapAddr() string { return flagOf(tp.snap.line(), "--snap") }

// restartSNAP starts the SNAP again, where it was.
func (tp *topology) restartSNAP() { tp.scope.Helper(); tp.startSNAP(portOf(tp.snapAddr())) }

// restartExit starts the exit again, where it was.
func (tp *topology) restartExit() {
	tp.scope.Helper()
	before := tp.exit.line()
	tp.startExit(portOf(flagOf(before, "--exit")))
	if now := tp.exit.line(); now != before {
		tp.scope.Errorf("ready line of a restarted exit %q, want %q", now, before)
	}
}

// listenerOf reads the ready line of a client.
func listenerOf(p *process) (l listener) {
	p.scope.Helper()
	for _, text := range strings.Fields(p.line()) {
		u, err := url.Parse(text)
		if err != nil {
			p.scope.Fatalf("ready line %q: %v", p.line(), err)
		}
		switch u.Scheme {
		case "socks5h":
			l.socks = u.Host
		case "http":
			l.http = u.Host
		case "tcp":
			l.forwards = append(l.forwards, u.Host)
		}
	}
	return l
}

// flagOf is the value of a flag in a ready line.
func flagOf(line, flag string) string {
	words := strings.Fields(line)
	if i := slices.Index(words, flag); i >= 0 && i+1 < len(words) {
		return words[i+1]
	}
	return ""
}

// portOf is what follows the last colon.
func portOf(addr string) string { return addr[strings.LastIndexByte(addr, ':')+1:] }

func hostPort(host, port string) string { return net.JoinHostPort(host, port) }

// tempDir is a directory that everybody may look into.
func tempDir(s scope) string {
	s.Helper()
	dir, err := os.MkdirTemp(workDir, "")
	if err != nil {
		s.Fatalf("%v", err)
	}
	os.Chmod(dir, 0o755)
	return dir
}

func writeFile(s scope, name, content string) {
	s.Helper()
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		s.Fatalf("%v", err)
	}
}
