package scion

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"syscall"
	"time"
)

const (
	fetchTimeout = time.Minute
	// maxRefresh is the longest time between two fetches. A fetch comes
	// expiryMargin before the first route expires, but not sooner than minRefresh
	// unless all will have expired by then.
	maxRefresh   = 30 * time.Minute
	expiryMargin = 5 * time.Minute
	minRefresh   = time.Minute
	// hurriedRefresh is the least time between two fetches because routes do not
	// work.
	hurriedRefresh = 10 * time.Second
	firstBackoff   = time.Second
	maxBackoff     = time.Minute
)

var (
	errNotFetched = errors.New("not looked up yet")
	errExpired    = errors.New("those looked up have expired")
	errNoRoutes   = errors.New("the network knows none")
)

// Run fetches routes, again and again, until ctx ends, and looks for silence
// while packets are sent. It returns nil.
func (p *Paths) Run(ctx context.Context) error {
	var fetches sync.WaitGroup
	defer fetches.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	fetched := make(chan fetch, 1)
	due := time.NewTimer(0)
	defer due.Stop()
	tick := time.NewTimer(tickInterval)
	defer tick.Stop()
	under, failures, last := false, 0, time.Time{}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-due.C:
			under, last = true, p.clock()
			p.hurry.Store(0)
			fetches.Go(func() { fetched <- p.fetch(ctx) })
		case f := <-fetched:
			if ctx.Err() != nil {
				return nil
			}
			under = false
			if err := p.admit(f); err != nil {
				failures++
				p.logger.Debug("no paths", "destination", p.cfg.Dst, "error", err)
				due.Reset(backoff(failures))
			} else {
				failures = 0
				due.Reset(p.refreshIn())
			}
		case <-p.wake:
			if p.ticking.Load() {
				tick.Reset(tickInterval)
			}
			if pause := time.Duration(p.hurry.Load()); pause > 0 && !under && failures == 0 {
				due.Reset(max(0, pause-p.clock().Sub(last)))
			}
		case <-tick.C:
			if p.tick() {
				tick.Reset(tickInterval)
			}
		}
		p.log()
	}
}

// tick looks for silence. It returns false when nothing is in use any more.
func (p *Paths) tick() bool {
	p.ticking.Store(false) // who sends from now on says so
	busy, suspect := p.look(p.clock())
	if suspect != nil {
		if p.cfg.Suspect != nil {
			p.cfg.Suspect()
		}
		p.mu.Lock()
		p.probing = nil
		p.mu.Unlock()
	}
	if busy {
		p.ticking.Store(true)
	}
	return busy
}

// log writes what there is to say.
func (p *Paths) log() {
	p.mu.Lock()
	said := p.said
	p.said = nil
	p.mu.Unlock()
	for _, r := range said {
		p.logger.Info(r.message, "path", r.route, "reason", r.reason)
	}
}

func backoff(failures int) time.Duration {
	d := min(firstBackoff<<min(failures-1, 10), maxBackoff)
	return d - rand.N(d/4)
}

// A fetch is the outcome of looking routes up.
type fetch struct {
	routes []*Route
	err    error
}

func (p *Paths) fetch(ctx context.Context) fetch {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	routes, err := p.cfg.Fetch(ctx)
	if err == nil && len(routes) == 0 {
		err = errNoRoutes
	}
	return fetch{routes, err}
}

// refreshIn returns when to fetch after a fetch that succeeded.
func (p *Paths) refreshIn() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.clock()
	first, last := maxRefresh+expiryMargin, time.Duration(0)
	for _, c := range p.candidates {
		left := maxRefresh + expiryMargin
		if e := c.expires.Load(); e != 0 {
			left = time.Unix(0, e).Sub(now)
		}
		first, last = min(first, left), max(last, left)
	}
	d := min(maxRefresh, max(first-expiryMargin, first/2))
	d = max(d, min(minRefresh, last/2))
	return d - rand.N(d/10+1)
}

// admit takes the outcome of a fetch. Candidates with the same hops get the
// fresh ones in place; if there are none at all, those there are stay.
func (p *Paths) admit(f fetch) error {
	t := p.clock()
	routes, err := p.admissible(f, t)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		p.err = err
		return err
	}
	p.err = nil
	p.replace(routes, t)
	return nil
}

// replace makes the routes, the best first, those there are. It is called with
// mu held.
func (p *Paths) replace(routes []*Route, t time.Time) {
	now := p.instant(t)
	var next []*candidate
	for i, r := range routes {
		key := hopsKey(r.Path)
		if at := slices.IndexFunc(next, func(c *candidate) bool { return c.key == key }); at >= 0 {
			continue // the same hops again
		}
		c := p.find(key)
		if c == nil {
			c = &candidate{key: key}
		}
		c.rank = i
		p.renew(c, r, now)
		if next = append(next, c); len(next) == maxRoutes {
			break
		}
	}
	var dropped []*candidate
	for _, c := range p.candidates {
		if !slices.Contains(next, c) {
			c.expires.Store(gone)
			dropped = append(dropped, c)
		}
	}
	p.candidates = next
	p.forget()
	p.rank(t)
	for _, c := range dropped {
		p.move(c)
	}
	for _, c := range next {
		if c.tooSmall {
			p.move(c)
		}
	}
}

// renew gives a candidate a fresh route. What is the same as before stays the
// same pointer, so that what was prepared for it stays good.
func (p *Paths) renew(c *candidate, r *Route, now time.Duration) {
	if old := c.route.Load(); old != nil && old.Path != nil {
		if *old.Path == *r.Path {
			r.Path = old.Path
		} else if c.stale {
			c.stale = false // another word on it
			c.until = min(c.until, c.at+c.penalty)
		}
	}
	c.full = r.MTU
	if c.mtu != 0 && now < c.mtuUntil {
		r.MTU = min(r.MTU, c.mtu)
	}
	c.tooSmall = p.small(r)
	c.set(r)
}

// small reports whether a route carries too little.
func (p *Paths) small(r *Route) bool {
	return r.MTU < max(p.cfg.MinMTU, 1) || r.MTU-r.Path.Len() < p.cfg.MinRoom
}

// admissible returns the routes that may be used, as copies, the best first.
func (p *Paths) admissible(f fetch, t time.Time) ([]*Route, error) {
	if f.err != nil {
		return nil, f.err
	}
	var sound []*Route
	var fault error
	expired, small := 0, 0
	for _, r := range f.routes {
		r, err := p.check(r)
		switch {
		case err != nil:
			fault = err
		case !r.Expiry.IsZero() && !t.Before(r.Expiry):
			expired++
		case p.small(r):
			small++
		default:
			sound = append(sound, r)
		}
	}
	if len(sound) > 0 {
		slices.SortStableFunc(sound, func(a, b *Route) int { return b.Expiry.Compare(a.Expiry) })
		if allowed := p.policy.Apply(sound); len(allowed) > 0 {
			return allowed, nil
		}
		return nil, &policyError{p.policy, len(sound)}
	}
	switch {
	case small > 0:
		return nil, fmt.Errorf("none of %d carries packets of %d bytes", len(f.routes), max(p.cfg.MinMTU, p.cfg.MinRoom))
	case expired > 0:
		return nil, errExpired
	}
	return nil, fmt.Errorf("none of %d is valid: %w", len(f.routes), fault)
}

// A policyError says that the policy allows no route. It is an EACCES.
type policyError struct {
	policy *Policy
	routes int
}

func (e *policyError) Error() string {
	return fmt.Sprintf("the path policy %q allows none of %d", e.policy, e.routes)
}
func (e *policyError) Unwrap() error { return syscall.EACCES }
