package snapproxy

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/snapproxy/snapproxy/scion"
)

const (
	// minFrame is the least that a path must leave for a frame of the inner
	// tunnel (edgetun.md §6).
	minFrame = 272
	// replyMTU is what an exit takes for the MTU of a path that a client came
	// on: the least that SCION networks are built with.
	replyMTU = 1280
)

// An exitPaths knows the way from a client to its exit: the exit's address and,
// if it is in another AS, a path for each flow.
type exitPaths struct {
	lookup   func(ctx context.Context, src, dst scion.IA) ([]*scion.Route, error)
	policy   *scion.Policy
	logger   *slog.Logger
	overhead func(scion.Addr) int // of a frame in a packet to an address
	suspect  func()               // asks the exit to say something
	found    func()               // is called when there is a way

	watch *pathWatch
	way   atomic.Pointer[way]

	mu      sync.Mutex // guards what follows
	src     scion.IA   // where the client is; zero: nowhere
	exit    scion.Addr
	changed chan struct{} // has an element when src or exit have changed
}

// A way leads from one AS to an exit. It does not change.
type way struct {
	src   scion.IA
	exit  scion.Addr
	paths *scion.Paths // nil: the exit is in the client's AS
}

func newExitPaths(exit scion.Addr) *exitPaths {
	return &exitPaths{exit: exit, changed: make(chan struct{}, 1)}
}

// setSource tells which AS the client is in.
func (p *exitPaths) setSource(src scion.IA) { p.set(func() { p.src = src }) }

// setExit tells where the exit is.
func (p *exitPaths) setExit(exit scion.Addr) { p.set(func() { p.exit = exit }) }

func (p *exitPaths) set(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

func (p *exitPaths) ends() (src scion.IA, exit scion.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.src, p.exit
}

// run looks paths up until ctx ends.
func (p *exitPaths) run(ctx context.Context) error {
	for {
		src, exit := p.ends()
		g := newGroup(ctx)
		if !src.IsZero() && exit.Host.IsValid() {
			p.begin(g, src, exit)
		}
		for same := true; same; {
			select {
			case <-ctx.Done():
				return g.wait()
			case <-g.ctx.Done():
				return g.wait()
			case <-p.changed:
				s, e := p.ends()
				same = s == src && e == exit
			}
		}
		g.cancel()
		if err := g.wait(); err != nil {
			return err
		}
	}
}

// begin makes a way and what keeps it open run in g.
func (p *exitPaths) begin(g *group, src scion.IA, exit scion.Addr) {
	if src == exit.IA {
		p.way.Store(&way{src: src, exit: exit})
		p.found()
		return
	}
	paths := scion.NewPaths(scion.PathsConfig{
		Src:     src,
		Dst:     exit.IA,
		MinRoom: p.overhead(exit) + minFrame,
		Fetch:   func(ctx context.Context) ([]*scion.Route, error) { return p.fetch(ctx, src, exit) },
		Policy:  p.policy,
		Suspect: p.suspect,
		Logger:  p.logger,
	})
	p.way.Store(&way{src: src, exit: exit, paths: paths})
	g.Go(func() error { return paths.Run(g.ctx) })
	g.Go(func() error {
		select {
		case <-paths.Ready():
			p.found()
		case <-g.ctx.Done():
		}
		return nil
	})
}

// fetch looks routes up.
func (p *exitPaths) fetch(ctx context.Context, src scion.IA, exit scion.Addr) ([]*scion.Route, error) {
	routes, err := p.lookup(ctx, src, exit.IA)
	if err == nil && len(routes) == 0 {
		err = fmt.Errorf("there is no path from %s to %s: %w", src, exit.IA, syscall.ENETUNREACH)
	}
	return routes, err
}

// along returns an address with the path of a route to it.
func along(to scion.Addr, r *scion.Route) scion.Addr {
	to.Path = r.Path
	return to
}

// route returns where a packet goes: to the exit, on the path of its flow. Nil
// stands for the tunnel's own messages.
func (p *exitPaths) route(packet []byte) scion.Addr {
	w := p.way.Load()
	if w == nil {
		return scion.Addr{}
	}
	if w.paths == nil {
		return w.exit
	}
	var r *scion.Route
	if packet == nil {
		r = w.paths.Best()
	} else {
		r = w.paths.Route(flowOf(packet, ipv6Dst))
	}
	if r == nil {
		return w.exit
	}
	return along(w.exit, r)
}

// best returns the exit with the path that a new flow would take.
func (p *exitPaths) best() scion.Addr {
	w := p.way.Load()
	if w == nil {
		return scion.Addr{}
	}
	if w.paths != nil {
		if r := w.paths.Peek(); r != nil {
			return along(w.exit, r)
		}
	}
	return w.exit
}

// mtu returns the largest packet on a path that route has returned.
func (p *exitPaths) mtu(path *scion.Path) int {
	if w := p.way.Load(); w != nil && w.paths != nil {
		if mtu := w.paths.MTU(path); mtu != 0 {
			return mtu
		}
	}
	return replyMTU
}

// heard notes IP packets that came out of the tunnel.
func (p *exitPaths) heard(packets [][]byte) {
	w := p.way.Load()
	if w == nil || w.paths == nil {
		return
	}
	p.watch.received()
	for _, b := range packets {
		w.paths.Heard(flowOf(b, ipv6Src))
	}
}

// heardOn notes that the exit sent something on a path.
func (p *exitPaths) heardOn(from scion.Addr) {
	if w := p.way.Load(); w != nil && w.paths != nil {
		w.paths.HeardOn(from.Path)
		p.watch.sign()
	}
}

// report takes a report about a packet of ours.
func (p *exitPaths) report(r scion.Report) {
	if w := p.way.Load(); w != nil && w.paths != nil {
		w.paths.Report(r)
	}
}

// err says why there is no path, nil if there is one or none is needed.
func (p *exitPaths) err() error {
	if w := p.way.Load(); w != nil && w.paths != nil {
		return w.paths.Err()
	}
	return nil
}

// Where the remote address of an IPv6 packet stands.
const (
	ipv6Src = 8
	ipv6Dst = 24
)

// flowOf returns a number that the packets of a flow have in common, in both
// directions: of the address and port at remote, the other port and the
// protocol.
func flowOf(b []byte, remote int) uint32 {
	if len(b) < 40 {
		return 0
	}
	h := binary.BigEndian.Uint64(b[remote:]) ^ binary.BigEndian.Uint64(b[remote+8:]) ^ uint64(b[6])<<56
	if len(b) >= 44 {
		ports := uint64(binary.BigEndian.Uint32(b[40:]))
		if remote == ipv6Src {
			ports = ports>>16 | ports<<16&0xffff0000
		}
		h ^= ports
	}
	h *= 0x9e3779b97f4a7c15 // Fibonacci hashing
	return uint32(h >> 32)
}
