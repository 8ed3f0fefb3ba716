package main

import (
	"encoding/binary"
	"slices"
	"testing"
	"time"
)

const ms = time.Millisecond

// send puts n numbered datagrams, step apart, and returns their numbers in the
// order in which they come out, and when.
func send(how impairment, n int, step time.Duration) (numbers []int, at []time.Duration, counts shimCounts) {
	q := newDelayLine[int](how)
	take := func(now time.Duration) {
		for due, ok := q.next(); ok && due <= now; due, ok = q.next() {
			_, b := q.take(due, 1, nil, nil)
			numbers, at = append(numbers, int(binary.BigEndian.Uint32(b[0]))), append(at, due)
			q.free(b)
		}
	}
	b := make([]byte, 1250)
	for i := range n {
		now := time.Duration(i) * step
		take(now)
		binary.BigEndian.PutUint32(b, uint32(i))
		q.put(now, 0, b)
	}
	take(time.Hour)
	return numbers, at, q.counts
}

func TestDelayKeepsTheOrder(t *testing.T) {
	numbers, at, counts := send(impairment{Delay: 10 * ms, Jitter: 5 * ms}, 1000, ms)
	if len(numbers) != 1000 || !slices.IsSorted(numbers) || !slices.IsSorted(at) {
		t.Errorf("%d of 1000 datagrams, in order %v", len(numbers), slices.IsSorted(numbers))
	}
	for i, due := range at {
		if d := due - time.Duration(i)*ms; d < 10*ms || d > 15*ms {
			t.Fatalf("datagram %d comes after %v, want 10 to 15 ms", i, d)
		}
	}
	if counts.Passed != 1000 {
		t.Errorf("counts %+v", counts)
	}
}

func TestRateSpacesDatagrams(t *testing.T) {
	// 1,250 bytes at 10 Mbit/s take 1 ms.
	_, at, _ := send(impairment{Rate: 10e6}, 100, 0)
	for i, due := range at {
		if want := time.Duration(i+1) * ms; due < want-time.Microsecond || due > want+time.Microsecond {
			t.Fatalf("datagram %d leaves at %v, want %v", i, due, want)
		}
	}
}

func TestQueueIsBounded(t *testing.T) {
	numbers, _, counts := send(impairment{Rate: 10e6, Queue: 10 * 1250}, 100, 0)
	if len(numbers) != 10 || counts.Overflowed != 90 {
		t.Errorf("%d datagrams pass, counts %+v; want 10", len(numbers), counts)
	}
}

func TestLossDependsOnTheSeedOnly(t *testing.T) {
	first, _, counts := send(impairment{Loss: .01, Seed: 1}, 100000, 0)
	again, _, _ := send(impairment{Loss: .01, Seed: 1, Delay: ms, Duplicate: 0}, 100000, ms)
	other, _, _ := send(impairment{Loss: .01, Seed: 2}, 100000, 0)
	if !slices.Equal(first, again) || slices.Equal(first, other) {
		t.Error("what is lost does not follow the seed")
	}
	if counts.Lost < 800 || counts.Lost > 1200 || int(counts.Lost)+len(first) != 100000 {
		t.Errorf("%d of 100000 are lost, want about 1000", counts.Lost)
	}
}

func TestReorderingAndRepeating(t *testing.T) {
	numbers, at, counts := send(impairment{Delay: 10 * ms, Reorder: .1, Duplicate: .05, ReorderBy: 3 * ms, Seed: 1}, 10000, 100*time.Microsecond)
	if slices.IsSorted(numbers) || !slices.IsSorted(at) {
		t.Error("nothing is reordered, or time runs back")
	}
	if counts.Reordered < 800 || counts.Reordered > 1200 || counts.Duplicated < 400 || counts.Duplicated > 600 {
		t.Errorf("counts %+v", counts)
	}
	if got, want := len(numbers), 10000+int(counts.Duplicated); got != want {
		t.Errorf("%d datagrams come out, want %d", got, want)
	}
	slices.Sort(numbers)
	if len(slices.Compact(numbers)) != 10000 {
		t.Error("a datagram is missing")
	}
}

func TestFIFO(t *testing.T) {
	var f fifo[int]
	next, want := 0, 0
	for round := range 1000 {
		for range round % 7 {
			f.push(next)
			next++
		}
		for range round % 5 {
			if v := f.front(); v != nil {
				if *v != want {
					t.Fatalf("front %d, want %d", *v, want)
				}
				f.pop()
				want++
			}
		}
	}
	if f.len != next-want {
		t.Errorf("%d left, want %d", f.len, next-want)
	}
}
