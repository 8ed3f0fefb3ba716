// Package netsim is a network of datagrams in memory, for tests. Its endpoints
// have the two methods of a carrier of package tunnel:
//
//	Run(ctx context.Context, deliver func(from []A, packets [][]byte) error) error
//	WritePackets(to []A, packets [][]byte) (n int, err error)
//
// What happens to the n-th datagram from one endpoint to another depends on the
// seed, on the order in which the endpoints were made, and on n, not on the
// schedule of goroutines. Time is that of package time, so in a testing/synctest
// bubble, where the network has to be made too, delays cost nothing.
package netsim

import (
	"math/rand/v2"
	"sync"
	"time"
)

// A Link says what happens to datagrams on their way. The zero Link delivers all
// at once and in order.
type Link struct {
	// Delay is the time on the way, Jitter what may be added to it, evenly
	// distributed. Datagrams keep their order all the same.
	Delay, Jitter time.Duration
	// Loss, Duplicate and Reorder are the probabilities that a datagram is lost,
	// arrives twice, or is overtaken by those up to ReorderBy behind it.
	Loss, Duplicate, Reorder float64
	// ReorderBy is how much longer an overtaken datagram takes. If zero, 5 ms.
	ReorderBy time.Duration
	// MTU is the largest datagram that passes. If zero, 65,507.
	MTU int
	// Rate is the bytes a second that pass; what is behind waits, for at most
	// QueueTime. If zero, there is no limit.
	Rate int
	// QueueTime bounds the waiting because of Rate. If zero, 50 ms.
	QueueTime time.Duration
}

// Counters say what became of datagrams.
type Counters struct {
	Sent, Delivered, Lost, Duplicated, Overtaken, TooLarge, Overflowed, NoHost int
}

// A Network connects endpoints. All its methods may be called at any time.
type Network[A comparable] struct {
	seed uint64

	mu        sync.Mutex // guards what follows, and the endpoints
	link      Link
	links     map[[2]A]Link
	ways      map[[2]*Endpoint[A]]*way
	endpoints map[A]*Endpoint[A] // by the address they are reached at
	made      uint64
	cut       map[[2]A]bool
	hints     bool
	filter    func(from, to A, packet []byte) bool
	tap       func(from, to A, packet []byte)
	counters  Counters
}

// A way is one direction between two endpoints.
type way struct {
	rand *rand.Rand
	last time.Time // when the datagram before arrives
	free time.Time // when the link has sent what was handed to it
}

// New returns a network in which every way is the given link.
func New[A comparable](seed uint64, link Link) *Network[A] {
	return &Network[A]{
		seed: seed, link: link,
		links:     make(map[[2]A]Link),
		ways:      make(map[[2]*Endpoint[A]]*way),
		endpoints: make(map[A]*Endpoint[A]),
		cut:       make(map[[2]A]bool),
	}
}

// SetLink changes every way that has no link of its own.
func (n *Network[A]) SetLink(link Link) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.link = link
}

// SetWay changes the way from one address to another, in this direction.
func (n *Network[A]) SetWay(from, to A, link Link) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.links[[2]A{from, to}] = link
}

// Cut interrupts the ways between two addresses in both directions, or joins them
// again. Datagrams vanish.
func (n *Network[A]) Cut(a, b A, cut bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut[[2]A{a, b}], n.cut[[2]A{b, a}] = cut, cut
}

// SetHints makes the network tell senders, by a nil packet, that there is nobody
// at an address.
func (n *Network[A]) SetHints(on bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hints = on
}

// SetFilter makes f decide whether a datagram passes. It may change the packet,
// which is a copy, and is called with a lock held. Nil lets everything pass.
func (n *Network[A]) SetFilter(f func(from, to A, packet []byte) bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.filter = f
}

// SetTap makes f see every datagram that is sent, whatever becomes of it. It is
// called with a lock held, and lent the packet.
func (n *Network[A]) SetTap(f func(from, to A, packet []byte)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.tap = f
}

// Counters returns what became of all datagrams so far.
func (n *Network[A]) Counters() Counters {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.counters
}

// Inject delivers a datagram to an address as if it came from another, past all
// links. It reports whether somebody is there.
func (n *Network[A]) Inject(from, to A, packet []byte) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	e := n.endpoints[to]
	if e == nil {
		return false
	}
	e.arrive(time.Now(), from, append([]byte{}, packet...))
	return true
}

// Hint tells the endpoint at an address that there is nobody at another.
func (n *Network[A]) Hint(about, to A) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	e := n.endpoints[to]
	if e == nil {
		return false
	}
	e.arrive(time.Now(), about, nil)
	return true
}

// send puts a datagram on its way.
func (n *Network[A]) send(e *Endpoint[A], to A, packet []byte) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	from := e.outside
	n.counters.Sent++
	if n.tap != nil {
		n.tap(from, to, packet)
	}
	target := n.endpoints[to]
	link, ok := n.links[[2]A{from, to}]
	if !ok {
		link = n.link
	}
	mtu := link.MTU
	if mtu == 0 {
		mtu = 65507
	}
	if len(packet) > mtu {
		n.counters.TooLarge++
		return false
	}
	now := time.Now()
	if n.cut[[2]A{from, to}] {
		n.counters.Lost++
		return true
	}
	if target == nil {
		n.counters.NoHost++
		if n.hints {
			e.arrive(now.Add(2*link.Delay), to, nil)
		}
		return true
	}
	w := n.way(e, target)
	// All numbers are drawn whatever becomes of the datagram, so that the next
	// one gets the same however this one fared.
	lost, duplicated, overtaken := w.rand.Float64() < link.Loss, w.rand.Float64() < link.Duplicate, w.rand.Float64() < link.Reorder
	jitter := time.Duration(w.rand.Float64() * float64(link.Jitter))
	begin, ok := w.enqueue(now, len(packet), link)
	switch {
	case !ok:
		n.counters.Overflowed++
		return true
	case lost:
		n.counters.Lost++
		return true
	}
	packet = append([]byte{}, packet...)
	if n.filter != nil && !n.filter(from, to, packet) {
		n.counters.Lost++
		return true
	}
	at := begin.Add(link.Delay + jitter)
	if at.Before(w.last) {
		at = w.last
	}
	if overtaken {
		n.counters.Overtaken++
		by := link.ReorderBy
		if by == 0 {
			by = 5 * time.Millisecond
		}
		at = at.Add(by)
	} else {
		w.last = at
	}
	target.arrive(at, from, packet)
	n.counters.Delivered++
	if duplicated {
		n.counters.Duplicated++
		target.arrive(at, from, append([]byte{}, packet...))
	}
	return true
}

func (n *Network[A]) way(from, to *Endpoint[A]) *way {
	key := [2]*Endpoint[A]{from, to}
	w := n.ways[key]
	if w == nil {
		w = &way{rand: rand.New(rand.NewPCG(n.seed, from.number<<32|to.number))}
		n.ways[key] = w
	}
	return w
}

// enqueue returns when a datagram has left the link's queue, and whether there
// was room in it.
func (w *way) enqueue(now time.Time, size int, link Link) (time.Time, bool) {
	if link.Rate == 0 {
		return now, true
	}
	limit := link.QueueTime
	if limit == 0 {
		limit = 50 * time.Millisecond
	}
	if w.free.Before(now) {
		w.free = now
	}
	if w.free.Sub(now) > limit {
		return now, false
	}
	w.free = w.free.Add(time.Duration(float64(size) / float64(link.Rate) * float64(time.Second)))
	return w.free, true
}
