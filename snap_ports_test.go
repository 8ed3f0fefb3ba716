package snapproxy

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/snapproxy/snapproxy/tunnel"
)

// testPorts are ports with a clock of their own and without tunnels.
type testPorts struct {
	*snapPorts
	clock atomic.Int64 // seconds
	alive sync.Map     // origins at which a tunnel stands
}

func newTestPorts(t *testing.T) *testPorts {
	t.Helper()
	p := &testPorts{snapPorts: newSNAPPorts(netip.MustParseAddr("127.0.30.1"), slog.New(slog.DiscardHandler))}
	p.now = func() time.Time { return time.Unix(p.clock.Load(), 0) }
	p.serve = func(ctx context.Context, sp *snapPort) error {
		return sp.udp.Run(ctx, func([]netip.AddrPort, [][]byte) error { return nil })
	}
	p.stands = func(origin netip.AddrPort) bool {
		_, ok := p.alive.Load(origin)
		return ok
	}
	running := make(chan struct{})
	run(t, func(ctx context.Context) error {
		return p.run(ctx, func(ctx context.Context) error {
			close(running)
			<-ctx.Done()
			return nil
		})
	})
	await(t, running, "ports")
	return p
}

// free returns a port number that is free on the host of the ports, and one
// that is not.
func (p *testPorts) free(t *testing.T) (free, taken uint16) {
	t.Helper()
	a, b := listenTest(t, p.host.String()+":0"), listenTest(t, p.host.String()+":0")
	a.Close()
	return a.LocalAddr().Port(), b.LocalAddr().Port()
}

// bound reports whether somebody has an address.
func bound(t *testing.T, a netip.AddrPort) bool {
	t.Helper()
	udp, err := tunnel.ListenUDP(a, tunnel.UDPConfig{})
	if err != nil {
		return true
	}
	udp.Close()
	return false
}

func origin(port uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), port)
}

func TestPortIsKept(t *testing.T) {
	p := newTestPorts(t)
	free, taken := p.free(t)
	a := p.assign(origin(free))
	if a != netip.AddrPortFrom(p.host, free) {
		t.Errorf("assigned %s, want port %d, which is free", a, free)
	}
	b := p.assign(origin(taken))
	if b.Port() == taken || b.Port() == 0 || b.Addr() != p.host {
		t.Errorf("assigned %s, port %d is another's", b, taken)
	}
	if again := p.assign(origin(free)); again != a || p.len() != 2 {
		t.Errorf("assigned %s again, %d ports, want %s", again, p.len(), a)
	}
	if at := p.at(b); at == nil || at.origin != origin(taken) || p.of(origin(taken)) != at {
		t.Errorf("at %s is %v", b, at)
	}
	if p.at(netip.AddrPortFrom(p.host.Next(), b.Port())) != nil {
		t.Error("a port of another host is a tunnel's")
	}
}

func TestPortsInARange(t *testing.T) {
	p := newTestPorts(t)
	free, _ := p.free(t)
	p.min, p.max = free&^3, free|3 // four ports
	a := p.assign(origin(free))
	if a.Port() != free {
		t.Errorf("assigned %s, want port %d", a, free)
	}
	seen := map[uint16]bool{free: true}
	for i := range uint16(3) {
		number := p.assign(origin(1000 + i)).Port()
		if number != 0 && (number < p.min || number > p.max || seen[number]) {
			t.Errorf("assigned port %d, want another between %d and %d", number, p.min, p.max)
		}
		seen[number] = true
	}
	if last := p.assign(origin(2000)); last.IsValid() && seen[last.Port()] || p.refused.Load() == 0 {
		t.Errorf("assigned %s, but all ports are taken", last)
	}
}

