package snapproxy

import (
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/snapproxy/snapproxy/scion"
)

// packetOf returns an IPv6 packet with ports.
func packetOf(src, dst byte, protocol byte, sport, dport uint16) []byte {
	b := make([]byte, 60)
	b[0], b[6] = 0x60, protocol
	for i := range 16 {
		b[8+i], b[24+i] = src, dst
	}
	b[40], b[41], b[42], b[43] = byte(sport>>8), byte(sport), byte(dport>>8), byte(dport)
	return b
}

func TestFlowIsTheSameBothWays(t *testing.T) {
	for range 100 {
		here, there := byte(rand.Uint32()), byte(rand.Uint32())
		a, b := uint16(rand.Uint32()), uint16(rand.Uint32())
		out := flowOf(packetOf(here, there, 6, a, b), ipv6Dst)
		if in := flowOf(packetOf(there, here, 6, b, a), ipv6Src); in != out {
			t.Fatalf("flow %#x out, %#x in", out, in)
		}
		if other := flowOf(packetOf(here, there, 17, a, b), ipv6Dst); other == out {
			t.Error("UDP is the flow of TCP")
		}
	}
	if flowOf(make([]byte, 39), ipv6Dst) != 0 || flowOf(make([]byte, 40), ipv6Dst) != flowOf(make([]byte, 43), ipv6Src) {
		t.Error("packets without ports")
	}
}

func TestFlowsSpread(t *testing.T) {
	const flows, buckets = 4096, 256
	var n [buckets]int
	for port := range uint16(flows) {
		n[flowOf(packetOf(1, 2, 6, 10000+port, 443), ipv6Dst)%buckets]++
	}
	for i, got := range n {
		if got > 4*flows/buckets {
			t.Errorf("bucket %d has %d of %d flows", i, got, flows)
		}
	}
}

func BenchmarkFlowOf(b *testing.B) {
	p := packetOf(1, 2, 6, 1000, 443)
	for b.Loop() {
		flowOf(p, ipv6Dst)
	}
}

// testRoute is a route between two ASes by one link.
func testRoute(src, dst scion.IA, link uint16, mtu int) *scion.Route {
	raw := make([]byte, 4+8+2*12)
	binary.BigEndian.PutUint32(raw, 2<<12) // one segment of two hops
	raw[4] = 1                             // in construction direction
	binary.BigEndian.PutUint32(raw[8:], uint32(time.Now().Unix()))
	raw[13], raw[25] = 63, 63                       // six hours
	binary.BigEndian.PutUint16(raw[16:], link)      // egress of the first
	binary.BigEndian.PutUint16(raw[12+12+2:], link) // ingress of the second
	path, err := scion.NewPath(raw)
	if err != nil {
		panic(err)
	}
	return &scion.Route{
		Path: path, Src: src, Dst: dst, MTU: mtu, Expiry: path.Expiry(),
		Interfaces: []scion.Interface{{IA: src, ID: link}, {IA: dst, ID: link}},
	}
}

// waysTo returns the ways of a client to an exit over routes that lookup finds.
func waysTo(t *testing.T, exit scion.Addr, lookup func(src, dst scion.IA) ([]*scion.Route, error)) *exitPaths {
	t.Helper()
	p := newExitPaths(exit)
	p.lookup = func(_ context.Context, src, dst scion.IA) ([]*scion.Route, error) { return lookup(src, dst) }
	p.logger = orDiscard(nil)
	p.overhead = func(a scion.Addr) int { return 36 + a.Path.Len() + 40 }
	p.suspect, p.found = func() {}, func() {}
	p.watch = newPathWatch(func() {}, func() {})
	run(t, p.run)
	return p
}

// eventually waits until ok.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not in 20 s: ", what)
		}
	}
}

