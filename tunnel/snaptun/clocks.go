package snaptun

// clocks are the stamps of a peer from which its deadlines follow, as in snap.md
// 1.15, but with deadlines in place of ticks. A deadline only ever moves earlier
// when dirty is set; one that moved later is found out when it comes.
type clocks struct {
	established instant // age of the session in use, also after it is gone
	sentIn      bool    // data was sent since it came into use
	heardIn     bool    // data was received since

	attempt    instant // start of the handshake that is pending
	received   instant // last authenticated message
	sent       instant // last message of ours
	unanswered instant // first data sent since received; 0 none
	waiting    instant // the same, empty messages not counted
	owed       instant // when data received should be answered; 0 not
	halfOpen   instant // when a newcomer is given up; 0 if it is none
	held       instant // when a handshake of ours has its turn; 0 none waits

	dirty bool
}

// An ending tells why a peer is at an end.
type ending int

const (
	alive ending = iota
	expired
	givenUp
	neverConfirmed
)

func (c *clocks) handshakeSent(now instant) {
	c.sent = now
	c.owed = 0
	c.dirty = true
}

func (c *clocks) heard(now instant) {
	c.received = now
	c.unanswered, c.waiting = 0, 0
}

func (c *clocks) dataSent(now instant, payload bool) {
	c.sent = now
	c.owed = 0
	if c.unanswered == 0 {
		c.unanswered = now
		c.dirty = true
	}
	if payload && c.waiting == 0 {
		c.waiting = now
	}
	if !c.sentIn {
		c.sentIn = true
		c.dirty = true
	}
}

func (p *peer) dataReceived(now instant) {
	p.heard(now)
	if p.owed == 0 {
		p.owed = max(p.sent.add(p.h.timers.PassiveKeepalive), now.add(p.h.timers.AnswerDelay))
		p.dirty = true
	}
	if !p.heardIn {
		p.heardIn = true
		p.dirty = true
	}
}

// next returns when tick has something to do, 0 for never.
func (p *peer) next() (d instant) {
	if p.halfOpen != 0 {
		return p.halfOpen
	}
	t := &p.h.timers
	for _, k := range p.ring {
		if k != nil {
			d = sooner(d, k.established.add(t.RejectAfter))
		}
	}
	if p.established != 0 {
		d = sooner(d, p.established.add(t.ExpireAfter))
	}
	if p.pending != nil {
		d = sooner(d, p.attempt.add(t.GiveUpAfter))
		return sooner(d, p.pending.sent.add(t.RekeyTimeout))
	}
	if p.current != nil && p.current.initiator {
		if p.sentIn {
			d = sooner(d, max(p.current.established.add(t.RekeyAfter), p.held))
		}
		if p.heardIn {
			d = sooner(d, max(p.current.established.add(t.rekeyOnReceive()), p.held))
		}
	}
	if p.unanswered != 0 {
		d = sooner(d, max(p.unanswered.add(t.AnswerTimeout), p.held))
	}
	if p.current == nil && p.queue.bytes > 0 {
		d = sooner(d, p.held)
	}
	if p.current != nil {
		d = sooner(d, p.owed)
		if p.h.keepalive > 0 {
			d = sooner(d, p.sent.add(p.h.keepalive))
		}
	}
	return d
}

// tick does what is due. A muted peer is sent nothing, it only grows older.
func (p *peer) tick(now instant, muted bool) ending {
	if p.halfOpen != 0 {
		if now >= p.halfOpen {
			return neverConfirmed
		}
		return alive
	}
	t := &p.h.timers
	for i, k := range p.ring {
		if k != nil && p.tooOld(k, now) {
			p.ring[i] = nil
		}
	}
	if p.established != 0 && now.since(p.established) >= t.ExpireAfter {
		return expired
	}
	if p.usable(now) == nil {
		p.current = nil
	}
	if muted {
		p.abandon()
		p.sentIn, p.heardIn = false, false
		p.unanswered, p.waiting, p.owed, p.held = 0, 0, 0, 0
		p.sent = now // the next persistent keepalive is not due now
		return alive
	}
	if p.pending != nil {
		switch {
		case now.since(p.attempt) >= t.GiveUpAfter:
			return givenUp
		case now.since(p.pending.sent) >= t.RekeyTimeout:
			p.pending.sent = now // should it fail, it is tried again as late
			p.propose(now, false)
		}
		return alive
	}
	if p.outdated(now) {
		if p.propose(now, true); p.held == 0 {
			p.unanswered = 0
			p.sentIn, p.heardIn = false, false
			return alive
		}
	}
	if p.owed != 0 && now >= p.owed {
		p.owed = 0
		p.sendKeepalive(now)
	} else if p.h.keepalive > 0 && now.since(p.sent) >= p.h.keepalive {
		p.sendKeepalive(now)
	}
	return alive
}

// outdated reports whether it is time for a handshake of ours.
func (p *peer) outdated(now instant) bool {
	return now >= p.held && (p.aged(now) ||
		p.unanswered != 0 && now.since(p.unanswered) >= p.h.timers.AnswerTimeout ||
		p.held != 0 && p.current == nil && p.queue.bytes > 0)
}

// aged reports whether it is up to us to replace the session in use.
func (p *peer) aged(now instant) bool {
	if p.current == nil || !p.current.initiator {
		return false
	}
	age := now.since(p.current.established)
	t := &p.h.timers
	return p.sentIn && age >= t.RekeyAfter || p.heardIn && age >= t.rekeyOnReceive()
}
