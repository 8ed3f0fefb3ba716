package tunnel

import (
	"encoding/binary"
	"sync"
	"time"
)

// How many packets may be in reassembly at once, of one peer.
const (
	connQueues     = 64
	listenerQueues = 8
)

// reassemblyLifetime is how long an incomplete packet keeps its buffer. The
// frames of a packet are sent at once, so the rest of it is not to be expected.
const reassemblyLifetime = 10 * time.Second

// A reassemblyBuffer holds a packet that is in reassembly.
type reassemblyBuffer [maxPacket + 1]byte

var reassemblyBuffers = sync.Pool{New: func() any { return new(reassemblyBuffer) }}

// A reassembler puts the frames of one peer together to packets again. Packets
// come out in the order in which they are complete. It is safe for concurrent
// use.
type reassembler struct {
	mu      sync.Mutex // guards what follows
	queues  []queue
	limit   int
	busy    int
	evicted uint64
}

// A queue is a packet in reassembly. One that is finished, completely or not,
// remembers its stream offset to refuse late frames until it is used again.
type queue struct {
	stream   uint64
	state    queueState
	size     int // bytes of all frames but the last; 0 not known yet
	count    int // frames received but the last
	lastAt   int // offset of the last frame; -1 not received
	total    int // bytes of the packet, once the last frame was received
	highest  int // end of the frame furthest back, but the last
	received [maxFrames / 64]uint64
	buffer   *reassemblyBuffer // while busy
	since    time.Time
}

type queueState uint8

const (
	queueUnused queueState = iota
	queueBusy
	queueFinished
)

func (r *reassembler) init(limit int) { r.limit = limit }

// add takes a frame. If it completes a packet, it returns that: a slice of b, or
// of buffer, which is the caller's to put back when the packet is done with.
func (r *reassembler) add(b []byte, now time.Time) (packet []byte, buffer *reassemblyBuffer, err error) {
	if len(b) <= frameHeader {
		return nil, nil, errInvalidHeader
	}
	data := b[frameHeader:]
	offset := int(binary.BigEndian.Uint16(b[8:]))
	last := binary.BigEndian.Uint16(b[10:])&lastFrame != 0
	if offset+len(data) > maxPacket {
		if last {
			return nil, nil, errPacketTooLarge
		}
		return nil, nil, errOutOfBounds
	}
	if last && offset == 0 {
		return cutToIP(data), nil, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	q, err := r.find(binary.BigEndian.Uint64(b), now)
	if err != nil {
		return nil, nil, err
	}
	if err := q.put(offset, last, data); err != nil {
		if err != errDuplicate {
			r.finish(q)
		}
		return nil, nil, err
	}
	if !q.complete() {
		return nil, nil, nil
	}
	buffer, q.buffer = q.buffer, nil
	r.finish(q)
	return cutToIP(buffer[:q.total]), buffer, nil
}

// find returns the queue for a packet: its own, an idle one, or that of the
// oldest packet. Packets older than all in reassembly come too late.
func (r *reassembler) find(stream uint64, now time.Time) (*queue, error) {
	var idle, lowest *queue
	for i := range r.queues {
		q := &r.queues[i]
		switch {
		case q.state != queueUnused && q.stream == stream:
			if q.state == queueFinished {
				return nil, errTooOld
			}
			return q, nil
		case q.state != queueBusy:
			// The one that was finished first remembers least.
			if idle == nil || q.state == queueUnused || q.state == idle.state && q.since.Before(idle.since) {
				idle = q
			}
		case lowest == nil || q.stream < lowest.stream:
			lowest = q
		}
	}
	switch {
	case len(r.queues) < r.limit && (idle == nil || idle.state != queueUnused):
		r.queues = append(r.queues, queue{})
		idle = &r.queues[len(r.queues)-1]
	case idle != nil:
	case stream < lowest.stream:
		return nil, errTooOld
	default:
		r.finish(lowest)
		r.evicted++
		idle = lowest
	}
	*idle = queue{stream: stream, state: queueBusy, lastAt: -1, buffer: reassemblyBuffers.Get().(*reassemblyBuffer), since: now}
	r.busy++
	return idle, nil
}

// finish gives the buffer back and leaves the stream offset.
func (r *reassembler) finish(q *queue) {
	if q.buffer != nil {
		reassemblyBuffers.Put(q.buffer)
		q.buffer = nil
	}
	if q.state == queueBusy {
		r.busy--
	}
	q.state = queueFinished
}

// expire gives up on packets that have been incomplete for too long, and returns
// whether there are others.
func (r *reassembler) expire(now time.Time) (busy bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.busy == 0 {
		return false
	}
	for i := range r.queues {
		if q := &r.queues[i]; q.state == queueBusy && now.Sub(q.since) >= reassemblyLifetime {
			r.finish(q)
			r.evicted++
		}
	}
	return r.busy > 0
}

// takeEvicted returns how many packets were given up since the last call.
func (r *reassembler) takeEvicted() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.evicted
	r.evicted = 0
	return n
}

// put takes a frame that is not the only one of its packet. After any error but
// errDuplicate the packet is of no use any more.
func (q *queue) put(offset int, last bool, data []byte) error {
	if last {
		return q.putLast(offset, data)
	}
	n := len(data)
	switch {
	case n < minFrameData:
		return errFrameTooSmall
	case q.size != 0 && n != q.size:
		return errInconsistent
	case offset%n != 0:
		return errAlignment
	case offset/n > maxFrames-2:
		return errFrameIndex
	case q.lastAt >= 0 && offset+n > q.lastAt:
		return errOutOfBounds
	case q.size == 0 && q.lastAt >= 0 && q.lastAt%n != 0:
		return errLastAlignment
	}
	q.size = n
	word, bit := &q.received[offset/n/64], uint64(1)<<(offset/n%64)
	if *word&bit != 0 {
		return errDuplicate
	}
	*word |= bit
	q.count++
	q.highest = max(q.highest, offset+n)
	copy(q.buffer[offset:], data)
	return nil
}

func (q *queue) putLast(offset int, data []byte) error {
	switch {
	case q.lastAt >= 0:
		return errDuplicate
	case q.size != 0 && offset%q.size != 0:
		return errLastAlignment
	case offset < q.highest:
		return errOutOfBounds
	}
	// With frames of 256 bytes there are no more than 256 up to 65,535.
	q.lastAt, q.total = offset, offset+len(data)
	copy(q.buffer[offset:], data)
	return nil
}

// complete reports whether all frames have been received.
func (q *queue) complete() bool {
	return q.lastAt >= 0 && q.size != 0 && q.count == q.lastAt/q.size
}

// release gives all buffers back, when the peer is gone. What is added after
// that takes new ones, which the garbage collector gets.
func (r *reassembler) release() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.queues {
		if r.queues[i].state == queueBusy {
			r.finish(&r.queues[i])
		}
	}
}
