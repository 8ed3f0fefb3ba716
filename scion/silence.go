package scion

import "time"

// A listener finds out whether what is sent is answered.
type listener struct {
	began time.Duration // first of what was sent without an answer; zero: all was answered
	last  time.Duration // last sent, when it was looked at before
}

// listen is told when something was last sent and heard. It is suspect if there
// should have been an answer, and silent if there was none for so long.
func (l *listener) listen(now, sent, heard, long time.Duration) (suspect, silent bool) {
	switch {
	case heard >= sent:
		l.began = 0
	case l.began == 0 || heard >= l.began || sent-l.last > maxPause:
		l.began = sent
	}
	l.last = sent
	if l.began == 0 {
		return false, false
	}
	waited, tried := now-l.began, sent-l.began
	return waited >= suspicion && tried > 0, waited >= long && tried >= attempts
}

// look looks for silence. It reports whether anything is in use, and whom
// somebody should ask for a sign of life.
func (p *Paths) look(t time.Time) (busy bool, suspect *candidate) {
	now := p.instant(t)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.restore(t)
	p.scratch = append(p.scratch[:0], p.candidates...)
	for _, c := range p.scratch {
		sent := time.Duration(c.sent.Load())
		if now-sent > flowIdle || c.tooSmall {
			continue
		}
		busy = true
		if c.left && sent <= c.at+resolution {
			continue // that was before
		}
		doubt, silent := c.listen(now, sent, time.Duration(c.heard.Load()), silence)
		switch {
		case silent:
			p.leave(c, t, "silent")
		case doubt && c.asked != c.began:
			c.asked, suspect = c.began, c
		}
	}
	for i := range p.buckets {
		p.lookAt(&p.buckets[i], now)
	}
	if c := p.trial.Load(); suspect == nil && busy && p.cfg.Suspect != nil && c != nil {
		c.offered, suspect = now, c
		p.rank(t)
	}
	p.probing = suspect
	return busy, suspect
}

// restore looks whether candidates work that were left.
func (p *Paths) restore(t time.Time) {
	now := p.instant(t)
	changed := int64(now) >= p.due.Load()
	for _, c := range p.candidates {
		if c.restored() {
			c.left, c.good = false, now
			c.listener = listener{}
			p.say("path is back", c, "")
			if changed = true; p.blackout {
				p.endBlackout(now)
			}
		}
	}
	for _, c := range p.candidates {
		if p.cfg.Suspect != nil && c.left && c.offered != 0 && now-c.offered >= silence &&
			time.Duration(c.sent.Load()) >= c.offered {
			p.leave(c, t, c.reason) // it was asked, for nothing
			break                   // the others have changed places
		}
	}
	if changed {
		p.rank(t)
	}
}

// lookAt moves the flow of a bucket if it is silent.
func (p *Paths) lookAt(b *bucket, now time.Duration) {
	sent, heard := time.Duration(b.sent.Load()), time.Duration(b.heard.Load())
	c := b.at.Load()
	if c == nil || now-sent > flowIdle {
		b.patience, b.detour = 0, 0
		return
	}
	best := p.best.Load()
	switch {
	case c == best:
		b.detour = 0
	case best != nil && c.class(now) > max(1, best.class(now)):
		b.move(c, best) // it came there while the others left
		return
	case b.detour == 0:
		b.detour = now
	case best != nil && best.class(now) == 0 && now-b.detour >= maxDetour:
		b.move(c, best)
		return
	}
	if heard >= sent {
		b.patience = 0
	}
	long := max(silence, b.patience)
	if _, silent := b.listen(now, sent, heard, long); !silent {
		return
	}
	b.patience = min(2*long, maxPatience)
	if next := p.after(c, now); next != nil {
		b.move(c, next)
	} else {
		b.listener = listener{}
	}
}

// after returns the good candidate that comes after c, from the last on again
// from the first, or nil if there is no other.
func (p *Paths) after(c *candidate, now time.Duration) *candidate {
	var first *candidate
	passed := false
	for _, next := range p.candidates {
		switch {
		case next == c:
			passed = true
		case next.class(now) != 0:
		case passed:
			return next
		case first == nil:
			first = next
		}
	}
	return first
}
