package netstack

import (
	"net/netip"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
)

const (
	// flightTick is how often flights are looked at while there are any.
	flightTick = 50 * time.Millisecond
	// maxResent bounds the packets that are sent again in one tick.
	maxResent = 256

	// An answer is late after twice the round trip and minPatience/2, but not
	// before minPatience nor after maxPatience.
	minPatience = 200 * time.Millisecond
	maxPatience = 2 * time.Second
)

// Revive sends again a part of what is unacknowledged on each connection to
// dst, or of all if dst is not valid, unless it may still be answered. It is
// for whoever learns, from below, that a silence has ended or a route changed.
// What comes out of the link is noticed anyway.
func (s *Stack) Revive(dst netip.Addr) {
	f := &s.flights
	if f.n.Load() == 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.exit {
		dst = netip.Addr{}
	}
	now := f.clock.NowMonotonic()
	for addr, p := range f.peers {
		if !dst.IsValid() || addr == dst {
			f.revive(p, now, p.rtt+p.rtt/4+50*time.Millisecond)
		}
	}
}

// measured takes a round trip time into account.
func (p *peer) measured(rtt time.Duration) {
	if p.rtt == 0 || rtt < p.rtt {
		p.rtt = max(rtt, 1)
	} else {
		p.rtt += (rtt - p.rtt) / 8
	}
}

// patience is after which time an answer is late.
func (p *peer) patience() time.Duration {
	if p.rtt == 0 {
		return time.Second
	}
	return min(max(2*p.rtt+minPatience/2, minPatience), maxPatience)
}

// revive ends a silence: it sends again part of the flights to p that have
// been without an answer for that long.
func (f *flights) revive(p *peer, now tcpip.MonotonicTime, overdue time.Duration) {
	p.revived = now
	budget := maxResent
	for _, fl := range f.table {
		if fl.peer == p && fl.overdue(now) >= overdue && budget > 0 {
			budget -= f.again(fl, now)
		}
	}
}

// again sends part of a flight again.
func (f *flights) again(fl *flight, now tcpip.MonotonicTime) int {
	fl.mend.stepAside(fl.next)
	n := fl.again(f.room(fl), now, f.out.tryPush)
	f.counters.add(flightsRevived)
	f.counters.addN(outResent, n)
	return n
}

// tick looks at all flights.
func (f *flights) tick() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return
	}
	now := f.clock.NowMonotonic()
	budget := maxResent
	for _, fl := range f.table {
		if fl.empty() && now.Sub(fl.sent) >= flightIdle || now.Sub(fl.sent) >= flightOrphan {
			f.forget(fl)
			continue
		}
		p := fl.peer
		patience := p.patience()
		if budget <= 0 || fl.overdue(now) < patience {
			continue
		}
		if silence := now.Sub(p.heard); silence >= patience {
			// One flight speaks for all, ever more seldom.
			if !now.Before(p.probe) {
				p.probe = now.Add(max(patience, silence/8))
				fl.fill = 0
				budget -= f.again(fl, now)
			}
		} else if fl.tried.Before(p.revived) || now.Sub(fl.tried) >= patience<<min(fl.tries, 4) {
			fl.fill = 0
			budget -= f.again(fl, now)
		}
	}
	if f.running = len(f.table) > 0; f.running {
		f.timer.Reset(flightTick)
	}
}
