package snapproxy

import (
	"context"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/snapproxy/snapproxy/netstack"
	"github.com/snapproxy/snapproxy/scion"
	"github.com/snapproxy/snapproxy/tunnel"
	"github.com/snapproxy/snapproxy/tunnel/snaptun"
)

// maxProcesses bounds how many inner addresses of one key an exit answers.
const maxProcesses = 1024

// An exitLink is the link under an exit's stack: it takes IP packets out of
// the clients' tunnels and finds the tunnel that an inner address is behind.
type exitLink struct {
	listener *tunnel.Listener[scion.Addr]
	budget   frameBudget
	spoofed  atomic.Uint64 // packets whose source is not their sender's
	unknown  atomic.Uint64 // packets to an inner address that nobody has

	// routes is read for each run of packets of both directions and written when
	// an inner address appears or moves.
	mu     sync.RWMutex
	routes map[netip.Addr]*snaptun.Peer[scion.Addr]
	owned  map[snaptun.PublicKey]int // inner addresses in routes, by key

	to sync.Pool // of *outBatch

	// What follows belongs to the receiving goroutine.
	passed  [][]byte // of the batch
	prefix  netip.Prefix
	prefixP *snaptun.Peer[scion.Addr] // whose that is
	src     netip.Addr                // that passed before in the batch
	srcP    *snaptun.Peer[scion.Addr] // behind which it is; nil: none passed yet
}

var _ netstack.Link = (*exitLink)(nil)

func newExitLink(l *tunnel.Listener[scion.Addr], b frameBudget) *exitLink {
	return &exitLink{
		listener: l, budget: b,
		routes: make(map[netip.Addr]*snaptun.Peer[scion.Addr]),
		owned:  make(map[snaptun.PublicKey]int),
		to:     sync.Pool{New: func() any { return new(outBatch) }},
	}
}

type outBatch struct {
	to      []scion.Addr
	packets [][]byte
}

// Run receives until ctx ends. A packet whose source is outside its sender's
// /112 is dropped; an inner address is answered through the tunnel that last
// sent from it.
func (l *exitLink) Run(ctx context.Context, deliver func(packets [][]byte) error) error {
	return l.listener.Run(ctx, func(from []*snaptun.Peer[scion.Addr], packets [][]byte) error {
		l.passed, l.srcP = l.passed[:0], nil
		for i, b := range packets {
			if l.learn(from[i], b) {
				l.passed = append(l.passed, b)
			} else {
				l.spoofed.Add(1)
			}
		}
		if len(l.passed) == 0 {
			return nil
		}
		return deliver(l.passed)
	})
}

// learn notes where the source of packet b is and reports whether it is its
// sender's.
func (l *exitLink) learn(p *snaptun.Peer[scion.Addr], b []byte) bool {
	src, ok := ipv6Addr(b, 8)
	if !ok {
		return false
	}
	if l.srcP == p && l.src == src {
		return true
	}
	if l.prefixP != p {
		l.prefix, l.prefixP = innerPrefix(p.Key()), p
	}
	if !l.prefix.Contains(src) || src == l.prefix.Addr() || !l.enter(src, p) {
		return false
	}
	l.src, l.srcP = src, p
	return true
}

// enter notes that an inner address is behind p, unless its key has too many.
func (l *exitLink) enter(src netip.Addr, p *snaptun.Peer[scion.Addr]) bool {
	if l.lookup(src) == p {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.routes[src] == nil {
		if l.owned[p.Key()] >= maxProcesses {
			return false
		}
		l.owned[p.Key()]++
	}
	l.routes[src] = p
	return true
}

// forget drops the addresses that are behind p.
func (l *exitLink) forget(p *snaptun.Peer[scion.Addr]) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for a, behind := range l.routes {
		if behind == p {
			delete(l.routes, a)
			if l.owned[p.Key()]--; l.owned[p.Key()] <= 0 {
				delete(l.owned, p.Key())
			}
		}
	}
}

func (l *exitLink) lookup(dst netip.Addr) *snaptun.Peer[scion.Addr] {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.routes[dst]
}

// WritePackets sends IP packets to the clients that their destinations name.
func (l *exitLink) WritePackets(packets [][]byte) (int, error) {
	out := l.to.Get().(*outBatch)
	defer l.to.Put(out)
	out.to, out.packets = out.to[:0], out.packets[:0]
	var p *snaptun.Peer[scion.Addr]
	var of netip.Addr // whose p is
	for _, b := range packets {
		dst, ok := ipv6Addr(b, 24)
		if !ok {
			continue
		}
		if dst != of {
			p, of = l.lookup(dst), dst
		}
		if p == nil {
			l.unknown.Add(1)
			continue
		}
		out.to = append(out.to, p.Origin())
		out.packets = append(out.packets, b)
	}
	if len(out.packets) == 0 {
		return 0, nil
	}
	return l.listener.WritePackets(out.to, out.packets)
}

// MTU returns the largest IP packet that reaches dst in one frame.
func (l *exitLink) MTU(dst netip.Addr) int {
	if p := l.lookup(dst); p != nil {
		return l.budget.packet(l.listener.Route(p.Origin()))
	}
	return l.budget.packet(scion.Addr{IA: l.budget.host.Local().IA, Host: l.budget.host.Local().Host})
}

// ipv6Addr reads the address at offset of an IPv6 packet's header.
func ipv6Addr(b []byte, offset int) (netip.Addr, bool) {
	if len(b) < 40 || b[0]>>4 != 6 {
		return netip.Addr{}, false
	}
	return netip.AddrFrom16([16]byte(b[offset : offset+16])), true
}
