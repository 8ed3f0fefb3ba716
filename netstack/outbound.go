package netstack

import (
	"sync"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// outboundLimit bounds the bytes that wait for the pump: enough to keep it
// busy with full batches, little enough to add no delay that one notices.
const outboundLimit = 1 << 20

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

// outbound is the queue between those who send and the pump.
//
// A full queue makes senders wait, gVisor's included: the pump never waits for
// them nor for anything above, and the link below never blocks.
type outbound struct {
	ready chan struct{} // has a token when there is something to take

	mu     sync.Mutex // guards what follows
	room   sync.Cond
	items  []outItem
	bytes  int
	closed bool
}

func newOutbound() *outbound {
	q := &outbound{ready: make(chan struct{}, 1)}
	q.room.L = &q.mu
	return q
}

// push appends i, which then belongs to the queue, or reports that the queue
// is closed.
func (q *outbound) push(i outItem) bool {
	q.mu.Lock()
	for q.bytes >= outboundLimit && !q.closed {
		q.room.Wait()
	}
	if q.closed {
		q.mu.Unlock()
		return false
	}
	q.items = append(q.items, i)
	q.bytes += i.size
	q.mu.Unlock()
	q.wake()
	return true
}

// tryPush is push, but a full queue refuses.
func (q *outbound) tryPush(i outItem) bool {
	q.mu.Lock()
	if q.closed || q.bytes >= outboundLimit {
		q.mu.Unlock()
		return false
	}
	q.items = append(q.items, i)
	q.bytes += i.size
	q.mu.Unlock()
	q.wake()
	return true
}

func (q *outbound) wake() {
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

// take waits for items and exchanges them for the empty slice. It reports
// false once the queue is closed.
func (q *outbound) take(empty []outItem) ([]outItem, bool) {
	for {
		q.mu.Lock()
		if q.closed {
			q.mu.Unlock()
			return empty, false
		}
		if len(q.items) > 0 {
			items := q.items
			q.items, q.bytes = empty[:0], 0
			q.mu.Unlock()
			q.room.Broadcast()
			return items, true
		}
		q.mu.Unlock()
		<-q.ready
	}
}

// close drops what is queued and lets everybody go.
func (q *outbound) close() {
	q.mu.Lock()
	q.closed = true
	for i := range q.items {
		q.items[i].release()
	}
	q.items, q.bytes = nil, 0
	q.mu.Unlock()
	q.room.Broadcast()
	q.wake()
}
