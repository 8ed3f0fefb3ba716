package scion

import (
	"cmp"
	"slices"
	"sync/atomic"
	"time"
)

// A candidate is a route that can be chosen. Fresh hop fields replace its route
// in place, so that the flows on it need not move.
type candidate struct {
	route       atomic.Pointer[Route]
	expires     atomic.Int64 // Unix time in nanoseconds; what is gone has expired
	sent, heard atomic.Int64 // instants of the last

	// What follows is guarded by Paths.mu.
	key  string // of the interfaces
	rank int    // in the order of the policy
	listener
	standing
}

// A standing is how a candidate fares.
//
//	      leave                 until                      heard
//	good ───────▶ left: comes last ───────▶ due: is tried ───────▶ good
//	                     ▲                         │
//	                     └─────────────────────────┘
//	                         leave: twice as long
//
// If all are left, one of them is used all the same, and is good again if
// something is heard.
type standing struct {
	left     bool
	at       time.Duration // when it was left
	until    time.Duration // when it may be tried again
	offered  time.Duration // when it last was
	good     time.Duration // since when it is good again
	penalty  time.Duration // the last
	reason   string
	reported bool          // left because of a report, not for silence
	asked    time.Duration // the silence about which somebody was asked
	stale    bool          // its hop fields were refused
	tooSmall bool          // its MTU is below the least: it is not used at all
	mtu      int           // largest packet that was not reported too big; zero: any
	mtuUntil time.Duration // how long that is believed
	full     int           // the MTU without it
}

const (
	// retrial is how often a route that is due is tried, if that comes to no
	// result.
	retrial = 5 * time.Second
	// maxDetour is how long a bucket that is never idle stays on a route that is
	// not the best.
	maxDetour = time.Minute
	// staleFor is how long a route comes last whose hop fields were refused,
	// unless there are fresh ones.
	staleFor = 5 * time.Minute
	// mtuFor is how long a reported MTU is believed.
	mtuFor = 10 * time.Minute
)

// gone is the expiry of a candidate that no longer is one.
const gone = 1

func (c *candidate) expired(t time.Time) bool {
	e := c.expires.Load()
	return e != 0 && t.UnixNano() >= e
}

// set gives the candidate a route, which must be admissible.
func (c *candidate) set(r *Route) {
	c.route.Store(r)
	var expires int64
	if !r.Expiry.IsZero() {
		expires = r.Expiry.UnixNano()
	}
	c.expires.Store(expires)
}

// alive reports whether the candidate is not left, or only to be tried again.
func (c *candidate) alive(now time.Duration) bool {
	return !c.tooSmall && (!c.left || now >= c.until)
}

// class is the coarse order of candidates: good, due, left.
func (c *candidate) class(now time.Duration) int {
	switch {
	case c.tooSmall:
		return 3
	case !c.left:
		return 0
	case now >= c.until:
		return 1
	}
	return 2
}

// leave notes that the candidate does not work. elsewhere is when something was
// last heard of another one: if that is not since it was left before, the fault
// may be with us, and the penalty does not grow.
func (c *candidate) leave(now, elsewhere time.Duration, reason string) {
	switch {
	case c.penalty == 0 || !c.left && now-c.good >= c.penalty:
		c.penalty = firstPenalty
	case elsewhere > c.at:
		c.penalty = min(2*c.penalty, maxPenalty)
	}
	c.left, c.at, c.until, c.reason = true, now, now+c.penalty, reason
	c.offered, c.asked, c.reported = 0, 0, false
	c.listener = listener{}
}

// restored reports whether a candidate that was left works: something was heard
// after it was asked, or it is used again and what was heard had not been under
// way before.
func (c *candidate) restored() bool {
	sent, heard := time.Duration(c.sent.Load()), time.Duration(c.heard.Load())
	switch {
	case !c.left:
		return false
	case c.offered != 0 && sent >= c.offered && heard > c.offered:
		return true
	}
	return heard-c.at >= silence && sent > c.at+resolution
}

