//go:build interop && linux

package pocketscion

import (
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A snap is a SNAP of ours with an API, alone in its AS.
type snap struct {
	*process
	dir string
	api string // its URL
}

// startSNAP starts a SNAP that takes tokens of its operator, and those of the
// peers if theirs is the key.
func startSNAP(t *testing.T, flags ...string) *snap {
	t.Helper()
	s := &snap{dir: t.TempDir()}
	file := func(name string) string { return filepath.Join(s.dir, name) }
	p := &pair{dir: s.dir}
	p.newKey(t, "snap")
	writeFile(t, file("token.pem"), output(t, "keygen", "--token", file("signing.pem")))
	s.process = start(t, append([]string{"snap", "--isd-as", west, "--listen", "127.0.0.1:0", "--key", file("snap.key"),
		"--api", "127.0.0.1:0", "--token-key", file("token.pem")}, flags...)...)
	s.api = flagOf(s.awaitLine(0), "--endhost-api")
	return s
}

// token is a new token of the SNAP's operator.
func (s *snap) token(flags ...string) string {
	s.t.Helper()
	return strings.TrimSpace(output(s.t, append([]string{"token", "--signing-key", filepath.Join(s.dir, "signing.pem"), "--subject", "somebody"}, flags...)...))
}

// stack is the flags by which a peer or a program of ours joins the SNAP.
func (s *snap) stack() []string { return []string{"--endhost-api", s.api, "--token", s.token()} }

// output runs snapproxy to its end and returns what it prints.
func output(t *testing.T, args ...string) string {
	t.Helper()
	p := launch(t, exec.Command(program(t), args...))
	if status := p.wait(patience); status != 0 {
		p.want = status
		t.Fatalf("snapproxy %s ends with status %d: %s", args[0], status, &p.stderr)
	}
	return p.stdout.String()
}

// TestPeersOnOurSNAP is the SDK's client and an echo server on it, both
// attached to our SNAP.
func TestPeersOnOurSNAP(t *testing.T) {
	t.Parallel()
	s := startSNAP(t)
	server := startPeer(t, append([]string{"echo"}, s.stack()...)...)
	echo(t, 10_000, 1200, server.awaitLine(0), s.stack()...)
	// As large as what the peers can take in: 9,216 bytes with all headers.
	echo(t, 500, 9216-32-44, server.awaitLine(0), append(s.stack(), "--window", "4")...)
}

// TestPeersOutliveKeysOnOurSNAP holds a conversation for longer than the keys of
// a session live. A datagram is lost after 10 s only: a busy machine stands still
// for seconds.
func TestPeersOutliveKeysOnOurSNAP(t *testing.T) {
	t.Parallel()
	const pace = 20 * time.Millisecond
	s := startSNAP(t)
	server := startPeer(t, append([]string{"echo"}, s.stack()...)...)
	count := strconv.Itoa(int(transferTime / pace))
	out := runPeer(t, transferTime+time.Minute, slices.Concat([]string{"client", "--to", server.awaitLine(0), "--count", count, "--pace-ms", "20", "--wait-ms", "10000"}, s.stack())...)
	var r echoReport
	parse(t, out, &r)
	t.Logf("%d of %d datagrams echoed in %d ms, the longest gap %d ms after %d ms", r.Echoed, r.Sent, r.TotalMS, r.LongestGapMS, r.LongestGapAtMS)
	if r.Corrupt+r.Unexpected+r.Strangers > 0 || r.Lost > 1+r.Sent/1000 {
		t.Errorf("%d lost, %d corrupt, %d unexpected, %d from strangers", r.Lost, r.Corrupt, r.Unexpected, r.Strangers)
	}
}

// TestTokensOfOthers: a SNAP takes tokens of the peers, which are of the old
// format, once their key is among its own.
func TestTokensOfOthers(t *testing.T) {
	t.Parallel()
	key := filepath.Join(t.TempDir(), "peers.pem")
	writeFile(t, key, startNetwork(t, "--topology", "minimal").TokenKey)
	s := startSNAP(t, "--token-key", key)
	server := startPeer(t, append([]string{"echo"}, s.stack()...)...)
	theirs := strings.TrimSpace(runPeer(t, patience, "token"))
	echo(t, 100, 1200, server.awaitLine(0), "--endhost-api", s.api, "--token", theirs)
	echo(t, 100, 1200, server.awaitLine(0), "--endhost-api", s.api, "--token", s.token("--v0"))
}

// TestBadTokens get 401 and the text that the peers' SNAP says, and no tunnel.
func TestBadTokens(t *testing.T) {
	t.Parallel()
	s := startSNAP(t)
	for _, tt := range []struct{ name, token string }{
		{"of another key", strings.TrimSpace(runPeer(t, patience, "token"))},
		{"cut", s.token()[:100]},
		{"none at all", "x"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := launchPeer(t, "rebind", "--times", "1", "--endhost-api", s.api, "--token", tt.token)
			if p.want = p.wait(patience); p.want == 0 {
				t.Errorf("bound: %s", &p.stdout)
			}
			if !strings.Contains(p.stderr.String(), "401") && !strings.Contains(p.stderr.String(), "SNAP Token validation failed") {
				t.Errorf("the peer says %q", &p.stderr)
			}
			for _, method := range []string{"/anapaya.snap.v1.SnapControl/GetSnapDataPlaneAddress", "/anapaya.snap.v1.SnapControl/RegisterSnapTunIdentity", "/scion.endhost.v1.UnderlayService/ListUnderlays"} {
				req, err := http.NewRequest(http.MethodPost, strings.TrimSuffix(s.api, "/")+method, nil)
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("Content-Type", "application/proto")
				req.Header.Set("Authorization", "Bearer "+tt.token)
				r, err := http.DefaultTransport.RoundTrip(req)
				if err != nil {
					t.Fatal(err)
				}
				text, _ := io.ReadAll(r.Body)
				r.Body.Close()
				if r.StatusCode != http.StatusUnauthorized || !strings.HasPrefix(string(text), "SNAP Token validation failed") {
					t.Errorf("%s answers %d %q", method, r.StatusCode, text)
				}
			}
		})
	}
}

// TestInnerTunnelOnOurSNAP is the inner tunnel with a peer at either end.
func TestInnerTunnelOnOurSNAP(t *testing.T) {
	t.Parallel()
	s := startSNAP(t)
	end := startPeer(t, append([]string{"far-end"}, s.stack()...)...).awaitLine(0)
	if a := askExit(t, end, append(s.stack(), "--ping-bytes", "9000")...); a.Ping.Error != "" {
		t.Errorf("ping of the far end: %s", a.Ping.Error)
	}
	p := &pair{dir: s.dir}
	p.newKey(t, "client")
	socks, _ := listeners(t, p.startClient(t, end, s.stack()))
	a := associate(t, socks)
	for i, size := range []int{1, 1200, 9000} {
		a.roundTrip(uint32(i), size)
	}
}
