package scion

import (
	"bytes"
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/scionproto/scion/pkg/addr"
	"github.com/scionproto/scion/pkg/slayers"
)

// TestHostAndPathsTogether lets a host talk to another over a network whose
// routers say that an interface is down, or, later, nothing at all.
func TestHostAndPathsTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := embark(t, PathsConfig{}, threeWays(t)...)
		n := &border{t: t, routes: threeWays(t), down: map[Interface]bool{}, in: make(chan [][]byte, 100)}
		h := NewHost(HostConfig{Underlay: n, Report: func(r Report) { j.Report(r) }})
		h.SetLocal(Addr{IA: ia110, Host: v4a, Port: 1000})
		n.host = h
		port, err := h.Listen(0)
		if err != nil {
			t.Fatal(err)
		}
		run(t, h.Run)
		var mu sync.Mutex
		var last time.Time
		longest := time.Duration(0)
		deliver := func(from []Addr, packets [][]byte) error {
			for i, b := range packets {
				if b == nil {
					t.Error("a nil packet")
					continue
				}
				mu.Lock()
				longest = max(longest, time.Since(last))
				last = time.Now()
				mu.Unlock()
				j.HeardOn(from[i].Path)
				j.Heard(uint32(b[0]))
			}
			return nil
		}
		run(t, func(ctx context.Context) error { return port.Run(ctx, deliver) })
		gap := func() time.Duration {
			mu.Lock()
			defer mu.Unlock()
			return longest
		}
		talk := func(d time.Duration) (at string) {
			mu.Lock()
			last, longest = time.Now(), 0
			mu.Unlock()
			for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
				r := j.Route(5)
				at = r.String()
				if _, err := port.WritePackets([]Addr{to211(r)}, [][]byte{{5}}); err != nil {
					t.Fatal(err)
				}
			}
			return at
		}
		j.wantAt([]string{talk(time.Second)}, direct1(t))
		n.down[Interface{ia211, 1}] = true
		j.wantAt([]string{talk(time.Second)}, via120(t))
		if longest := gap(); longest > 100*time.Millisecond {
			t.Errorf("a gap of %v although the router spoke", longest)
		}
		n.down[Interface{ia120, 2}], n.dumb = true, true
		j.wantAt([]string{talk(4 * time.Second)}, via130(t))
		if longest := gap(); longest > silence+3*tickInterval {
			t.Errorf("a gap of %v", longest)
		}
		n.down, n.dumb = map[Interface]bool{}, false
		talk(maxDetour)
		j.wantAt([]string{talk(maxDetour)}, direct1(t))
		if c := h.Counters(); c.Reports == 0 || c.SCMP != 0 || c.Malformed != 0 {
			t.Errorf("counters %+v", c)
		}
	})
}

// A border is the underlay of a host in 1-ff00:0:110 with the rest of the world
// behind it, where a host sends back what it gets.
type border struct {
	t      *testing.T
	host   *Host
	routes []*Route
	down   map[Interface]bool
	dumb   bool
	in     chan [][]byte
}

func (n *border) Run(ctx context.Context, deliver func([][]byte) error) error {
	return (&wire{in: n.in}).Run(ctx, deliver)
}

func (n *border) WritePackets(packets [][]byte) (int, error) {
	for _, b := range packets {
		p, err := ParsePacket(bytes.Clone(b))
		if err != nil {
			n.t.Error(err)
			continue
		}
		if answer := n.cross(p); answer != nil {
			time.AfterFunc(roundTrip, func() { n.in <- [][]byte{answer} })
		}
	}
	return len(packets), nil
}

// cross returns what comes back for a packet.
func (n *border) cross(p Packet) []byte {
	path := mustPath(p.RawPath())
	back := n.host.Local()
	back.Path = path.Reverse()
	for _, r := range n.routes {
		if !r.Path.SameHops(path) {
			continue
		}
		for _, i := range r.Interfaces {
			if n.down[i] && n.dumb {
				return nil
			}
			if n.down[i] {
				return theirSCMP(n.t, Addr{IA: i.IA, Host: v4b}, back, 5, 0,
					&slayers.SCMPExternalInterfaceDown{IA: addr.IA(i.IA), IfID: uint64(i.ID)}, gopacket.Payload(underWay(p.Bytes())))
			}
		}
		return theirUDP(n.t, Addr{IA: p.DstIA(), Host: p.DstHost(), Port: 77}, back, p.Payload()[udpLen:])
	}
	n.t.Errorf("a packet on no route: %x", p.RawPath())
	return nil
}