// rank orders the candidates, forgets what has expired, and lets new flows have
// the best. It is called with mu held.
func (p *Paths) rank(t time.Time) {
	now := p.instant(t)
	before := len(p.candidates)
	for _, c := range p.candidates {
		if c.mtu != 0 && now >= c.mtuUntil {
			full := *c.route.Load()
			full.MTU, c.mtu, c.tooSmall = c.full, 0, false
			c.route.Store(&full)
		}
	}
	p.candidates = slices.DeleteFunc(p.candidates, func(c *candidate) bool {
		expired := c.expired(t)
		if expired {
			p.forget()
		}
		return expired
	})
	if before > 0 && len(p.candidates) == 0 {
		p.err = errExpired
		p.hurryUp(hurriedRefresh)
	}
	slices.SortStableFunc(p.candidates, func(a, b *candidate) int {
		if n := cmp.Compare(a.class(now), b.class(now)); n != 0 {
			return n
		}
		if a.class(now) == 2 { // who was left first has waited longest
			if n := cmp.Compare(a.at, b.at); n != 0 {
				return n
			}
		}
		return cmp.Compare(a.rank, b.rank)
	})
	var best *candidate
	if len(p.candidates) > 0 && !p.candidates[0].tooSmall {
		best = p.candidates[0]
	}
	p.best.Store(best)
	if best != nil && best.class(now) == 2 {
		if !p.blackout {
			p.hurryUp(minRefresh) // there may be others by now
		}
		p.blackout = true
	}
	if best != nil && !p.was {
		p.was = true
		close(p.ready)
	}
	p.offer(now, best)
	p.due.Store(int64(p.nextChange(now)))
}

// offer finds a better route that was left and should be tried: by a message
// that Suspect makes the far end answer, or else by one flow. Others take it
// only when that has worked.
func (p *Paths) offer(now time.Duration, best *candidate) {
	var trial *candidate
	for _, c := range p.candidates {
		if c.class(now) == 1 && c != best && c.rank < best.rank &&
			(c.offered == 0 || now-c.offered >= retrial) && (trial == nil || c.rank < trial.rank) {
			trial = c
		}
	}
	p.trial.Store(trial)
}

// nextChange returns when rank might come to another result.
func (p *Paths) nextChange(now time.Duration) time.Duration {
	next := now + time.Minute
	for _, c := range p.candidates {
		if c.mtu != 0 {
			next = min(next, c.mtuUntil)
		}
		if c.left && c.until > now {
			next = min(next, c.until)
		} else if c.left {
			next = min(next, max(c.offered, now)+retrial)
		}
	}
	return next
}

// move lets the flows on a candidate take the best one now. It is called with
// mu held, after rank.
func (p *Paths) move(from *candidate) (moved bool) {
	best := p.best.Load()
	for i := range p.buckets {
		b := &p.buckets[i]
		if b.at.Load() == from && best != from {
			moved = b.move(from, best) || moved
		}
	}
	return moved
}

// move puts the flow of a bucket on another candidate. It is called with
// Paths.mu held.
func (b *bucket) move(from, to *candidate) bool {
	if !b.at.CompareAndSwap(from, to) {
		return false // it has just begun anew
	}
	b.listener, b.detour = listener{}, 0
	return true
}

// endBlackout ends a time in which nothing answered: what fell silent in it was not to blame, so that it is
// tried again at once.
func (p *Paths) endBlackout(now time.Duration) {
	p.blackout = false
	for _, c := range p.candidates {
		if c.left && !c.reported {
			c.until = min(c.until, now)
		}
	}
}

// leave takes a candidate out and moves its flows. It is called with mu held.
func (p *Paths) leave(c *candidate, t time.Time, reason string) {
	var elsewhere time.Duration
	for _, other := range p.candidates {
		if other != c {
			elsewhere = max(elsewhere, time.Duration(other.heard.Load()))
		}
	}
	// When nobody answers, it is hardly the route, and there is no news in it.
	news := elsewhere > c.at || c.penalty == 0
	c.leave(p.instant(t), elsewhere, reason)
	if news {
		p.say("path left", c, reason)
	}
	p.rank(t)
	p.move(c)
}

// say puts a remark on the list for the log.
func (p *Paths) say(message string, c *candidate, reason string) {
	const enough = 100 // when Run does not run
	if len(p.said) < enough {
		p.said = append(p.said, remark{message, c.route.Load().String(), reason})
	}
	p.rouse()
}
