package snapproxy

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/snapproxy/snapproxy/scion"
	"github.com/snapproxy/snapproxy/tunnel/snaptun"
)

// A lodger is a resident without a SCION host behind it.
type lodger struct {
	*resident
	addr scion.Addr
	got  chan []byte
	stop func()
}

// lodge makes a lodger of a SNAP, which does each with the packets it gets, in
// the call; nil: nothing.
func lodge(t *testing.T, s *SNAP, each func(l *lodger, b []byte)) *lodger {
	t.Helper()
	l := &lodger{got: make(chan []byte, 64)}
	begun := make(chan struct{})
	var err error
	l.resident, err = s.house(netip.AddrPort{}, func(packets [][]byte) error {
		<-begun
		for _, b := range packets {
			l.got <- bytes.Clone(b)
			if each != nil {
				each(l, b)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	l.addr = scion.Addr{IA: s.IA(), Host: l.port.addr.Addr(), Port: l.port.addr.Port()}
	close(begun)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := l.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	}()
	l.stop = func() { cancel(); <-done }
	t.Cleanup(l.stop)
	return l
}

func (l *lodger) next(t *testing.T) scion.Packet {
	t.Helper()
	return (&rawTunnel{got: l.got}).next(t)
}

// startLone starts a SNAP that stands alone.
func startLone(t *testing.T) *testNet {
	t.Helper()
	s, err := NewSNAP(SNAPConfig{
		IA: testIA, Listen: netip.MustParseAddrPort("127.0.0.1:0"), PrivateKey: newKey(t), Authorize: everybody,
	})
	if err != nil {
		t.Fatal(err)
	}
	run(t, s.Run)
	return &testNet{snap: s}
}

// What the resident writes in the very call in which it gets a packet arrives,
// and what it causes itself comes later.
func TestResidentAnswersInTheCall(t *testing.T) {
	n := startLone(t)
	tunnel := n.attach(t)
	nobody := scion.Addr{IA: testIA, Host: netip.MustParseAddr("127.0.0.1"), Port: 1}
	l := lodge(t, n.snap, func(l *lodger, b []byte) {
		p, _ := scion.ParsePacket(b)
		if port, _ := p.SourcePort(); p.NextHeader() != scion.ProtocolUDP || port != tunnel.addr.Port {
			return
		}
		if k, err := l.WritePackets([][]byte{
			udpPacket(t, l.addr, tunnel.addr), udpPacket(t, l.addr, l.addr), udpPacket(t, l.addr, nobody),
		}); k != 1 || err != nil {
			t.Errorf("%d packets written, %v", k, err)
		}
	})
	sent := udpPacket(t, tunnel.addr, l.addr)
	tunnel.WritePackets([][]byte{sent})
	if got := l.next(t); !bytes.Equal(got.Bytes(), sent) {
		t.Errorf("the resident gets %x, want %x", got.Bytes(), sent)
	}
	if got := tunnel.next(t); !bytes.Equal(got.Bytes(), udpPacket(t, l.addr, tunnel.addr)) {
		t.Errorf("the tunnel gets %x", got.Bytes())
	}
	if got := l.next(t); !bytes.Equal(got.Bytes(), udpPacket(t, l.addr, l.addr)) {
		t.Errorf("the resident gets %x of itself", got.Bytes())
	}
	if typ, code, ok := l.next(t).SCMP(); !ok || typ != scmpUnreachable || code != codeAddressUnreachable {
		t.Errorf("SCMP %d.%d, %v for nobody", typ, code, ok)
	}
}

func TestResidentIsNobodyElse(t *testing.T) {
	n := startLone(t)
	tunnel := n.attach(t)
	l := lodge(t, n.snap, nil)
	other := l.addr
	other.Port++
	for _, from := range []scion.Addr{other, tunnel.addr, {IA: testIA + 1, Host: l.addr.Host, Port: l.addr.Port}} {
		if k, err := l.WritePackets([][]byte{udpPacket(t, from, to(tunnel.addr, testPath(t, 1, 1, true)))}); k != 0 || err != nil {
			t.Errorf("%d packets from %s written, %v", k, from, err)
		}
		if typ, code, ok := l.next(t).SCMP(); !ok || typ != scmpParameterProblem || code != codeSource {
			t.Errorf("SCMP %d.%d, %v for source %s", typ, code, ok, from)
		}
	}
	if got := n.snap.Counters()["snap_spoofed"]; got != 3 {
		t.Errorf("%d packets with a wrong source counted", got)
	}
}

// The address of a resident is its own: on the machine, in the SNAP, and for as
// long as it stays.
func TestResidentsAddressIsTaken(t *testing.T) {
	n := startLone(t)
	l := lodge(t, n.snap, nil)
	if c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(l.port.addr)); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("bind %s again: %v", l.port.addr, err)
		c.Close()
	}
	if _, err := n.snap.house(netip.AddrPort{}, nil); !errors.Is(err, errHoused) {
		t.Errorf("another resident: %v", err)
	}
	if _, err := n.snap.house(l.port.addr, nil); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("another resident at the same address: %v", err)
	}
	// Whoever comes from there nevertheless has no address.
	f := &forwarder{snap: n.snap}
	f.begin()
	if f.enter(l.port.addr); f.self.IsValid() {
		t.Errorf("a tunnel is at %s", f.self)
	}

	tunnel := n.attach(t)
	l.stop()
	tunnel.WritePackets([][]byte{udpPacket(t, tunnel.addr, l.addr)})
	if typ, code, ok := tunnel.next(t).SCMP(); !ok || typ != scmpUnreachable || code != codeAddressUnreachable {
		t.Errorf("SCMP %d.%d, %v once it is gone", typ, code, ok)
	}
	l.take([][]byte{{0}})
	if got := l.counters()["packets_dropped"]; got != 1 {
		t.Errorf("%d packets dropped once it is gone", got)
	}
	lodge(t, n.snap, nil)
}