func TestWayFollowsTheClient(t *testing.T) {
	exit := scion.Addr{IA: testIA + 2, Host: netip.MustParseAddr("127.0.0.2"), Port: 1}
	routes := map[scion.IA]*scion.Route{}
	for i := range scion.IA(2) {
		routes[testIA+i] = testRoute(testIA+i, exit.IA, uint16(i+1), 1280)
	}
	p := waysTo(t, exit, func(src, _ scion.IA) ([]*scion.Route, error) { return []*scion.Route{routes[src]}, nil })
	packet := packetOf(1, 2, 6, 1000, 443)
	if got := p.route(packet); got != (scion.Addr{}) {
		t.Errorf("route %s of a client that is nowhere", got)
	}
	for src, r := range routes {
		p.setSource(src)
		eventually(t, "the path from "+src.String(), func() bool { return p.route(packet).Path == r.Path })
		if got := p.route(nil); got != along(exit, r) {
			t.Errorf("handshakes take %s", got)
		}
		if got := p.mtu(r.Path); got != 1280 {
			t.Errorf("MTU %d of a route of 1280 bytes", got)
		}
	}
	p.setSource(exit.IA)
	eventually(t, "the way inside the AS", func() bool { return p.route(packet) == exit })
	moved := exit
	moved.Port++
	p.setExit(moved)
	eventually(t, "the exit's new port", func() bool { return p.route(packet) == moved })
}

// A path that leaves less than the minimum frame is refused, and a path that
// does not is taken however long it is.
func TestNarrowPathsAreRefused(t *testing.T) {
	exit := scion.Addr{IA: testIA + 1, Host: netip.MustParseAddr("127.0.0.2"), Port: 1}
	least := 36 + (4 + 8 + 2*12) + 40 + minFrame
	narrow, wide := testRoute(testIA, exit.IA, 1, least-1), testRoute(testIA, exit.IA, 2, least)
	routes := []*scion.Route{narrow, wide}
	p := waysTo(t, exit, func(scion.IA, scion.IA) ([]*scion.Route, error) { return routes, nil })
	p.setSource(testIA)
	eventually(t, "the wide path", func() bool { return p.best().Path == wide.Path })
	for port := range uint16(100) {
		if got := p.route(packetOf(1, 2, 6, port, 443)); got.Path != wide.Path {
			t.Fatalf("a flow took %v", got)
		}
	}

	p = waysTo(t, exit, func(scion.IA, scion.IA) ([]*scion.Route, error) { return routes[:1], nil })
	p.setSource(testIA)
	eventually(t, "the reason", func() bool { return p.err() != nil && strings.Contains(p.err().Error(), "carries packets of") })
	if err := p.err(); !errors.Is(err, syscall.ENETUNREACH) || strings.Contains(err.Error(), "\n") {
		t.Errorf("error %q", err)
	}
	if got := p.route(packetOf(1, 2, 6, 1, 443)); got.Path != nil {
		t.Errorf("the narrow path was taken")
	}
}

// An SCMP error moves flows only if what it quotes is a message that the inner
// tunnel has sent lately.
func TestForgedReportsMoveNothing(t *testing.T) {
	c, err := NewClient(ClientConfig{NetworkConfig: NetworkConfig{SNAP: "127.0.0.1:9", SNAPKey: newKey(t).PublicKey(), IA: testIA}, ExitKey: newKey(t).PublicKey()})
	if err != nil {
		t.Fatal(err)
	}
	exit := scion.Addr{IA: testIA + 1, Host: netip.MustParseAddr("127.0.0.2"), Port: 1}
	first, second := testRoute(testIA, exit.IA, 1, 1280), testRoute(testIA, exit.IA, 2, 1280)
	p := waysTo(t, exit, func(scion.IA, scion.IA) ([]*scion.Route, error) { return []*scion.Route{first, second}, nil })
	p.setSource(testIA)
	eventually(t, "the first path", func() bool { return p.best().Path == first.Path })
	c.paths = p
	down := scion.Report{Type: 5, IA: testIA, Egress: 1, To: along(exit, first)}
	for _, payload := range [][]byte{nil, []byte("4"), make([]byte, 100), {4, 0, 0, 0, 1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 0, 0}} {
		down.Payload = payload
		c.report(down)
	}
	if got := c.Counters()["scmp_foreign"]; got != 4 {
		t.Errorf("%d forged reports counted, want 4", got)
	}
	if p.best().Path != first.Path {
		t.Error("a forged report moved the flows")
	}
	p.report(down) // what a genuine one does
	if p.best().Path != second.Path {
		t.Error("a genuine report moved nothing")
	}
}
