package snapproxy

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/snapproxy/snapproxy/scion"
	"github.com/snapproxy/snapproxy/tunnel"
)

const (
	leftIA  scion.IA = 0x1_ff00_0000_0111
	rightIA scion.IA = 0x1_ff00_0000_0112
	// The link between them.
	leftInterface, rightInterface = 41, 7
)

// A twoAS is a link between two ASes with a router at each end, a SNAP in each,
// and a tunnel to each SNAP. The routers are one: it takes packets of tunnels
// only from where they say they are, and delivers them to the host and port
// that they are for.
type twoAS struct {
	left, right *side
	there, back *scion.Path // from left to right, and back
}

// A side is one of the ASes.
type side struct {
	ia     scion.IA
	egress uint16
	router *tunnel.UDP
	snap   *SNAP
	other  *side
	faults chan string // what the router found wrong
}

func newTwoAS(t *testing.T, alter func(*SNAPConfig)) *twoAS {
	t.Helper()
	return newTwoASOn(t, [2]string{"127.0.10.1:0", "127.0.11.1:0"}, [2]string{"127.0.10.2:0", "127.0.11.2:0"}, alter)
}

// newTwoASOn makes routers and SNAPs at addresses.
func newTwoASOn(t *testing.T, routers, snaps [2]string, alter func(*SNAPConfig)) *twoAS {
	t.Helper()
	n := &twoAS{
		left:  &side{ia: leftIA, egress: leftInterface, faults: make(chan string, 64)},
		right: &side{ia: rightIA, egress: rightInterface, faults: make(chan string, 64)},
		there: testPath(t, leftInterface, rightInterface, false),
	}
	n.back = reverse(t, n.there)
	n.left.other, n.right.other = n.right, n.left
	for i, s := range []*side{n.left, n.right} {
		s.router = listenTest(t, routers[i])
	}
	for i, s := range []*side{n.left, n.right} {
		run(t, func(ctx context.Context) error { return s.router.Run(ctx, s.forward) })
		cfg := SNAPConfig{
			Listen:     netip.MustParseAddrPort(snaps[i]),
			PrivateKey: newKey(t), Authorize: everybody, Topology: s.topology(t),
		}
		if alter != nil {
			alter(&cfg)
		}
		var err error
		if s.snap, err = NewSNAP(cfg); err != nil {
			t.Fatal(err)
		}
		run(t, s.snap.Run)
	}
	return n
}

