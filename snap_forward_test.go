package snapproxy

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/snapproxy/snapproxy/scion"
)

// newStill returns a SNAP with a topology that does not run, and what forwards
// for it, turned to a tunnel with a port of its own.
func newStill(t testing.TB) (*SNAP, *forwarder, *snapPort) {
	t.Helper()
	routers := &scion.Topology{IA: leftIA, Routers: []scion.Router{{
		Name: "br", Internal: netip.MustParseAddrPort("10.0.0.1:30001"),
		Interfaces: []scion.RouterInterface{{ID: leftInterface, Neighbor: rightIA, LinkTo: "peer"}},
	}}}
	s, err := NewSNAP(SNAPConfig{
		Listen: netip.MustParseAddrPort("127.0.31.1:0"), PrivateKey: newKey(t), Authorize: everybody,
		Topology: routers, ASHosts: prefixes("10.0.7.0/24"),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.udp.Close(); s.network.close() })
	p := &snapPort{origin: origin(1), addr: netip.AddrPortFrom(s.network.ports.host, 4000)}
	s.network.ports.byOrigin[p.origin], s.network.ports.byNumber[4000] = p, p
	p.confirmed.Store(true)
	f := &forwarder{snap: s}
	f.enter(p.origin)
	return s, f, p
}

// reset is what forward does between batches.
func (f *forwarder) reset() {
	f.to, f.packets, f.errs = f.to[:0], f.packets[:0], f.errs[:0]
	f.runs, f.outTo, f.outPackets = f.runs[:0], f.outTo[:0], f.outPackets[:0]
}

func (p *snapPort) scionAddr() scion.Addr {
	return scion.Addr{IA: leftIA, Host: p.addr.Addr(), Port: p.addr.Port()}
}

// Whatever comes out of a tunnel goes to a router, an open host, the tunnel
// itself, or nowhere, and says of itself that it is from the tunnel.
func FuzzSNAPForward(f *testing.F) {
	s, forward, port := newStill(f)
	far := scion.Addr{IA: rightIA, Host: netip.MustParseAddr("10.0.0.1"), Port: 80}
	for _, to := range []scion.Addr{
		to(far, testPath(f, leftInterface, 1, true)), to(far, testPath(f, 9, 1, false)), far, port.scionAddr(),
		{IA: leftIA, Host: netip.MustParseAddr("127.0.0.1"), Port: 53}, {IA: leftIA, Host: netip.MustParseAddr("10.0.7.1"), Port: 53},
	} {
		f.Add(udpPacket(f, port.scionAddr(), to))
	}
	f.Add([]byte("garbage"))
	f.Fuzz(func(t *testing.T, b []byte) {
		b = slices.Clone(b)
		forward.reset()
		forward.route(b)
		if len(forward.outTo) != len(forward.outPackets) || len(forward.to) != len(forward.packets) || len(forward.to)+len(forward.outTo) > 1 {
			t.Fatalf("%d and %d packets of one", len(forward.to), len(forward.outTo))
		}
		for i, to := range forward.outTo {
			p, err := scion.ParsePacket(forward.outPackets[i])
			if err != nil || p.SrcIA() != leftIA || p.SrcHost() != port.addr.Addr() {
				t.Errorf("sent %x, %v", forward.outPackets[i], err)
			}
			if to != s.network.routers.Addrs()[0] && !scion.OpenHost(s.cfg.ASHosts, to.Addr()) {
				t.Errorf("sent to %s", to)
			}
		}
		for i, to := range forward.to {
			if p, err := scion.ParsePacket(forward.packets[i]); err != nil || p.DstIA() != leftIA || p.DstHost() != port.addr.Addr() || to != port.origin {
				t.Errorf("put %x into the tunnel at %s, %v", forward.packets[i], to, err)
			}
		}
	})
}

// Nothing but a packet for the port enters, whatever a router brings.
func FuzzSNAPAccept(f *testing.F) {
	s, _, port := newStill(f)
	far := scion.Addr{IA: rightIA, Host: netip.MustParseAddr("10.0.0.1"), Port: 80}
	f.Add(udpPacket(f, far, to(port.scionAddr(), testPath(f, 1, leftInterface, true))), false)
	f.Add(udpPacket(f, scion.Addr{IA: leftIA, Host: netip.MustParseAddr("10.0.7.1"), Port: 53}, port.scionAddr()), true)
	f.Add([]byte("garbage"), false)
	f.Fuzz(func(t *testing.T, b []byte, open bool) {
		from := s.network.routers.Addrs()[0]
		if open {
			from = netip.MustParseAddrPort("10.0.7.1:53")
		}
		b, ok := s.network.accept(port, from, b)
		if !ok {
			return
		}
		p, err := scion.ParsePacket(b)
		if err != nil || p.DstIA() != leftIA || p.DstHost() != port.addr.Addr() {
			t.Fatalf("%x entered", b)
		}
		if number, err := p.DeliveryPort(); err != nil || number != port.addr.Port() {
			t.Errorf("a packet for port %d entered", number)
		}
		if (p.PathType() == scion.PathEmpty) != open || open && p.SrcHost() != from.Addr() {
			t.Errorf("a packet of %s on a path of type %d entered from %s", p.SrcHost(), p.PathType(), from)
		}
	})
}

// snapBurst is a batch of 45 packets from a tunnel to a router, to itself, and
// from a router.
func snapBurst(t testing.TB) map[string]func() {
	s, f, port := newStill(t)
	far := scion.Addr{IA: rightIA, Host: netip.MustParseAddr("10.0.0.1"), Port: 80}
	leaving := udpPacket(t, port.scionAddr(), to(far, testPath(t, leftInterface, 1, true)))
	within := udpPacket(t, port.scionAddr(), port.scionAddr())
	entering := udpPacket(t, far, to(port.scionAddr(), testPath(t, 1, leftInterface, true)))
	router := s.network.routers.Addrs()[0]
	route := func(b []byte) func() {
		return func() {
			f.reset()
			f.enter(port.origin)
			for range 45 {
				f.route(b)
			}
		}
	}
	return map[string]func(){
		"leaving": route(leaving), "within": route(within),
		"entering": func() {
			for range 45 {
				s.network.accept(port, router, entering)
			}
		},
	}
}

func TestSNAPAllocatesNothing(t *testing.T) {
	for name, f := range snapBurst(t) {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("a batch %s allocates %v times", name, n)
		}
	}
}

func BenchmarkSNAP(b *testing.B) {
	for name, f := range snapBurst(b) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				f()
			}
		})
	}
}
