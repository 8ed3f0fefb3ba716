//go:build interop && linux

package pocketscion

import (
	"testing"
	"time"
)

// The tests of this file hold what the specification of the SNAP only inferred
// from the peers' code (spec/snap.md, marked [inferred]) against the peers.

// TestSNAPTruncatesBursts: with UDP_GRO and buffers of 9,216 bytes the peers'
// SNAP loses what a burst has beyond them (§5.4). So ours stay below.
func TestSNAPTruncatesBursts(t *testing.T) {
	t.Parallel()
	n := startNetwork(t, "--topology", "minimal")
	to := echoServer(t, startPeer(t, append([]string{"echo"}, n.stack(west)...)...))
	p := newProbe(t, n.api(west), n.token(), west)
	const message = 1200 // sealed; 16 bytes of header and 16 of tag
	for _, tt := range []struct{ count, most int }{{1, 1}, {7, 7}, {8, 7}, {30, 7}} {
		var burst [][]byte
		for i := range tt.count {
			burst = append(burst, p.packet(to, uint32(i), message-32))
		}
		p.send(burst...)
		echoed := len(p.receive(500 * time.Millisecond))
		t.Logf("%d messages of %d bytes in one burst: %d echoed", tt.count, message, echoed)
		if echoed != tt.most {
			t.Errorf("%d of a burst of %d echoed, want %d", echoed, tt.count, tt.most)
		}
	}
}
