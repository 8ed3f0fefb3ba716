//go:build e2e && linux

package test

import (
	"context"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/snapproxy/snapproxy"
	"github.com/snapproxy/snapproxy/scion"
	"github.com/snapproxy/snapproxy/tunnel/snaptun"
)

// Whatever is sent to a SNAP faster than it can take it is found again in its
// counters: taken, or dropped for a reason, be it for want of room.
func TestWhatAFloodLosesIsCounted(t *testing.T) {
	snap, addr := runSNAP(t)
	key := func() snaptun.PrivateKey {
		k, err := snaptun.NewPrivateKey()
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	one, other := attachTo(t, addr, snap.PublicKey(), key()), attachTo(t, addr, snap.PublicKey(), key())
	r := rand.New(rand.NewPCG(3, 4))
	var noise [][]byte
	for i := range 500 {
		b := make([]byte, 4+r.IntN(1400))
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		b[0], b[1], b[2], b[3] = byte(i%6), 0, 0, 0
		noise = append(noise, b)
	}
	for _, flood := range []struct {
		name   string
		from   *flooder
		next   func() [][]byte
		burst  uint64 // what the system may count as one where it had no room
		passes bool   // into the other tunnel
	}{
		{"noise", newFlooder(t, addr), func() [][]byte { return noise }, 1, false},
		{"packets", one, one.packetsTo(other), burstLength, true},
	} {
		before := snap.Counters()
		stop := flood.from.pour(0, flood.next)
		<-time.After(2 * time.Second)
		sent := uint64(stop())
		var grew map[string]uint64
		quiet := func() bool {
			grew = growth(before, snap.Counters())
			return grew["udp_received"]+flood.burst*grew["udp_receive_overflow"] >= sent
		}
		if !eventually(patience, quiet) {
			t.Errorf("%s: of %d sent, %d were received and %d found no room", flood.name, sent, grew["udp_received"], grew["udp_receive_overflow"])
		}
		t.Logf("%s: %d sent: %v", flood.name, sent, grew)
		// Of those that came out of the socket, each is dropped, or is a packet.
		dropped := uint64(0)
		for name, n := range grew {
			if strings.HasPrefix(name, "tunnel_dropped_") {
				dropped += n
			}
		}
		others := grew["tunnel_handshakes_in"] + grew["tunnel_keepalives_in"]
		if in := grew["tunnel_datagrams_in"]; dropped+grew["tunnel_packets_in"]+others < in {
			t.Errorf("%s: of %d datagrams %d are packets and %d are dropped", flood.name, in, grew["tunnel_packets_in"], dropped)
		}
		if flood.passes && grew["tunnel_packets_out"] == 0 {
			t.Errorf("%s: nothing passes", flood.name)
		}
	}
}

// growth is by how much counters have grown, without those that have not.
func growth(before, after map[string]uint64) map[string]uint64 {
	grew := map[string]uint64{}
	for _, name := range slices.Sorted(maps.Keys(after)) {
		if after[name] > before[name] {
			grew[name] = after[name] - before[name]
		}
	}
	return grew
}

// runSNAP runs a SNAP for everybody in this process.
func runSNAP(t *testing.T) (snap *snapproxy.SNAP, addr string) {
	t.Helper()
	ia, err := scion.ParseIA(isdAS)
	if err != nil {
		t.Fatal(err)
	}
	private, err := snaptun.NewPrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	snap, err = snapproxy.NewSNAP(snapproxy.SNAPConfig{IA: ia, Listen: netip.MustParseAddrPort("127.0.0.1:0"), PrivateKey: private,
		Authorize: func(snaptun.PublicKey, time.Time) bool { return true }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- snap.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return snap, snap.Addr().String()
}
