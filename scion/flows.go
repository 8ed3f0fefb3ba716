package scion

import (
	"sync/atomic"
	"time"
)

// Route returns the route for a packet of a flow that is sent now, or nil if
// there is none. It does not lock or allocate.
func (p *Paths) Route(flow uint32) *Route {
	t := p.clock()
	now := p.instant(t)
	b := p.bucket(flow)
	c := b.at.Load()
	if c == nil || now-time.Duration(b.sent.Load()) > flowIdle || c.expired(t) {
		if c = p.assign(b, t); c == nil {
			return nil
		}
	}
	note(&b.sent, now)
	p.noteSent(c, now)
	return c.route.Load()
}

// bucket returns the bucket of a flow, whatever bits of the number vary.
func (p *Paths) bucket(flow uint32) *bucket {
	return &p.buckets[flow*0x9e3779b1>>24] // Fibonacci hashing
}

// assign puts a flow that begins on the best route, or on one that is to be
// tried.
func (p *Paths) assign(b *bucket, t time.Time) *candidate {
	best := p.best.Load()
	if best == nil || best.expired(t) || int64(p.instant(t)) >= p.due.Load() {
		p.mu.Lock()
		p.rank(t)
		best = p.best.Load()
		p.mu.Unlock()
	}
	if c := p.trial.Load(); c != nil && p.cfg.Suspect == nil && !c.expired(t) && p.trial.CompareAndSwap(c, nil) {
		p.mu.Lock()
		c.offered = p.instant(t)
		p.mu.Unlock()
		best = c
	}
	b.at.Store(best)
	return best
}

// noteSent notes that something is sent over a candidate.
func (p *Paths) noteSent(c *candidate, now time.Duration) {
	note(&c.sent, now)
	if !p.ticking.Load() && p.ticking.CompareAndSwap(false, true) {
		p.rouse()
	}
}

// note sets an instant, unless that is hardly later: cache lines that many
// packets share need not be written for each.
func note(at *atomic.Int64, now time.Duration) {
	if now-time.Duration(at.Load()) >= resolution {
		at.Store(int64(now))
	}
}

// Heard notes that an authenticated packet of a flow came in.
func (p *Paths) Heard(flow uint32) {
	now := p.instant(p.clock())
	b := p.bucket(flow)
	note(&b.heard, now)
	note(&p.heard, now)
	if c := b.at.Load(); c != nil && now-time.Duration(b.sent.Load()) <= flowIdle {
		note(&c.heard, now) // it answers what was sent there
	}
}

// HeardOn notes that an authenticated packet came in over a path, which is
// given as the way back, as in the addresses of received datagrams.
func (p *Paths) HeardOn(path *Path) {
	now := p.instant(p.clock())
	note(&p.heard, now)
	if c := p.candidate(path); c != nil {
		note(&c.heard, now)
	}
}

// own is what is known of the messages that are nobody's flow.
type own struct {
	on          *candidate
	first, last time.Duration
	count       int
}

const (
	ownPause    = 6 * time.Second // keepalives are further apart
	ownAttempts = 3
)

// Best returns the best route, or nil if there is none, for a handshake or a
// keepalive that is sent now. If several go out within seconds and nothing
// whatever is heard, the route is left. While Suspect is called, the route is
// that which should be asked.
func (p *Paths) Best() *Route {
	t := p.clock()
	now := p.instant(t)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rank(t)
	if c := p.probing; c != nil && !c.tooSmall && !c.expired(t) {
		p.noteSent(c, now)
		return c.route.Load()
	}
	c := p.best.Load()
	if c == nil {
		return nil
	}
	o := &p.own
	if o.on != c || now-o.last > ownPause || time.Duration(p.heard.Load()) > o.first {
		*o = own{on: c, first: now}
	}
	o.count++
	o.last = now
	if o.count >= ownAttempts && now-o.first >= silence {
		p.leave(c, t, "no answer to handshakes")
		c = p.best.Load()
		*o = own{on: c, first: now, last: now, count: 1}
	}
	p.noteSent(c, now)
	return c.route.Load()
}

// Peek returns the route that Best would, or nil, for other purposes than
// sending.
func (p *Paths) Peek() *Route {
	c := p.best.Load()
	if t := p.clock(); c == nil || c.expired(t) || int64(p.instant(t)) >= p.due.Load() {
		p.mu.Lock()
		p.rank(t)
		c = p.best.Load()
		p.mu.Unlock()
	}
	if c == nil {
		return nil
	}
	return c.route.Load()
}