func listenTest(t *testing.T, addr string) *tunnel.UDP {
	t.Helper()
	udp, err := tunnel.ListenUDP(netip.MustParseAddrPort(addr), tunnel.UDPConfig{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { udp.Close() })
	return udp
}

func (s *side) topology(t *testing.T) *scion.Topology {
	t.Helper()
	topology, err := scion.ParseTopology(fmt.Appendf(nil, `{"isd_as": %q, "mtu": 1472, "border_routers": {"br": {
		"internal_addr": %q, "interfaces": {"%d": {"isd_as": %q, "link_to": "peer", "mtu": 1472}}}}}`,
		s.ia, s.router.LocalAddr(), s.egress, s.other.ia))
	if err != nil {
		t.Fatal(err)
	}
	return topology
}

// forward is what both routers do with a packet that leaves the AS of s.
func (s *side) forward(from []netip.AddrPort, packets [][]byte) error {
	for i, b := range packets {
		p, err := scion.ParsePacket(b)
		if err != nil {
			continue // a hint, or what a test sends
		}
		id, ok := p.Egress()
		port, err := p.SourcePort()
		if typ, _, ok := p.SCMP(); ok && typ == 129 { // an echo reply is from no port
			port = from[i].Port()
		}
		if source := netip.AddrPortFrom(p.SrcHost(), port); !ok || id != s.egress || err != nil || source != from[i] || p.SrcIA() != s.ia {
			s.faults <- fmt.Sprintf("router of %s: packet of %s,%s to interface %d came from %s", s.ia, p.SrcIA(), source, id, from[i])
			continue
		}
		advance(b)
		to, err := p.HostPort()
		if err != nil || p.DstIA() != s.other.ia {
			s.faults <- fmt.Sprintf("router of %s: packet to %s, port: %v", s.ia, p.DstIA(), err)
			continue
		}
		s.other.router.WritePackets([]netip.AddrPort{netip.AddrPortFrom(p.DstHost(), to)}, [][]byte{b})
	}
	return nil
}

// testPath is a path of two hop fields over one link.
func testPath(t testing.TB, egress, ingress uint16, consDir bool) *scion.Path {
	t.Helper()
	raw := make([]byte, 4+8+2*12)
	binary.BigEndian.PutUint32(raw, 2<<12)
	binary.BigEndian.PutUint32(raw[8:], 1_700_000_000)
	first, last := raw[12:], raw[24:]
	first[1], last[1] = 63, 63
	if consDir {
		raw[4] = 1
		binary.BigEndian.PutUint16(first[4:], egress)
		binary.BigEndian.PutUint16(last[2:], ingress)
	} else {
		binary.BigEndian.PutUint16(first[2:], egress)
		binary.BigEndian.PutUint16(last[4:], ingress)
	}
	p, err := scion.NewPath(raw)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// advance moves a packet on the path of two hops to the second.
func advance(b []byte) {
	p, _ := scion.ParsePacket(b)
	p.RawPath()[0] |= 1
}

// reverse returns the path back from the end of p.
func reverse(t *testing.T, p *scion.Path) *scion.Path {
	t.Helper()
	raw := p.Append(nil)
	raw[0] |= 1
	end, err := scion.NewPath(raw)
	if err != nil {
		t.Fatal(err)
	}
	return end.Reverse()
}

// attach makes a tunnel to the SNAP of s from a local address.
func (s *side) attach(t *testing.T, bind string) *rawTunnel {
	t.Helper()
	r := (&testNet{snap: s.snap}).attachFrom(t, bind)
	r.WritePackets([][]byte{udpPacket(t, r.addr, r.addr)})
	r.next(t) // its first data makes the tunnel its own
	return r
}

func (s *side) blameless(t *testing.T) {
	t.Helper()
	select {
	case fault := <-s.faults:
		t.Error(fault)
	default:
	}
}

func to(a scion.Addr, path *scion.Path) scion.Addr {
	a.Path = path
	return a
}

// Tunnels of two ASes reach each other through routers, which know them by the
// ports that their SNAPs assigned, and which keep the number of the tunnel's own
// port if they can.
func TestSNAPBehindRouters(t *testing.T) {
	t.Run("IPv4", func(t *testing.T) {
		n := newTwoAS(t, nil)
		a, b := n.left.attach(t, "127.0.0.1:0"), n.right.attach(t, "127.0.0.1:0")
		for _, r := range []*rawTunnel{a, b} {
			if r.addr.Port != r.bound.Port() || r.addr.Host == r.bound.Addr() {
				t.Errorf("a tunnel from %s is assigned %s", r.bound, r.addr)
			}
		}
		n.exchange(t, a, b)
	})
	t.Run("IPv6, all on one host", func(t *testing.T) {
		if udp, err := tunnel.ListenUDP(netip.MustParseAddrPort("[::1]:0"), tunnel.UDPConfig{}); err != nil {
			t.Skip(err)
		} else {
			udp.Close()
		}
		same := [2]string{"[::1]:0", "[::1]:0"}
		n := newTwoASOn(t, same, same, nil)
		n.exchange(t, n.left.attach(t, "[::1]:0"), n.right.attach(t, "[::1]:0"))
	})
}

// exchange sends a packet each way and looks what came of it.
func (n *twoAS) exchange(t *testing.T, a, b *rawTunnel) {
	t.Helper()
	sent := udpPacket(t, a.addr, to(b.addr, n.there))
	a.WritePackets([][]byte{sent})
	got := b.next(t)
	advance(sent)
	if !bytes.Equal(got.Bytes(), sent) {
		t.Errorf("got %x, want %x", got.Bytes(), sent)
	}
	sent = udpPacket(t, b.addr, to(a.addr, n.back))
	b.WritePackets([][]byte{sent})
	got = a.next(t)
	advance(sent)
	if !bytes.Equal(got.Bytes(), sent) {
		t.Errorf("got %x, want %x", got.Bytes(), sent)
	}
	n.left.blameless(t)
	n.right.blameless(t)
	// What has arrived is counted a moment later by who sent it.
	eventually(t, "the counters", func() bool {
		c := n.left.snap.Counters()
		return c["snap_network_in"] == 1 && c["snap_network_out"] == 1 && c["snap_ports"] == 1
	})
}

// Tunnels from the same port number, and at the address of the SNAP itself, get
// ports that differ.
func TestSNAPAssignsEachTunnelAPortOfItsOwn(t *testing.T) {
	n := newTwoAS(t, nil)
	a := n.left.attach(t, "127.0.0.1:0")
	b := n.left.attach(t, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.3"), a.bound.Port()).String())
	c := n.left.attach(t, n.left.snap.Addr().Addr().String()+":0") // whose own port is taken there: by itself
	ports := []uint16{a.addr.Port, b.addr.Port, c.addr.Port}
	slices.Sort(ports)
	if len(slices.Compact(ports)) != 3 {
		t.Errorf("assigned %s, %s and %s", a.addr, b.addr, c.addr)
	}
	for _, r := range []*rawTunnel{b, c} {
		sent := udpPacket(t, r.addr, a.addr)
		r.WritePackets([][]byte{sent})
		if got := a.next(t); !bytes.Equal(got.Bytes(), sent) {
			t.Errorf("got %x, want %x", got.Bytes(), sent)
		}
	}
}

// What a tunnel may not send is refused, with a reason that the client can act
// on.
func TestSNAPRefusesWithATopology(t *testing.T) {
	n := newTwoAS(t, nil)
	a, b := n.left.attach(t, "127.0.0.1:0"), n.right.attach(t, "127.0.0.1:0")
	observed := a.addr
	observed.Host = a.bound.Addr()
	own := a.addr
	own.Port++
	host := func(s string) scion.Addr {
		ap := netip.MustParseAddrPort(s)
		return scion.Addr{IA: leftIA, Host: ap.Addr(), Port: ap.Port()}
	}
	local := listenTest(t, "127.0.0.1:0")
	heard := make(chan []byte, 1)
	run(t, func(ctx context.Context) error {
		return local.Run(ctx, func(_ []netip.AddrPort, packets [][]byte) error {
			heard <- slices.Clone(packets[0])
			return nil
		})
	})
	ends := testPath(t, leftInterface, rightInterface, false).Append(nil)
	ends[0] |= 1
	endPath, err := scion.NewPath(ends)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name      string
		packet    []byte
		counter   string
		typ, code uint8
	}{
		{"the address that the SNAP sees", udpPacket(t, observed, b.addr), "snap_spoofed", scmpParameterProblem, codeSource},
		{"port of another", udpPacket(t, own, b.addr), "snap_spoofed", scmpParameterProblem, codeSource},
		{"no path", udpPacket(t, a.addr, b.addr), "snap_no_route", scmpUnreachable, codeNoRoute},
		{"a path that ends here", udpPacket(t, a.addr, to(b.addr, endPath)), "snap_no_route", scmpUnreachable, codeNoRoute},
		{"own AS on a path", udpPacket(t, a.addr, to(a.addr, n.there)), "snap_no_route", scmpParameterProblem, codeDestination},
		{"no router", udpPacket(t, a.addr, to(b.addr, testPath(t, 99, 1, true))), "snap_no_router", scmpParameterProblem, 50},
		{"no router, against construction", udpPacket(t, a.addr, to(b.addr, testPath(t, 99, 1, false))), "snap_no_router", scmpParameterProblem, 49},
		{"name server of the machine", udpPacket(t, a.addr, host("127.0.0.1:53")), "snap_undeliverable", scmpUnreachable, codeAddressUnreachable},
		{"somebody on the machine", udpPacket(t, a.addr, host(local.LocalAddr().String())), "snap_undeliverable", scmpUnreachable, codeAddressUnreachable},
		{"the router itself", udpPacket(t, a.addr, host(n.left.router.LocalAddr().String())), "snap_undeliverable", scmpUnreachable, codeAddressUnreachable},
		{"the network", udpPacket(t, a.addr, host("192.168.1.1:80")), "snap_undeliverable", scmpUnreachable, codeAddressUnreachable},
	} {
		before := n.left.snap.Counters()[tt.counter]
		a.WritePackets([][]byte{tt.packet})
		p := a.next(t)
		typ, code, ok := p.SCMP()
		if !ok || typ != tt.typ || code != tt.code {
			t.Errorf("%s: SCMP type %d code %d, want %d and %d", tt.name, typ, code, tt.typ, tt.code)
		}
		if to, err := p.DeliveryPort(); tt.counter != "snap_spoofed" && (err != nil || to != a.addr.Port) {
			t.Errorf("%s: the answer is for port %d, %v", tt.name, to, err)
		}
		if got := n.left.snap.Counters()[tt.counter]; got != before+1 {
			t.Errorf("%s: %s rose by %d, want 1", tt.name, tt.counter, got-before)
		}
	}
	select {
	case b := <-heard:
		t.Errorf("a tunnel reached a program of the machine: %x", b)
	default:
	}
	if c := n.left.snap.Counters(); c["snap_network_out"] != 0 {
		t.Errorf("%d packets left", c["snap_network_out"])
	}
}

// Nothing enters a tunnel that does not come from a router, or is not for it,
// and nobody is answered.
func TestSNAPLetsNobodyElseIn(t *testing.T) {
	n := newTwoAS(t, nil)
	a, b := n.left.attach(t, "127.0.0.1:0"), n.right.attach(t, "127.0.0.1:0")
	port := netip.AddrPortFrom(a.addr.Host, a.addr.Port)
	good := udpPacket(t, b.addr, to(a.addr, n.back))
	advance(good)
	stranger := listenTest(t, "127.0.0.1:0")
	onRouter := listenTest(t, n.left.router.LocalAddr().Addr().String()+":0")
	otherPort, otherIA, empty := a.addr, a.addr, b.addr
	otherPort.Port++
	otherIA.IA = rightIA
	empty.IA = leftIA
	fromStranger := scion.Addr{IA: leftIA, Host: stranger.LocalAddr().Addr(), Port: stranger.LocalAddr().Port()}
	for _, tt := range []struct {
		name    string
		from    *tunnel.UDP
		packet  []byte
		counter string
	}{
		{"a stranger's", stranger, good, "snap_network_foreign"},
		{"a stranger's own", stranger, udpPacket(t, fromStranger, a.addr), "snap_network_foreign"},
		{"from the router's host", onRouter, good, "snap_network_foreign"},
		{"empty path from the router", n.left.router, udpPacket(t, empty, a.addr), "snap_network_foreign"},
		{"no packet", n.left.router, []byte("hello"), "snap_network_malformed"},
		{"truncated", n.left.router, good[:len(good)-1], "snap_network_malformed"},
		{"for another port", n.left.router, udpPacket(t, b.addr, to(otherPort, n.back)), "snap_network_misplaced"},
		{"for another AS", n.left.router, udpPacket(t, b.addr, to(otherIA, n.back)), "snap_network_misplaced"},
	} {
		before := n.left.snap.Counters()[tt.counter]
		tt.from.WritePackets([]netip.AddrPort{port}, [][]byte{tt.packet})
		n.left.router.WritePackets([]netip.AddrPort{port}, [][]byte{good})
		if got := a.next(t); !bytes.Equal(got.Bytes(), good) {
			t.Errorf("%s: %x entered", tt.name, got.Bytes())
		}
		if got := n.left.snap.Counters()[tt.counter]; got != before+1 {
			t.Errorf("%s: %s rose by %d, want 1", tt.name, tt.counter, got-before)
		}
	}
	if got := stranger.Counters()["received"] + stranger.Counters()["receive_calls"]; got != 0 {
		t.Errorf("a stranger heard %d datagrams", got)
	}
}

// Tunnels exchange packets on the empty path with the hosts that are open to
// them, and these only as themselves.
func TestSNAPReachesOpenHosts(t *testing.T) {
	n := newTwoAS(t, func(cfg *SNAPConfig) { cfg.ASHosts = prefixes("127.0.20.0/24") })
	a := n.left.attach(t, "127.0.0.1:0")
	open, closed := listenTest(t, "127.0.20.1:0"), listenTest(t, "127.0.21.1:0")
	host := func(u *tunnel.UDP) scion.Addr {
		return scion.Addr{IA: leftIA, Host: u.LocalAddr().Addr(), Port: u.LocalAddr().Port()}
	}
	heard := make(chan []byte, 1)
	run(t, func(ctx context.Context) error {
		return open.Run(ctx, func(from []netip.AddrPort, packets [][]byte) error {
			if want := netip.AddrPortFrom(a.addr.Host, a.addr.Port); from[0] != want {
				t.Errorf("a packet came from %s, want %s", from[0], want)
			}
			heard <- slices.Clone(packets[0])
			return nil
		})
	})
	sent := udpPacket(t, a.addr, host(open))
	a.WritePackets([][]byte{sent})
	if got := <-heard; !bytes.Equal(got, sent) {
		t.Errorf("got %x, want %x", got, sent)
	}
	a.WritePackets([][]byte{udpPacket(t, a.addr, host(closed))})
	if typ, code, ok := a.next(t).SCMP(); !ok || typ != scmpUnreachable || code != codeAddressUnreachable {
		t.Errorf("a closed host: SCMP type %d code %d", typ, code)
	}
	port := netip.AddrPortFrom(a.addr.Host, a.addr.Port)
	neighbour := host(open)
	neighbour.Host = neighbour.Host.Next()
	foreign := host(open)
	foreign.IA = rightIA
	onPath := udpPacket(t, host(open), to(a.addr, n.back))
	good := udpPacket(t, host(open), a.addr)
	for name, bad := range map[string][]byte{
		"another host": udpPacket(t, neighbour, a.addr), "another AS": udpPacket(t, foreign, a.addr), "on a path": onPath,
	} {
		open.WritePackets([]netip.AddrPort{port, port}, [][]byte{bad, good})
		if got := a.next(t); !bytes.Equal(got.Bytes(), good) {
			t.Errorf("as %s: %x entered", name, got.Bytes())
		}
	}
}

// Two SNAPs in one AS, on one host, do not get in each other's way; and their
// tunnels reach each other if the host is open to them.
func TestSNAPsSideBySide(t *testing.T) {
	n := newTwoAS(t, func(cfg *SNAPConfig) { cfg.ASHosts = prefixes("127.0.10.2/32") })
	second, err := NewSNAP(SNAPConfig{
		Listen: netip.MustParseAddrPort("127.0.10.2:0"), PrivateKey: newKey(t), Authorize: everybody,
		Topology: n.left.topology(t), ASHosts: prefixes("127.0.10.2/32"),
	})
	if err != nil {
		t.Fatal(err)
	}
	run(t, second.Run)
	a, far := n.left.attach(t, "127.0.0.1:0"), n.right.attach(t, "127.0.0.1:0")
	b := (&side{snap: second}).attach(t, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.2"), a.bound.Port()).String())
	if a.addr == b.addr {
		t.Fatalf("both are %s", a.addr)
	}
	for _, r := range []*rawTunnel{a, b} {
		sent := udpPacket(t, far.addr, to(r.addr, n.back))
		far.WritePackets([][]byte{sent})
		advance(sent)
		if got := r.next(t); !bytes.Equal(got.Bytes(), sent) {
			t.Errorf("got %x, want %x", got.Bytes(), sent)
		}
	}
	sent := udpPacket(t, a.addr, b.addr)
	a.WritePackets([][]byte{sent})
	if got := b.next(t); !bytes.Equal(got.Bytes(), sent) {
		t.Errorf("got %x, want %x", got.Bytes(), sent)
	}
	n.left.blameless(t)
	n.right.blameless(t)
}

// A tunnel that ends leaves its port, and its origin may come back to it.
func TestSNAPReleasesPorts(t *testing.T) {
	log := make(messages, 64)
	n := newTwoAS(t, func(cfg *SNAPConfig) { cfg.Logger = slog.New(log) })
	ports := n.left.snap.network.ports
	var clock atomic.Int64
	ports.mu.Lock()
	ports.now = func() time.Time { return time.Unix(clock.Load(), 0) }
	ports.mu.Unlock()
	udp := listenTest(t, "127.0.0.1:0")
	udp.Close()
	var before scion.Addr
	t.Run("first", func(t *testing.T) { // its tunnel says goodbye
		before = n.left.attach(t, udp.LocalAddr().String()).addr
		clock.Add(int64(portLife / time.Second))
	})
	for message := range log {
		if message == "port released" {
			break
		}
	}
	if ports.len() != 0 {
		t.Errorf("%d ports are left", ports.len())
	}
	if after := n.left.attach(t, udp.LocalAddr().String()).addr; after != before {
		t.Errorf("assigned %s, before %s", after, before)
	}
}

// messages is a log of which only the messages count.
type messages chan string

func (messages) Enabled(context.Context, slog.Level) bool { return true }
func (m messages) WithAttrs([]slog.Attr) slog.Handler     { return m }
func (m messages) WithGroup(string) slog.Handler          { return m }
func (m messages) Handle(_ context.Context, r slog.Record) error {
	select {
	case m <- r.Message:
	default:
	}
	return nil
}

// The host of the tunnels answers echo requests that routers bring, and a
// tunnel gets the answers.
func TestSNAPAnswersEcho(t *testing.T) {
	n := newTwoAS(t, nil)
	a := n.left.attach(t, "127.0.0.1:0")
	network := n.right.snap.network
	if network.echo == nil {
		t.Skip("somebody else has port 30041")
	}
	host := scion.NewHost(scion.HostConfig{Underlay: tunnelled{a}})
	host.SetLocal(a.addr)
	run(t, host.Run)
	answers := make(chan scion.EchoReply, 1)
	echo := host.Echo(func(r scion.EchoReply) { answers <- r })
	defer echo.Close()
	if err := echo.Request(scion.Addr{IA: rightIA, Host: network.ports.host, Path: n.there}, 7, 100); err != nil {
		t.Fatal(err)
	}
	if r := <-answers; r.Sequence != 7 || r.Report != nil || r.From.IA != rightIA || r.From.Host != network.ports.host {
		t.Errorf("answer %+v", r)
	}
	n.left.blameless(t)
	n.right.blameless(t)
}

// tunnelled is a raw tunnel as an underlay.
type tunnelled struct{ *rawTunnel }

func (u tunnelled) Run(ctx context.Context, deliver func([][]byte) error) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case b := <-u.got:
			if err := deliver([][]byte{b}); err != nil {
				return err
			}
		}
	}
}