// A port lives as long as its tunnel, or as a handshake may take.
func TestPortIsReleased(t *testing.T) {
	const life = int64(portLife / time.Second)
	p := newTestPorts(t)
	gone, unconfirmed, stands, back := origin(1), origin(2), origin(3), origin(4)
	addrs := map[netip.AddrPort]netip.AddrPort{}
	for _, o := range []netip.AddrPort{gone, unconfirmed, stands, back} {
		addrs[o] = p.assign(o)
	}
	for _, o := range []netip.AddrPort{gone, stands, back} {
		p.confirm(o)
	}
	p.clock.Add(life - 1)
	p.sweep()
	if p.len() != 4 {
		t.Errorf("%d ports within their time, want 4", p.len())
	}
	p.assign(back) // a new handshake, and the old tunnel goes
	p.gone(back)
	p.clock.Add(1)
	p.gone(gone)
	p.gone(origin(99)) // nobody
	p.sweep()
	for o, want := range map[netip.AddrPort]bool{gone: false, unconfirmed: false, stands: true, back: true} {
		if got := p.of(o) != nil; got != want || bound(t, addrs[o]) != want || (p.at(addrs[o]) != nil) != want {
			t.Errorf("port of %s is there: %v, want %v", o, got, want)
		}
	}
	p.clock.Add(life)
	p.alive.Store(back, true) // but word of it was lost
	p.sweep()
	if p.of(back) == nil {
		t.Error("a tunnel that stands lost its port")
	}
	p.alive.Delete(back)
	p.sweep()
	if p.of(back) != nil || p.of(stands) == nil {
		t.Error("only what was not confirmed should go")
	}
}

// Handshakes that are not confirmed take no port from tunnels, and not for long
// from each other.
func TestPortsAreBounded(t *testing.T) {
	p := newTestPorts(t)
	p.limit, p.waitMax = 4, 2
	p.assign(origin(1))
	p.confirm(origin(1))
	for i := range uint16(3) {
		p.clock.Add(1)
		p.assign(origin(10 + i))
	}
	if p.of(origin(10)) != nil || p.of(origin(11)) == nil || p.of(origin(12)) == nil || p.of(origin(1)) == nil {
		t.Error("the handshake that waited longest should have made way")
	}
	p.confirm(origin(11))
	p.confirm(origin(12))
	p.confirm(origin(10)) // it made it after all
	if sp := p.of(origin(10)); sp == nil || !sp.confirmed.Load() {
		t.Error("a tunnel that stands has no port")
	}
	if a := p.assign(origin(20)); a.IsValid() || p.refused.Load() != 1 || p.len() != 4 {
		t.Errorf("assigned %s beyond the limit; %d ports, %d refused", a, p.len(), p.refused.Load())
	}
}

func TestPortsEndWithRun(t *testing.T) {
	p := newSNAPPorts(netip.MustParseAddr("127.0.30.1"), slog.New(slog.DiscardHandler))
	p.serve = func(ctx context.Context, sp *snapPort) error {
		return sp.udp.Run(ctx, func([]netip.AddrPort, [][]byte) error { return nil })
	}
	if a := p.assign(origin(1)); a.IsValid() {
		t.Errorf("assigned %s before it runs", a)
	}
	var a netip.AddrPort
	if err := p.run(t.Context(), func(context.Context) error { a = p.assign(origin(1)); return nil }); err != nil {
		t.Error(err)
	}
	if !a.IsValid() || bound(t, a) || p.len() != 0 {
		t.Errorf("%s is left", a)
	}
	if a := p.assign(origin(1)); a.IsValid() {
		t.Errorf("assigned %s after it ran", a)
	}
}

func TestPortsAtOnce(t *testing.T) {
	p := newTestPorts(t)
	p.limit, p.waitMax = 8, 4
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 50 {
				o := origin(uint16(1 + (g*7+i)%12))
				a := p.assign(o)
				p.confirm(o)
				p.at(a)
				if i%3 == g%3 {
					p.clock.Add(40)
					p.gone(o)
				}
				p.sweep()
			}
		})
	}
	wg.Wait()
	for _, sp := range p.byOrigin {
		if p.byNumber[sp.addr.Port()] != sp {
			t.Errorf("%s is not found by its number", sp.addr)
		}
	}
	if len(p.byOrigin) != len(p.byNumber) || len(p.byOrigin) > p.limit {
		t.Errorf("%d ports by origin, %d by number, limit %d", len(p.byOrigin), len(p.byNumber), p.limit)
	}
}
