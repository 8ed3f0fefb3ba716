package netstack

const (
	// sparseBytes is what a flow may send before others that have more to send:
	// handshakes, acknowledgements, requests, the first packets of an answer.
	sparseBytes = 4 << 10
	// turnBytes is what a flow with more to send may send at its turn. A
	// super-segment of several turns' worth goes whole; the flow then misses as
	// many turns.
	turnBytes = 16 << 10
	// spareLines is how many lines are kept for flows to come, and spareItems how
	// long those may be.
	spareLines, spareItems = 256, 64
)

// turns are the lines in which flows wait for their turn, by deficit round robin
// with the sparse ones first (RFC 8290, without its drops: what is queued here
// is bounded by the windows of TCP).
//
//	sparse   line ─ line            first come, first served, a few packets each
//	rest     line ─ line ─ line     turnBytes each, round and round
type turns struct {
	lines        map[tuple]*line // of all flows that wait, and of some that did
	last         *line           // of the item before
	sparse, rest lineList
	free         []*line
}

// A line is the items of one flow.
type line struct {
	tuple  tuple
	items  []outItem // those before first are gone
	first  int
	credit int // bytes that it may send at this turn
	next   *line
	sparse bool // it is in turns.sparse
}

func (t *turns) init() { t.lines = make(map[tuple]*line) }

// push puts i at the end of its flow's line.
func (t *turns) push(i outItem) {
	key := i.tuple()
	l := t.last
	if l == nil || l.tuple != key {
		if l = t.lines[key]; l == nil {
			l = t.begin(key, i.size)
		}
		t.last = l
	}
	if l.first >= spareItems && l.first > len(l.items)/2 {
		n := copy(l.items, l.items[l.first:])
		clear(l.items[n:])
		l.items, l.first = l.items[:n], 0
	}
	l.items = append(l.items, i)
}

// begin makes a line for a flow whose first item is of that size.
func (t *turns) begin(key tuple, size int) *line {
	var l *line
	if n := len(t.free); n > 0 {
		l, t.free = t.free[n-1], t.free[:n-1]
	} else {
		l = new(line)
	}
	l.tuple, l.credit, l.sparse = key, sparseBytes, size <= sparseBytes
	if l.sparse {
		t.sparse.append(l)
	} else {
		l.credit = turnBytes
		t.rest.append(l)
	}
	t.lines[key] = l
	return l
}

// pop takes the next item, or reports that there is none.
func (t *turns) pop() (outItem, bool) {
	for {
		list := &t.sparse
		if list.first == nil {
			list = &t.rest
		}
		l := list.first
		switch {
		case l == nil:
			return outItem{}, false
		case l.empty() && l.sparse && t.rest.first != nil, !l.empty() && l.credit <= 0:
			// It had its turn. A sparse flow that has sent all waits behind the
			// others before it is a new one again.
			list.shift()
			if l.credit <= 0 {
				l.credit += turnBytes
			}
			l.sparse = false
			t.rest.append(l)
		case l.empty():
			list.shift()
			t.end(l)
		default:
			i := l.items[l.first]
			l.items[l.first] = outItem{}
			if l.first++; l.empty() {
				l.items, l.first = l.items[:0], 0
			}
			l.credit -= i.size
			return i, true
		}
	}
}

func (t *turns) end(l *line) {
	delete(t.lines, l.tuple)
	if t.last == l {
		t.last = nil
	}
	if len(t.free) < spareLines && cap(l.items) <= spareItems {
		t.free = append(t.free, l)
	}
}

func (l *line) empty() bool { return l.first == len(l.items) }

// A lineList is lines one after the other.
type lineList struct{ first, last *line }

func (q *lineList) append(l *line) {
	l.next = nil
	if q.first == nil {
		q.first = l
	} else {
		q.last.next = l
	}
	q.last = l
}

// shift takes the first line away.
func (q *lineList) shift() {
	l := q.first
	if q.first = l.next; q.first == nil {
		q.last = nil
	}
	l.next = nil
}
