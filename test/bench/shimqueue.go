package main

import (
	"math/rand/v2"
	"time"
)

// An impairment is what happens to datagrams in one direction. The zero value
// is nothing.
type impairment struct {
	Delay     time.Duration // of every datagram
	Jitter    time.Duration // up to so much more, in order
	Loss      float64       // the part that is lost
	Duplicate float64       // the part that comes twice
	Reorder   float64       // the part that comes later by ReorderBy, behind others
	ReorderBy time.Duration // zero: 2 ms
	Rate      float64       // bit/s; zero: no limit
	Queue     int           // bytes that wait for the rate or the delay; more are lost. Zero: 64 MiB
	Seed      uint64        // the same seed does the same to the same datagrams
}

const (
	defaultReorderBy = 2 * time.Millisecond
	defaultQueue     = 64 << 20
	// buffer is what a datagram may have to be queued.
	datagramSize = 2048
)

// A held is a datagram that waits.
type held[A any] struct {
	due time.Duration
	to  A
	b   []byte
}

// A delayLine holds the datagrams of one direction until they are due. Times are
// since some moment. It has no clock and no lock.
type delayLine[A any] struct {
	how    impairment
	rand   *rand.Rand
	line   fifo[held[A]] // in order of time
	late   fifo[held[A]] // what is reordered, in order of time too
	last   time.Duration // when the newest in line is due
	idle   time.Duration // when the rate has let everything pass
	size   int           // bytes held
	spare  [][]byte
	counts shimCounts
}

// shimCounts counts datagrams.
type shimCounts struct {
	Passed, Lost, Overflowed, Duplicated, Reordered uint64
}

func newDelayLine[A any](how impairment) *delayLine[A] {
	if how.ReorderBy == 0 {
		how.ReorderBy = defaultReorderBy
	}
	if how.Queue == 0 {
		how.Queue = defaultQueue
	}
	return &delayLine[A]{how: how, rand: rand.New(rand.NewPCG(how.Seed, 1))}
}

// chance draws whether what happens to a part happens now. It draws whatever
// the part, so that one part does not change where another strikes.
func (q *delayLine[A]) chance(part float64) bool { return q.rand.Float64() < part }

// put takes a copy of a datagram for to.
func (q *delayLine[A]) put(now time.Duration, to A, b []byte) {
	lost, twice, behind := q.chance(q.how.Loss), q.chance(q.how.Duplicate), q.chance(q.how.Reorder)
	more := time.Duration(q.rand.Float64() * float64(q.how.Jitter))
	if lost {
		q.counts.Lost++
		return
	}
	if q.size+len(b) > q.how.Queue {
		q.counts.Overflowed++
		return
	}
	due := now
	if q.how.Rate > 0 {
		q.idle = max(q.idle, now) + time.Duration(float64(len(b)*8)/q.how.Rate*float64(time.Second))
		due = q.idle
	}
	due = max(due+q.how.Delay+more, q.last)
	if behind {
		q.counts.Reordered++
		q.late.push(q.hold(due+q.how.ReorderBy, to, b))
	} else {
		q.last = due
		q.line.push(q.hold(due, to, b))
	}
	if twice {
		q.counts.Duplicated++
		q.last = due
		q.line.push(q.hold(due, to, b))
	}
}

func (q *delayLine[A]) hold(due time.Duration, to A, b []byte) held[A] {
	var buf []byte
	if n := len(q.spare); n > 0 && len(b) <= datagramSize {
		buf, q.spare = q.spare[n-1], q.spare[:n-1]
	} else {
		buf = make([]byte, 0, max(datagramSize, len(b)))
	}
	q.size += len(b)
	return held[A]{due, to, append(buf, b...)}
}

// next returns when something is due, or false if nothing is held.
func (q *delayLine[A]) next() (due time.Duration, ok bool) {
	if h := q.first(); h != nil {
		return h.due, true
	}
	return 0, false
}

// first is where the datagram stands that is due first.
func (q *delayLine[A]) first() *held[A] {
	a, b := q.line.front(), q.late.front()
	if a == nil || b != nil && b.due < a.due {
		return b
	}
	return a
}

// take removes what is due, at most n datagrams, and appends it to to and b.
// The bytes go back with free.
func (q *delayLine[A]) take(now time.Duration, n int, to []A, b [][]byte) ([]A, [][]byte) {
	for ; n > 0; n-- {
		h := q.first()
		if h == nil || h.due > now {
			break
		}
		to, b = append(to, h.to), append(b, h.b)
		q.size -= len(h.b)
		q.counts.Passed++
		if h == q.late.front() {
			q.late.pop()
		} else {
			q.line.pop()
		}
	}
	return to, b
}

// free takes back the bytes of datagrams.
func (q *delayLine[A]) free(all [][]byte) {
	for _, b := range all {
		if cap(b) == datagramSize {
			q.spare = append(q.spare, b[:0])
		}
	}
}

// A fifo is a queue in a ring.
type fifo[T any] struct {
	ring    []T
	at, len int
}

func (f *fifo[T]) push(v T) {
	if f.len == len(f.ring) {
		ring := make([]T, max(64, 2*len(f.ring)))
		n := copy(ring, f.ring[f.at:])
		copy(ring[n:], f.ring[:f.at])
		f.ring, f.at = ring, 0
	}
	f.ring[(f.at+f.len)%len(f.ring)] = v
	f.len++
}

// front is the oldest, where it stands, or nil.
func (f *fifo[T]) front() *T {
	if f.len == 0 {
		return nil
	}
	return &f.ring[f.at]
}

func (f *fifo[T]) pop() {
	var zero T
	f.ring[f.at] = zero
	f.at = (f.at + 1) % len(f.ring)
	f.len--
}
