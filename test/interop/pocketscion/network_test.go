//go:build interop && linux

package pocketscion

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/snapproxy/snapproxy/tunnel/snaptun"
)

// The two ASes of PocketSCION's networks that have hosts. Interface 1 of west
// leads to interface 3 of east. In the two-path network there is a detour:
// interface 2 of west, 2-ff00:0:222, interface 4 of east.
const (
	west = "1-ff00:0:132"
	east = "2-ff00:0:212"
)

// A network is PocketSCION, running.
type network struct {
	*process
	lines int // of its output that were read
	ASes  map[string]struct {
		EndhostAPI string `json:"endhost_api"`
	} `json:"ases"`
	TokenKey string `json:"token_key"` // PEM
}

func startNetwork(t *testing.T, flags ...string) *network {
	t.Helper()
	n := &network{process: startPeer(t, append([]string{"network"}, flags...)...)}
	n.read(n)
	return n
}

// read takes the next line of output apart.
func (n *network) read(to any) {
	n.t.Helper()
	line := n.awaitLine(n.lines)
	n.lines++
	parse(n.t, line, to)
}

// parse takes a line of a peer's output apart.
func parse(t *testing.T, line string, to any) {
	t.Helper()
	if err := json.Unmarshal([]byte(line), to); err != nil {
		t.Fatalf("line of a peer %q: %v", line, err)
	}
}

// ask sends a wish and reads the answer.
func (n *network) ask(to any, format string, args ...any) {
	n.t.Helper()
	fmt.Fprintf(n.stdin, format+"\n", args...)
	n.read(to)
}

// token is a new token, valid for a day.
func (n *network) token() string {
	n.t.Helper()
	var answer struct{ Token string }
	n.ask(&answer, "token")
	return answer.Token
}

// link takes the link at an interface of an AS up or down.
func (n *network) link(ia string, iface int, up bool) {
	n.t.Helper()
	var answer struct {
		Was   *bool
		Error string
	}
	n.ask(&answer, "link %s %d %s", ia, iface, map[bool]string{true: "up", false: "down"}[up])
	if answer.Was == nil {
		n.t.Fatalf("link %s#%d: %s", ia, iface, answer.Error)
	}
}

// api is the URL of an AS's endhost API.
func (n *network) api(ia string) string { return n.ASes[ia].EndhostAPI }

// stack is the flags by which a peer joins an AS, with a token of its own.
func (n *network) stack(ia string) []string {
	n.t.Helper()
	return []string{"--endhost-api", n.api(ia), "--token", n.token()}
}

// attach is the flags by which snapproxy joins an AS, with a token of its own.
func (n *network) attach(ia string) []string { n.t.Helper(); return n.stack(ia) }

// A tokens is a command that prints a new token each time, and how often it did.
type tokens struct{ command, count string }

// newTokens makes a command of tokens that are valid for some time.
func newTokens(t *testing.T, name string, valid time.Duration) tokens {
	t.Helper()
	count := filepath.Join(t.TempDir(), name)
	return tokens{fmt.Sprintf("echo >>%s; exec %s token --seconds %d", count, peers(t), int(valid.Seconds())), count}
}

// drawn is how many tokens the command has printed.
func (c tokens) drawn() int {
	b, _ := os.ReadFile(c.count)
	return len(b)
}

// A pair is an exit in east and a client in west.
type pair struct {
	exit, client *process
	socks, http  string // HOST:PORT where the client serves
	clientKey    snaptun.PublicKey
	dir          string
}

// startPair starts an exit that may reach loopback, and a client of it, each
// with flags of its own.
func startPair(t *testing.T, exit, client []string) *pair {
	t.Helper()
	p := &pair{dir: t.TempDir()}
	p.clientKey = p.newKey(t, "client")
	p.newKey(t, "exit")
	authorized := p.file("authorized_keys")
	writeFile(t, authorized, p.clientKey.String()+"\n")
	p.exit = start(t, slices.Concat([]string{"exit", "--key", p.file("exit.key"), "--authorized-keys", authorized, "--allow", "127.0.0.0/8"}, exit)...)
	p.client = p.startClient(t, p.exit.awaitLine(0), client)
	p.socks, p.http = listeners(t, p.client)
	return p
}

func (p *pair) file(name string) string { return filepath.Join(p.dir, name) }

// newKey makes a key file NAME.key.
func (p *pair) newKey(t *testing.T, name string) snaptun.PublicKey {
	t.Helper()
	k, err := snaptun.NewPrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, p.file(name+".key"), k.Base64()+"\n")
	return k.PublicKey()
}

// startClient starts a client of an exit that has said ready.
func (p *pair) startClient(t *testing.T, ready string, flags []string) *process {
	t.Helper()
	return start(t, slices.Concat([]string{"client", "--key", p.file("client.key"), "--socks", "127.0.0.1:0", "--http", "127.0.0.1:0"}, strings.Fields(ready), flags)...)
}

// listeners reads the ready line of a client.
func listeners(t *testing.T, client *process) (socks, http string) {
	t.Helper()
	for _, u := range strings.Fields(client.awaitLine(0)) {
		if host, ok := strings.CutPrefix(u, "socks5h://"); ok {
			socks = host
		} else if host, ok := strings.CutPrefix(u, "http://"); ok {
			http = host
		}
	}
	if socks == "" || http == "" {
		t.Fatalf("ready line of the client %q", client.awaitLine(0))
	}
	return socks, http
}

func writeFile(t *testing.T, name, content string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// An echoReport is what the peers' client prints.
type echoReport struct {
	Local          string
	Sent           int
	SentBytes      int `json:"sent_bytes"`
	Echoed         int
	Lost           int
	Corrupt        int
	Unexpected     int
	Strangers      int
	BindMS         int `json:"bind_ms"`
	TotalMS        int `json:"total_ms"`
	LongestMS      int `json:"longest_ms"`
	LongestGapMS   int `json:"longest_gap_ms"`
	LongestGapAtMS int `json:"longest_gap_at_ms"`
}

// echo sends datagrams of 1 to most bytes to an echo server and checks what comes
// back. A few may be lost: this is UDP, and every queue on the way has an end.
func echo(t *testing.T, count, most int, to string, flags ...string) {
	t.Helper()
	out := runPeer(t, 2*time.Minute, slices.Concat([]string{"client", "--to", to, "--count", strconv.Itoa(count), "--max", strconv.Itoa(most)}, flags)...)
	var r echoReport
	parse(t, out, &r)
	t.Logf("%d of %d datagrams of 1 to %d bytes echoed, %d lost, in %d ms; bound in %d ms, slowest echo %d ms",
		r.Echoed, r.Sent, most, r.Lost, r.TotalMS, r.BindMS, r.LongestMS)
	if r.Corrupt+r.Unexpected+r.Strangers > 0 || r.Lost > count/1000 {
		t.Errorf("%d of %d echoed, %d lost, %d corrupt, %d unexpected, %d from strangers", r.Echoed, r.Sent, r.Lost, r.Corrupt, r.Unexpected, r.Strangers)
	}
}
