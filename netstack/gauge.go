package netstack

import (
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
)

// leastAge is how long the least round trip time of a path is believed.
const leastAge = 10 * time.Second

// A gauge knows the round trip times of a flight, and by them whether a queue
// has been standing on its path.
type gauge struct {
	lows   [2]time.Duration // the least in the leastAge before and in this one; zero: none
	began  tcpip.MonotonicTime
	smooth time.Duration
	low    time.Duration // the least in this round trip, and in the one before
	past   time.Duration
	end    uint32 // where this round trip ends
	count  int    // of measurements in it
}

// measured takes the round trip time of the byte before seq, while all before
// next is in flight.
func (g *gauge) measured(rtt time.Duration, seq, next uint32, now tcpip.MonotonicTime) {
	rtt = max(rtt, 1)
	if g.smooth == 0 {
		*g = gauge{smooth: rtt, began: now, end: next}
	}
	g.smooth += (rtt - g.smooth) / 8
	if now.Sub(g.began) > leastAge {
		g.lows, g.began = [2]time.Duration{g.lows[1]}, now
	}
	g.lows[1] = lesser(g.lows[1], rtt)
	if !before(seq, g.end) {
		g.past, g.low, g.end, g.count = g.low, 0, next, 0
	}
	g.low = lesser(g.low, rtt)
	g.count++
}

// least is the least round trip time of late; 100 ms if none is known.
func (g *gauge) least() time.Duration {
	if d := lesser(g.lows[0], g.lows[1]); d > 0 {
		return d
	}
	return 100 * time.Millisecond
}

// queued reports whether packets have waited for a whole round trip, all of
// them: a queue on the path is full or about to be.
func (g *gauge) queued() bool {
	low := g.low
	if g.count < 4 {
		low = lesser(g.past, g.low)
	}
	least := g.least()
	return low > least+max(least/8, 4*time.Millisecond)
}

// lesser returns the lesser of two durations of which zero is none.
func lesser(a, b time.Duration) time.Duration {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}