func TestNewSNAPSaysWhatIsWrongWithItsTopology(t *testing.T) {
	router := &side{ia: leftIA, egress: 1, router: listenTest(t, "127.0.0.1:0"), other: &side{ia: rightIA}}
	base := SNAPConfig{Listen: netip.MustParseAddrPort("127.0.0.1:0"), PrivateKey: newKey(t), Authorize: everybody, Topology: router.topology(t)}
	for want, alter := range map[string]func(*SNAPConfig){
		"the topology is that of 1-ff00:0:111, not of 1-ff00:0:112": func(c *SNAPConfig) { c.IA = rightIA },
		"bind the address towards the routers, 192.0.2.1":           func(c *SNAPConfig) { c.UnderlayAddr = netip.MustParseAddr("192.0.2.1") },
		"no router is reached from ::1":                             func(c *SNAPConfig) { c.UnderlayAddr = netip.IPv6Loopback() },
		"no router towards which": func(c *SNAPConfig) {
			c.Listen, c.Topology = netip.MustParseAddrPort("0.0.0.0:0"), &scion.Topology{IA: leftIA}
		},
	} {
		cfg := base
		alter(&cfg)
		if _, err := NewSNAP(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("NewSNAP = %v, want one with %q", err, want)
		}
	}
	base.Listen = netip.MustParseAddrPort("0.0.0.0:0")
	s, err := NewSNAP(base)
	if err != nil {
		t.Fatal(err)
	}
	run(t, s.Run)
	if got := s.network.ports.host; got != netip.MustParseAddr("127.0.0.1") || s.IA() != leftIA {
		t.Errorf("tunnels are at %s in %s", got, s.IA())
	}
}

// The port for echo requests may be the one that the tunnels come in on.
func TestSNAPListensOnTheEchoPort(t *testing.T) {
	topology, err := scion.ParseTopology([]byte(`{"isd_as": "1-ff00:0:110", "border_routers": {"br": {"internal_addr": "127.0.0.1:9", "interfaces": {"1": {"isd_as": "1-ff00:0:111", "link_to": "child"}}}}}`))
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewSNAP(SNAPConfig{
		IA: topology.IA, Topology: topology, Listen: netip.MustParseAddrPort("127.31.41.59:30041"),
		PrivateKey: newKey(t), Authorize: everybody,
	})
	if err != nil {
		t.Fatal(err)
	}
	run(t, s.Run)
	if s.network.echo != nil {
		t.Error("echo requests are taken from the tunnels' port")
	}
}
