package netstack

import (
	"sync"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

const (
	// outboundLimit bounds the bytes of datagrams that wait for the pump; their
	// senders wait beyond it. It keeps the pump busy with full batches and adds
	// no delay that one notices.
	outboundLimit = 1 << 20
	// outboundMost bounds all that waits. TCP comes to less, as its windows bound
	// what it has under way, so only who answers a flood meets this.
	outboundMost = 128 << 20
	// itemCost is what an item takes besides its bytes.
	itemCost = 256
	// takeSize is how many bytes the pump takes at a time.
	takeSize = 64 << 10
)

// An outItem is one packet to send: either gVisor's or a whole one of ours.
type outItem struct {
	pkt  *stack.PacketBuffer
	raw  *buffer.View
	size int
	part part
}

// A part says which bytes of a TCP segment's payload are sent again. Its zero
// value is no part.
type part struct {
	from, to uint32
	again    bool
}

// release gives the packet back.
func (i *outItem) release() {
	if i.pkt != nil {
		i.pkt.DecRef()
	} else {
		i.raw.Release()
	}
	*i = outItem{}
}

// tuple returns the flow that i belongs to, without ports where there are none.
func (i *outItem) tuple() (t tuple) {
	var ip, ports []byte
	switch {
	case i.pkt != nil:
		ip, ports = i.pkt.NetworkHeader().Slice(), i.pkt.TransportHeader().Slice()
	case i.raw != nil:
		ip = i.raw.AsSlice()
		ports = ip[min(len(ip), ipv6HeaderLen):]
	}
	if len(ip) < ipv6HeaderLen {
		return t
	}
	if p := ip[6]; p != protoTCP && p != protoUDP || len(ports) < 4 {
		ports = []byte{0, 0, 0, p}
	}
	t = outboundTuple(ip, ports)
	if i.part.again {
		t[0] ^= 0xff // what fills holes does not wait for what follows them
	}
	return t
}

// outbound is the queue between those who send and the pump: one queue for each
// flow, which take turns.
//
// TCP never waits here and loses nothing, since its windows bound what it has
// under way, and who made gVisor wait would make all flows wait whose segments
// the same goroutine of gVisor's handles. Who sends datagrams waits while too
// many are queued. The pump never waits for anybody above, and the link below
// never blocks.
type outbound struct {
	ready chan struct{} // has a token when there is something to take

	mu     sync.Mutex // guards what follows
	room   sync.Cond
	turns  turns
	bytes  int // that are queued
	raw    int // those of datagrams
	idle   bool
	closed bool
}

func newOutbound() *outbound {
	q := &outbound{ready: make(chan struct{}, 1)}
	q.room.L = &q.mu
	q.turns.init()
	return q
}

// push queues i, which then belongs to the queue. A datagram waits for room. It
// reports false if the queue is closed, or too full for what cannot wait.
func (q *outbound) push(i outItem) bool {
	q.mu.Lock()
	for i.raw != nil && q.raw >= outboundLimit && !q.closed {
		q.room.Wait()
	}
	return q.add(i)
}

// tryPush is push, but what would have to wait is refused.
func (q *outbound) tryPush(i outItem) bool {
	q.mu.Lock()
	if q.raw >= outboundLimit {
		q.mu.Unlock()
		return false
	}
	return q.add(i)
}

// add queues i and unlocks the queue.
func (q *outbound) add(i outItem) bool {
	if q.closed || q.bytes >= outboundMost {
		q.mu.Unlock()
		return false
	}
	q.bytes += i.size + itemCost
	if i.raw != nil {
		q.raw += i.size + itemCost
	}
	q.turns.push(i)
	wake := q.idle
	q.idle = false
	q.mu.Unlock()
	if wake {
		q.wake()
	}
	return true
}

func (q *outbound) wake() {
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

// take exchanges items for the empty slice: what is due next, for as long as
// takes a fraction of a millisecond to send. If nothing is queued it waits, or
// returns none if it must not wait. It reports false once the queue is closed.
func (q *outbound) take(empty []outItem, wait bool) ([]outItem, bool) {
	items := empty[:0]
	for {
		q.mu.Lock()
		if q.closed {
			q.mu.Unlock()
			return items, false
		}
		waiting := q.raw >= outboundLimit
		for size := 0; size < takeSize; {
			i, ok := q.turns.pop()
			if !ok {
				break
			}
			size += i.size + itemCost
			q.bytes -= i.size + itemCost
			if i.raw != nil {
				q.raw -= i.size + itemCost
			}
			items = append(items, i)
		}
		waiting = waiting && q.raw < outboundLimit
		q.idle = len(items) == 0 && wait
		q.mu.Unlock()
		if waiting {
			q.room.Broadcast()
		}
		if len(items) > 0 || !wait {
			return items, true
		}
		<-q.ready
	}
}

// close drops what is queued and lets everybody go.
func (q *outbound) close() {
	q.mu.Lock()
	q.closed = true
	for i, ok := q.turns.pop(); ok; i, ok = q.turns.pop() {
		i.release()
	}
	q.bytes, q.raw = 0, 0
	q.mu.Unlock()
	q.room.Broadcast()
	q.wake()
}
