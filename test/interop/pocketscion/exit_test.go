//go:build interop && linux

package pocketscion

import (
	"slices"
	"strings"
	"syscall"
	"testing"
)

// TestEdgeClientReachesExit is the inner tunnel with the SDK's client and our
// exit.
func TestEdgeClientReachesExit(t *testing.T) {
	t.Parallel()
	n := startNetwork(t)
	p := startPair(t, n.attach(east), n.attach(west))
	private, public := newPeerKey(t)
	writeFile(t, p.file("authorized_keys"), p.clientKey.String()+"\n"+public+"\n")
	p.exit.reload()

	for _, tt := range []struct{ bytes, fragment string }{{"56", "1000"}, {"1000", "600"}, {"9000", "1000"}, {"40000", "1200"}} {
		flags := []string{"--key", private, "--ping-bytes", tt.bytes, "--fragment", tt.fragment, "--name", "localhost", "--type", "1"}
		a := askExit(t, p.exit.awaitLine(0), slices.Concat(n.stack(west), flags)...)
		if a.Ping.Error != "" {
			t.Errorf("ping of %s bytes in fragments of %s: %s", tt.bytes, tt.fragment, a.Ping.Error)
		} else {
			t.Logf("ping of %s bytes in fragments of %s: %d ms", tt.bytes, tt.fragment, a.Ping.MS)
		}
		if a.DNS.Error != "" || a.DNS.Rcode != 0 || a.DNS.Answers != 1 {
			t.Errorf("A of localhost: %+v", a.DNS)
		}
	}
}

// TestEdgeClientUnauthorized gets silence.
func TestEdgeClientUnauthorized(t *testing.T) {
	t.Parallel()
	n := startNetwork(t, "--topology", "minimal")
	p := startPair(t, n.attach(east), n.attach(west))
	if a := askExit(t, p.exit.awaitLine(0), n.stack(west)...); a.Ping.Error == "" {
		t.Errorf("an unknown key gets an answer: %+v", a.Ping)
	}
}

// newPeerKey makes a key in the peers' hands.
func newPeerKey(t *testing.T) (private, public string) {
	t.Helper()
	private, public, _ = strings.Cut(strings.TrimSpace(runPeer(t, patience, "key")), " ")
	return private, public
}

// reload makes an exit read its authorized keys, and waits until it has.
func (p *process) reload() {
	p.t.Helper()
	p.signal(syscall.SIGHUP)
	p.says("authorized keys taken")
}