// What waits for a resident is bounded.
func TestResidentThatDoesNotListen(t *testing.T) {
	n := startLone(t)
	l, err := n.snap.house(netip.AddrPort{}, func([][]byte) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	addr := scion.Addr{IA: testIA, Host: l.port.addr.Addr(), Port: l.port.addr.Port()}
	l.WritePackets(slices.Repeat([][]byte{udpPacket(t, addr, addr)}, 2*maxLate))
	if got := l.counters()["packets_dropped"]; got != maxLate {
		t.Errorf("%d packets dropped, want %d", got, maxLate)
	}
	run(t, l.Run)
}

// An error of deliver, and the end of the SNAP, end the resident.
func TestResidentEnds(t *testing.T) {
	n := startLone(t)
	broken := errors.New("broken")
	l, err := n.snap.house(netip.AddrPort{}, func([][]byte) error { return broken })
	if err != nil {
		t.Fatal(err)
	}
	l.take([][]byte{{0}})
	if err := l.Run(t.Context()); err != broken {
		t.Errorf("Run: %v", err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	s, err := NewSNAP(SNAPConfig{IA: testIA, Listen: netip.MustParseAddrPort("127.0.0.1:0"), PrivateKey: newKey(t), Authorize: everybody})
	if err != nil {
		t.Fatal(err)
	}
	if l, err = s.house(netip.AddrPort{}, nil); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := s.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if err := l.Run(t.Context()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Run after the end of the SNAP: %v", err)
	}
}

// Behind routers a resident is reached like a tunnel, from other ASes and from
// its own.
func TestResidentBehindRouters(t *testing.T) {
	n := newTwoAS(t, nil)
	l, far, near := lodge(t, n.left.snap, nil), n.right.attach(t, "127.0.0.1:0"), n.left.attach(t, "127.0.0.1:0")
	if l.addr.Host != near.addr.Host || l.addr.IA != leftIA {
		t.Errorf("the resident is at %s, tunnels at %s", l.addr, near.addr)
	}
	for _, tt := range []struct {
		other       *rawTunnel
		there, back *scion.Path
	}{{far, n.back, n.there}, {near, nil, nil}} {
		sent := udpPacket(t, tt.other.addr, to(l.addr, tt.there))
		tt.other.WritePackets([][]byte{sent})
		if tt.there != nil {
			advance(sent)
		}
		if got := l.next(t); !bytes.Equal(got.Bytes(), sent) {
			t.Errorf("the resident gets %x, want %x", got.Bytes(), sent)
		}
		sent = udpPacket(t, l.addr, to(tt.other.addr, tt.back))
		if k, err := l.WritePackets([][]byte{sent}); k != 1 || err != nil {
			t.Errorf("%d packets written, %v", k, err)
		}
		if tt.back != nil {
			advance(sent)
		}
		if got := tt.other.next(t); !bytes.Equal(got.Bytes(), sent) {
			t.Errorf("got %x, want %x", got.Bytes(), sent)
		}
	}
	n.left.blameless(t)
	n.right.blameless(t)
	s := n.right.snap
	if _, err := s.house(netip.MustParseAddrPort("127.0.0.9:0"), nil); err == nil {
		t.Error("a resident elsewhere than the tunnels")
	}
	if _, err := s.house(netip.AddrPortFrom(netip.IPv4Unspecified(), far.addr.Port), nil); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("a resident on the port of a tunnel: %v", err)
	}
	s.network.ports.min, s.network.ports.max = 1, 2
	if _, err := s.house(netip.AddrPortFrom(s.network.ports.host, 3), nil); err == nil {
		t.Error("a resident on a port to which routers do not deliver")
	}
}

func TestResidentsAddress(t *testing.T) {
	for _, tt := range []struct{ listen, bind, want string }{
		{"127.0.0.1:0", "", "127.0.0.1"},
		{"127.0.0.1:0", "0.0.0.0:0", "127.0.0.1"},
		{"127.0.0.1:0", "127.0.0.7:0", "127.0.0.7"},
		{"0.0.0.0:0", "", "127.0.0.1"},
		{"0.0.0.0:0", "127.0.0.7:0", "127.0.0.7"},
		{"[::]:0", "", "::1"},
		{"[::]:0", "[::]:0", "::1"},
	} {
		s, err := NewSNAP(SNAPConfig{IA: testIA, Listen: netip.MustParseAddrPort(tt.listen), PrivateKey: newKey(t), Authorize: everybody})
		if err != nil {
			t.Skipf("SNAP on %s: %v", tt.listen, err)
		}
		var bind netip.AddrPort
		if tt.bind != "" {
			bind = netip.MustParseAddrPort(tt.bind)
		}
		l, err := s.house(bind, nil)
		if err != nil {
			t.Errorf("SNAP on %s, resident on %s: %v", tt.listen, tt.bind, err)
		} else if got := l.port.addr; got.Addr().String() != tt.want || got.Port() == 0 {
			t.Errorf("SNAP on %s, resident on %s: %s, want %s", tt.listen, tt.bind, got, tt.want)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if l != nil {
			l.Run(ctx)
		}
		s.Run(ctx)
	}
}

// An exit within the SNAP is ready at once, carries what one with a tunnel does,
// and says goodbye to its clients while the SNAP goes on.
func TestExitWithinTheSNAP(t *testing.T) {
	n := startLone(t)
	var err error
	n.exit, err = NewExit(ExitConfig{
		NetworkConfig: NetworkConfig{Within: n.snap}, PrivateKey: newKey(t), Authorize: everybody, Allow: prefixes("127.0.0.0/8"),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- n.exit.Run(ctx) }()
	await(t, n.exit.Ready(), "exit")
	c := n.startClient(t, newKey(t), snaptun.Timers{})
	target := echoServer(t, "127.0.0.1:0")
	conn, err := c.DialContext(t.Context(), "tcp", target)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	echo(t, conn, 8<<20)
	if peers := n.snap.listener.Peers(); len(peers) != 1 {
		t.Errorf("%d tunnels, want that of the client", len(peers))
	}
	if m := n.exit.Counters(); m["outer_packets_in"] == 0 || m["outer_packets_out"] == 0 || m["outer_packets_dropped"] != 0 {
		t.Errorf("counters %v", m)
	}

	up := c.tunnelUp()
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Run: %v", err)
	}
	select {
	case <-up.Done():
	case <-time.After(10 * time.Second):
		t.Error("the client has not heard the exit's goodbye")
	}
	if c.Silent() == "" || !c.att.up(t) {
		t.Errorf("the client says %q", c.Silent())
	}
}

// up reports whether the tunnel to the SNAP stands.
func (a *attachment) up(t *testing.T) bool {
	t.Helper()
	_, err := a.WritePackets([][]byte{{0}})
	return err == nil
}

// residentBurst is a batch of 45 packets from a tunnel to the resident, and from
// the resident to the network.
func residentBurst(t testing.TB) map[string]func() {
	s, f, port := newStill(t)
	got := 0
	r, err := s.house(netip.AddrPort{}, func(packets [][]byte) error { got += len(packets); return nil })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.port.udp.Close() })
	addr := scion.Addr{IA: leftIA, Host: r.port.addr.Addr(), Port: r.port.addr.Port()}
	in := slices.Repeat([][]byte{udpPacket(t, port.scionAddr(), addr)}, 45)
	far := scion.Addr{IA: rightIA, Host: netip.MustParseAddr("10.0.0.1"), Port: 80}
	g := r.forwarders.New().(*forwarder)
	out := slices.Repeat([][]byte{udpPacket(t, addr, to(far, testPath(t, leftInterface, 1, true)))}, 45)
	return map[string]func(){
		"in": func() {
			f.begin()
			f.enter(port.origin)
			for _, b := range in {
				f.route(b)
			}
			if got = 0; len(f.home) == 45 {
				f.flush()
			}
			if got != 45 {
				t.Fatalf("%d packets", got)
			}
		},
		"out": func() { // but for sending
			g.begin()
			g.self, g.port = r.port.addr, r.port
			for _, b := range out {
				g.route(b)
			}
		},
	}
}

func TestResidentAllocatesNothing(t *testing.T) {
	for name, f := range residentBurst(t) {
		f()
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("a batch %s allocates %v times", name, n)
		}
	}
}

func BenchmarkResident(b *testing.B) {
	for name, f := range residentBurst(b) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				f()
			}
		})
	}
}
