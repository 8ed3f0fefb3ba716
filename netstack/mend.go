package netstack

import (
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
)

const (
	// maxHoles bounds what is known of the holes in one flight, and maxTries how
	// often one is filled, before the sender is told.
	maxHoles = 128
	maxTries = 3
	// A packet that arrives earns 1/creditPerPacket of one that may be lost, up
	// to maxCredit such packets: 1.6 %. BBRv2 takes 2 % for congestion.
	creditPerPacket = 64
	maxCredit       = 24 * creditPerPacket
	firstCredit     = 8 * creditPerPacket

	minReorder = time.Millisecond
)

// A mend is what is known of the holes in a flight. gVisor's TCP takes each hole
// that it hears of for congestion, even where packets are only late, and never
// takes that back. So it is not told of holes: they are given a little time,
// then filled from what the flight holds. It is told as soon as the loss looks
// like congestion: there is more of it than paths lose by chance, or a queue
// has been standing, or filling does not help.
//
//	una        start   end          start end      high            next
//	 |  sacked?   | hole |  sacked    | hole | sacked |  on its way  |
//
// Above una there is a hole first, else it would be acknowledged.
type mend struct {
	high    uint32 // where what was selectively acknowledged ends; una: nothing
	holes   []hole // in order, apart
	credit  int    // what may be lost before it is too much
	reorder time.Duration
	due     tcpip.MonotonicTime // when a hole needs something done
	listed  int                 // where in flights.mends, from 1; 0: not

	aside bool   // the sender has been told, and mends by itself
	told  bool   // of all that is there above una
	until uint32 // what was in flight when it was told

	drip drip
}

// A hole is missing at the far side.
type hole struct {
	start, end uint32
	seen, sent tcpip.MonotonicTime // first, and again
	tries      int
}

// begin resets m for a flight at seq.
func (m *mend) begin(seq uint32) {
	*m = mend{high: seq, holes: m.holes[:0], credit: firstCredit, listed: m.listed, drip: drip{shown: seq}}
}

// acked notes that the far side has everything before una, which earns credit
// for that many packets.
func (m *mend) acked(una uint32, packets int, now tcpip.MonotonicTime, rtt time.Duration) {
	m.credit = min(m.credit+packets, maxCredit)
	n := 0
	for n < len(m.holes) && before(m.holes[n].start, una) {
		m.found(&m.holes[n], now, rtt)
		if before(una, m.holes[n].end) {
			m.holes[n].start = una
			break
		}
		n++
	}
	if n > 0 {
		m.holes = m.holes[:copy(m.holes, m.holes[n:])]
	}
	if before(m.high, una) {
		m.high = una
	}
	if m.aside && !before(una, m.until) {
		m.aside, m.credit = false, max(m.credit, firstCredit)
		for i := range m.holes { // the sender knows of these
			m.holes[i].tries, m.holes[i].sent = maxTries-1, now
		}
	}
}

// sacked notes that the far side has what is from start to end. It reports
// false if there are too many holes to know.
func (m *mend) sacked(start, end uint32, now tcpip.MonotonicTime, rtt time.Duration) bool {
	if !before(start, m.high) {
		if start != m.high {
			if len(m.holes) == maxHoles {
				return false
			}
			m.holes = append(m.holes, hole{start: m.high, end: start, seen: now})
		}
		m.high = end
		return true
	}
	for i := 0; i < len(m.holes); {
		h := &m.holes[i]
		if !before(start, h.end) {
			i++
			continue
		}
		if !before(h.start, end) {
			break
		}
		m.found(h, now, rtt)
		switch left, right := before(h.start, start), before(end, h.end); {
		case left && right:
			if len(m.holes) == maxHoles {
				return false
			}
			rest := *h
			h.end, rest.start = start, end
			m.holes = append(m.holes, hole{})
			copy(m.holes[i+2:], m.holes[i+1:])
			m.holes[i+1] = rest
			i += 2
		case left:
			h.end = start
			i++
		case right:
			h.start = end
			i++
		default:
			m.holes = append(m.holes[:i], m.holes[i+1:]...)
		}
	}
	if before(m.high, end) {
		m.high = end
	}
	return true
}

// found learns from what was missing and has arrived. If nobody can have sent
// it again, it was only late.
func (m *mend) found(h *hole, now tcpip.MonotonicTime, rtt time.Duration) {
	switch {
	case m.aside || h.tries > 1:
		return
	case h.tries == 1 && now.Sub(h.sent) >= rtt*3/4:
		m.reorder -= m.reorder / 32
		return
	case h.tries == 1:
		m.credit = min(m.credit+creditPerPacket, maxCredit)
	}
	late := now.Sub(h.seen)
	m.reorder = min(max(m.reorder, late+late/4, minReorder), rtt)
}

// wait returns when something is to be done about a hole: when it is too late
// for it to be filled by packets on their way, or what filled it is lost too.
func (m *mend) wait(h *hole, room uint32, g *gauge) tcpip.MonotonicTime {
	late := min(m.reorder, g.least()/2)
	switch {
	case h.tries > 0:
		return h.sent.Add(g.smooth + max(g.smooth/4, late, 5*time.Millisecond))
	case m.reorder == 0 && m.high-h.end > 2*room:
		return h.seen // at once, as after three duplicate acknowledgements
	case m.reorder == 0:
		late = g.least() / 4
	}
	return h.seen.Add(max(late, minReorder))
}

// stepAside lets the sender know what is lost, until what is now in flight has
// arrived.
func (m *mend) stepAside(next uint32) {
	m.until = next
	if !m.aside {
		m.aside, m.told = true, false
	}
}
