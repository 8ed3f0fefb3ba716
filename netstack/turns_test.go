package netstack

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// segmentOf makes a TCP segment of a flow, which is told by its source port,
// with size bytes altogether (the headers at least).
func segmentOf(flow uint16, size int) outItem {
	i := tcpPacket{flags: flagACK, payload: make([]byte, max(size-60, 0)), view: 1 << 16}.item()
	put16(i.pkt.TransportHeader().Slice(), flow)
	return i
}

func flowOf(i outItem) uint16 { return be16(i.pkt.TransportHeader().Slice()) }

func newTurns() *turns {
	t := new(turns)
	t.init()
	return t
}

// popAll takes at most n items and returns their flows and sizes.
func popAll(t *turns, n int) (flows []uint16, sizes []int) {
	for range n {
		i, ok := t.pop()
		if !ok {
			break
		}
		flows, sizes = append(flows, flowOf(i)), append(sizes, i.size)
		i.release()
	}
	return flows, sizes
}

func TestSparseFlowsPassAhead(t *testing.T) {
	q := newTurns()
	for range 3 {
		q.push(segmentOf(1, 60000))
	}
	popAll(q, 1)
	q.push(segmentOf(2, 60)) // a handshake
	q.push(segmentOf(3, 500))
	if flows, _ := popAll(q, 10); !slices.Equal(flows, []uint16{2, 3, 1, 1}) {
		t.Errorf("flows came as %d", flows)
	}
}

func TestSparseFlowsDoNotStayAhead(t *testing.T) {
	q := newTurns()
	for range 100 {
		q.push(segmentOf(2, 1000))
	}
	q.push(segmentOf(1, 60000))
	flows, _ := popAll(q, 200)
	if ahead := slices.Index(flows, 1); ahead < 1 || ahead > (sparseBytes+turnBytes)/1000+2 {
		t.Errorf("%d packets of a flow with many small ones pass ahead", ahead)
	}
}

func TestFlowsTakeEqualTurns(t *testing.T) {
	q := newTurns()
	size := map[uint16]int{1: 65000, 2: 20000, 3: 1300}
	sent := map[uint16]int{}
	for flow := range size {
		for total := 0; total < 2<<20; total += size[flow] {
			q.push(segmentOf(flow, size[flow]))
		}
	}
	for range 300 {
		flows, sizes := popAll(q, 1)
		sent[flows[0]] += sizes[0]
	}
	least, most := min(sent[1], sent[2], sent[3]), max(sent[1], sent[2], sent[3])
	if most-least > 65000+turnBytes {
		t.Errorf("flows sent %v bytes", sent)
	}
}

// Whatever is pushed comes out once, and in order within a flow.
func TestTurnsKeepOrder(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	q := newTurns()
	var pushed, popped [20]uint32
	for range 20000 {
		if rng.IntN(2) == 0 || rng.IntN(100) == 0 {
			flow := rng.IntN(len(pushed))
			i := segmentOf(uint16(flow), 60+rng.IntN(1+rng.IntN(9000)))
			put32(i.pkt.TransportHeader().Slice()[4:], pushed[flow])
			pushed[flow]++
			q.push(i)
		} else if i, ok := q.pop(); ok {
			flow := flowOf(i)
			if seq := be32(i.pkt.TransportHeader().Slice()[4:]); seq != popped[flow] {
				t.Fatalf("flow %d: got %d, want %d", flow, seq, popped[flow])
			}
			popped[flow]++
			i.release()
		} else if pushed != popped {
			t.Fatalf("nothing to take: pushed %d, popped %d", pushed, popped)
		}
	}
	for i, ok := q.pop(); ok; i, ok = q.pop() {
		popped[flowOf(i)]++
		i.release()
	}
	if pushed != popped || len(q.lines) != 0 || q.sparse.first != nil || q.rest.first != nil {
		t.Errorf("pushed %d, popped %d; %d lines are left", pushed, popped, len(q.lines))
	}
}

func TestTurnsAllocateNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	q := newTurns()
	items := []outItem{segmentOf(1, 60), segmentOf(2, 60000), segmentOf(3, 1300)}
	if n := testing.AllocsPerRun(1000, func() {
		for _, i := range items {
			q.push(i)
		}
		for range items {
			q.pop()
		}
	}); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

func BenchmarkTurns(b *testing.B) {
	q := newTurns()
	var items []outItem
	for flow := range 200 {
		items = append(items, segmentOf(uint16(flow), 10000))
	}
	b.ReportAllocs()
	for b.Loop() {
		for _, i := range items {
			q.push(i)
		}
		for range items {
			q.pop()
		}
	}
}
