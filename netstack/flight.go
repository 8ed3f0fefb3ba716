package netstack

import (
	"sort"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// maxFlightSegments bounds what is remembered of a connection; then the oldest
// is forgotten.
const maxFlightSegments = 4096

// A flight is what a connection has sent and the far side has not acknowledged.
//
//	una                                      next
//	 |  segment  | segment |  segment  | segm. |
//	    1 packet                1         1   1    sent again of a large one
type flight struct {
	tuple     tuple
	peer      *peer
	una, next uint32
	segments  []segmentSent // in order; of those before first nothing is held
	first     int

	ack    uint32 // latest acknowledgement and window that were sent
	window uint16

	stamp   uint32 // the latest timestamp that was sent (RFC 7323), and when
	stamped tcpip.MonotonicTime

	sent     tcpip.MonotonicTime // when the last segment was
	answered tcpip.MonotonicTime // when the far side last acknowledged or lacked something
	hole     uint32              // what is before it, from una on, was lacking then; una: nothing
	tried    tcpip.MonotonicTime // when it was last sent again
	tries    int                 // how often since una last moved
	repeats  int                 // segments that the sender has sent again since then
	own      int                 // segments that the sender has sent since then
	fill     uint32              // packets of the hole that were sent again; zero: none
	filled   uint32              // where they end
	blind    bool                // the far side lacks something and does not say what
	shut     bool                // its window was closed then
	repeated uint32              // up to here an acknowledgement measures no round trip

	packet uint32 // the payload that a packet has room for, of late
	gauge  gauge
	mend   mend
	probe  probe
}

// A segmentSent is a segment, often a super-segment, that is held.
type segmentSent struct {
	pkt  *stack.PacketBuffer
	at   tcpip.MonotonicTime
	seq  uint32
	size uint32 // of the payload
	fin  bool
}

func (s *segmentSent) end() uint32 {
	if s.fin {
		return s.seq + s.size + 1
	}
	return s.seq + s.size
}

// acked returns how many bytes of the payload are before una.
func (s *segmentSent) acked(una uint32) uint32 {
	if before(s.seq, una) {
		return min(una-s.seq, s.size)
	}
	return 0
}

// before reports whether sequence number a is before b.
func before(a, b uint32) bool { return int32(a-b) < 0 }

// add holds a segment, or notes that an old one is sent again.
func (f *flight) add(s segmentSent) {
	f.sent = s.at
	f.own++
	if f.empty() && !before(s.seq, f.next) {
		f.una, f.next, f.hole, f.repeated, f.tries, f.blind = s.seq, s.seq, s.seq, s.seq, 0, false
		f.mend.high = s.seq
		if f.mend.drip.rate == 0 {
			f.mend.drip.shown = s.seq
		}
	}
	if before(s.seq, f.next) { // by the sender itself
		f.repeated = f.next
		f.repeats++
		f.probe = probe{on: f.repeats == 1 && f.stamp != 0, start: s.seq, end: s.end(), stamp: f.stamp, high: f.next}
		if f.repeats > 1 { // the first is but a probe
			f.mend.stepAside(f.next)
		}
	}
	if !before(f.next, s.end()) {
		return
	}
	if f.first >= 64 && f.first > len(f.segments)/2 {
		n := copy(f.segments, f.segments[f.first:])
		clear(f.segments[n:])
		f.segments, f.first = f.segments[:n], 0
	}
	if len(f.segments)-f.first >= maxFlightSegments {
		f.drop()
	}
	s.pkt.IncRef()
	f.segments = append(f.segments, s)
	f.next = s.end()
}

// acked takes an acknowledgement and returns when the youngest segment that it
// covers was sent, if that tells the round trip time. While the far side is
// closed, the last segment is kept to ask with.
func (f *flight) acked(ack uint32, closed bool, now tcpip.MonotonicTime) (at tcpip.MonotonicTime, ok bool) {
	if before(ack, f.una) || before(f.next, ack) {
		return at, false
	}
	if ack != f.una {
		f.una, f.hole, f.answered, f.tries, f.repeats = ack, ack, now, 0, 0
	}
	for f.first < len(f.segments) {
		s := &f.segments[f.first]
		if before(ack, s.end()) || closed && s.end() == f.next {
			break
		}
		at, ok = s.at, !before(s.seq, f.repeated)
		f.drop()
	}
	if f.empty() {
		f.segments, f.first = f.segments[:0], 0
	}
	return at, ok
}

// lacks notes what an acknowledgement says of a hole: where a SACK begins, if
// there is one. It reports whether the hole should be filled at once, because
// the sender does not take an acknowledgement that says nothing new for a sign:
// gVisor sends no SACK once it has sent its FIN.
func (f *flight) lacks(start uint32, sack, moved bool, now tcpip.MonotonicTime) bool {
	switch {
	case sack:
		f.answered, f.hole, f.blind = now, start, false
	case f.empty() || f.una == f.next:
	case !moved && f.tries > 0 && f.fill == 0:
		f.hole, f.blind = f.next, true
		return true
	case f.blind && f.fill > 0 && f.una == f.filled:
		f.hole = f.next // it had all that was sent again, and nothing else
	}
	return f.wedged()
}

// wedged reports whether what was sent again of a hole has arrived, there is
// more to it, and the sender does next to nothing about it; then twice as much
// goes next. A sender gets there by losing more than 100 holes' worth, which is
// all that gVisor remembers.
func (f *flight) wedged() bool {
	if f.fill == 0 || before(f.una, f.filled) {
		return false
	}
	if !before(f.una, f.hole) || f.own > 2 && !f.blind {
		f.fill = 0
		return false
	}
	f.fill = min(2*f.fill, maxFill)
	return true
}

// index returns the first segment that ends after seq.
func (f *flight) index(seq uint32) int {
	rest := f.segments[f.first:]
	return f.first + sort.Search(len(rest), func(i int) bool { return before(seq, rest[i].end()) })
}

// drop gives the oldest segment back.
func (f *flight) drop() {
	f.segments[f.first].pkt.DecRef()
	f.segments[f.first] = segmentSent{}
	f.first++
}

// release gives all segments back.
func (f *flight) release() {
	for f.first < len(f.segments) {
		f.drop()
	}
	f.segments, f.first = f.segments[:0], 0
}

func (f *flight) empty() bool { return f.first == len(f.segments) }

// overdue is how long the far side has owed an answer.
func (f *flight) overdue(now tcpip.MonotonicTime) time.Duration {
	if f.empty() {
		return 0
	}
	since := f.segments[f.first].at
	if since.Before(f.answered) {
		since = f.answered
	}
	return now.Sub(since)
}
