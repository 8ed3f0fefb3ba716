package netsim

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"net"
	"time"
)

// batchSize is how many datagrams an endpoint delivers at most at once.
const batchSize = 128

// An Endpoint sends and receives at one address.
type Endpoint[A comparable] struct {
	net     *Network[A]
	number  uint64
	inside  A // its own address
	outside A // where it is seen, if there is a NAT
	closed  chan struct{}
	arrived chan struct{} // has an element when the queue may have changed

	// Guarded by the network's mu.
	queue  arrivals[A]
	serial uint64
	open   bool
}

var errInUse = errors.New("address in use")

// Listen makes an endpoint at an address that is free.
func (n *Network[A]) Listen(a A) (*Endpoint[A], error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.endpoints[a] != nil {
		return nil, fmt.Errorf("listen on %v: %w", a, errInUse)
	}
	n.made++
	e := &Endpoint[A]{
		net: n, number: n.made, inside: a, outside: a, open: true,
		closed: make(chan struct{}), arrived: make(chan struct{}, 1),
	}
	n.endpoints[a] = e
	return e, nil
}

// LocalAddr returns the endpoint's own address, whatever a NAT makes of it.
func (e *Endpoint[A]) LocalAddr() A { return e.inside }

// Rebind makes the endpoint be seen and reached at another address from now on,
// as a NAT does that has forgotten it. What is under way to the old one still
// arrives; what is sent there from now on does not.
func (e *Endpoint[A]) Rebind(outside A) error {
	n := e.net
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.endpoints[outside] != nil {
		return fmt.Errorf("rebind to %v: %w", outside, errInUse)
	}
	if e.open {
		delete(n.endpoints, e.outside)
		n.endpoints[outside] = e
	}
	e.outside = outside
	return nil
}

// Close frees the address and ends Run.
func (e *Endpoint[A]) Close() error {
	e.net.mu.Lock()
	defer e.net.mu.Unlock()
	if !e.open {
		return net.ErrClosed
	}
	e.open = false
	delete(e.net.endpoints, e.outside)
	close(e.closed)
	return nil
}

// WritePackets sends packets[i] to to[i]. It never blocks. The count is of those
// that the link's MTU let pass.
func (e *Endpoint[A]) WritePackets(to []A, packets [][]byte) (n int, err error) {
	select {
	case <-e.closed:
		return 0, fmt.Errorf("send from %v: %w", e.inside, net.ErrClosed)
	default:
	}
	for i, p := range packets {
		if e.net.send(e, to[i], p) {
			n++
		}
	}
	return n, nil
}

// Run delivers what arrives until ctx ends, which is no error, or the endpoint is
// closed. What is lent is overwritten when deliver returns, so that a test finds
// out who kept it.
func (e *Endpoint[A]) Run(ctx context.Context, deliver func(from []A, packets [][]byte) error) error {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		from, packets, wait := e.take(time.Now())
		if len(packets) > 0 {
			lent := append([][]byte(nil), packets...) // deliver may overwrite the slices
			if err := deliver(from, packets); err != nil {
				return err
			}
			for _, p := range lent {
				for i := range p {
					p[i] = 0xdb
				}
			}
			if ctx.Err() != nil {
				return nil
			}
			continue
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return nil
		case <-e.closed:
			return fmt.Errorf("receive on %v: %w", e.inside, net.ErrClosed)
		case <-e.arrived:
		case <-timer.C:
		}
	}
}

// take returns what has arrived, or how long to wait for the next.
func (e *Endpoint[A]) take(now time.Time) (from []A, packets [][]byte, wait time.Duration) {
	e.net.mu.Lock()
	defer e.net.mu.Unlock()
	for len(e.queue) > 0 && len(packets) < batchSize {
		if wait = e.queue[0].at.Sub(now); wait > 0 {
			return from, packets, wait
		}
		a := heap.Pop(&e.queue).(arrival[A])
		from = append(from, a.from)
		packets = append(packets, a.packet)
	}
	return from, packets, time.Hour
}

// arrive queues a datagram. The network's mu is held.
func (e *Endpoint[A]) arrive(at time.Time, from A, packet []byte) {
	e.serial++
	heap.Push(&e.queue, arrival[A]{at, e.serial, from, packet})
	select {
	case e.arrived <- struct{}{}:
	default:
	}
}

type arrival[A any] struct {
	at     time.Time
	serial uint64 // those at one time keep their order
	from   A
	packet []byte
}

type arrivals[A any] []arrival[A]

func (q arrivals[A]) Len() int      { return len(q) }
func (q arrivals[A]) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q arrivals[A]) Less(i, j int) bool {
	if !q[i].at.Equal(q[j].at) {
		return q[i].at.Before(q[j].at)
	}
	return q[i].serial < q[j].serial
}

// Push and Pop are for container/heap.
func (q *arrivals[A]) Push(x any) { *q = append(*q, x.(arrival[A])) }

// Pop is the counterpart of Push.
func (q *arrivals[A]) Pop() any {
	old := *q
	x := old[len(old)-1]
	old[len(old)-1] = arrival[A]{}
	*q = old[:len(old)-1]
	return x
}
