package snaptun

import (
	"slices"
	"time"
)

// admit checks what is checked of both handshake messages before any X25519.
func (r *Responder[A]) admit(b []byte, from A, now instant) error {
	if !r.host.gate.knowsUs(b) {
		return ErrMAC1
	}
	if !r.host.gate.crowded(now) {
		return nil
	}
	r.space = r.config.CookieAddr(r.space[:0], from)
	n := len(r.space)
	r.space = r.config.SourceAddr(r.space, from)
	err := r.host.admit(b, r.space[:n], r.space[n:], now)
	r.address(from)
	return err
}

// known returns the peer that an identity has at an origin, confirmed or not, nil
// if there is none. The error is about a timestamp that is not new.
func (r *Responder[A]) known(id *identity[A], s stamp, origin A) (p *Peer[A], err error) {
	if id == nil {
		if s == (stamp{}) {
			return nil, ErrStaleInitiation
		}
		return nil, nil
	}
	if err := id.check(s); err != nil {
		return nil, err
	}
	if p = r.byOrigin[origin]; p == nil || p.identity != id {
		p = nil
		if i := slices.IndexFunc(id.halfOpen, func(p *Peer[A]) bool { return p.origin == origin }); i >= 0 {
			p = id.halfOpen[i]
		}
	}
	if p != nil && !p.newest.before(s) {
		return nil, ErrStaleInitiation
	}
	return p, nil
}

// claimant returns the peer for a verified initiation: the owner of the address
// if it has the same key, else a newcomer that waits beside it.
func (r *Responder[A]) claimant(id *identity[A], req *request, shared digest, from A, now instant) (*Peer[A], error) {
	origin := r.config.Origin(from)
	p, err := r.known(id, req.stamp, origin)
	if err != nil {
		return nil, err
	}
	if p != nil {
		if p.peer.halfOpen != 0 {
			p.peer.halfOpen = now.add(r.host.timers.HalfOpen)
		}
		return p, nil
	}
	owner := r.byOrigin[origin]
	if owner == nil && len(r.byOrigin) >= r.config.MaxPeers {
		return nil, ErrTooManyPeers
	}
	if id != nil && len(id.halfOpen) >= maxHalfOpenOwn {
		r.remove(id.halfOpen[0], 0, 0, now)
	} else if r.halfOpen >= maxHalfOpen {
		return nil, ErrTooManyPeers
	}
	base, err := r.freeBase()
	if err != nil {
		return nil, err
	}
	if id == nil {
		id = r.identities.add(req.static, shared, now)
	}
	p = &Peer[A]{origin: origin, route: from, identity: id}
	p.peer = peer{h: &r.host, key: req.static, shared: shared, base: base}
	p.peer.halfOpen = now.add(r.host.timers.HalfOpen)
	r.byBase[base] = p
	r.identities.join(id)
	id.halfOpen = append(id.halfOpen, p)
	r.halfOpen++
	return p, nil
}

// freeBase draws the upper 24 bits for the indices of a new peer.
func (r *Responder[A]) freeBase() (uint32, error) {
	for {
		n, err := r.host.randomUint32()
		if err != nil {
			return 0, err
		}
		if base := n >> 8; r.byBase[base] == nil {
			return base, nil
		}
	}
}

func (r *Responder[A]) sealedAddr(from A) [sockaddrSize]byte {
	if r.config.SealedAddr == nil {
		return [sockaddrSize]byte{0: 4}
	}
	b := sockaddr(r.config.SealedAddr(from))
	putBurst(&b, r.config.Burst)
	return b
}

// confirm gives a newcomer the address at which it has shown to receive.
func (r *Responder[A]) confirm(p *Peer[A], now instant) error {
	if owner := r.byOrigin[p.origin]; owner != nil {
		r.remove(owner, CauseReplaced, 0, now)
	} else if len(r.byOrigin) >= r.config.MaxPeers {
		r.remove(p, 0, 0, now)
		return ErrTooManyPeers
	}
	r.noLongerHalfOpen(p)
	r.byOrigin[p.origin] = p
	p.dirty = true
	r.events.tell(Confirmed[A]{p})
	return nil
}

func (r *Responder[A]) noLongerHalfOpen(p *Peer[A]) {
	i := slices.Index(p.identity.halfOpen, p)
	p.identity.halfOpen = slices.Delete(p.identity.halfOpen, i, i+1)
	p.peer.halfOpen = 0
	r.halfOpen--
}

// remove drops a peer and all its keys.
func (r *Responder[A]) remove(p *Peer[A], cause Cause, reason Reason, now instant) {
	if p.peer.halfOpen != 0 {
		r.noLongerHalfOpen(p)
	} else {
		delete(r.byOrigin, p.origin)
		r.events.tell(Gone[A]{p, cause, reason})
	}
	delete(r.byBase, p.base)
	r.schedule.remove(p)
	r.identities.leave(p.identity, now)
	p.forget()
	p.routeKeys = nil
}

// handleResponse completes a handshake that we started.
func (r *Responder[A]) handleResponse(b []byte, from A, now instant) (*Peer[A], error) {
	if err := r.admit(b, from, now); err != nil {
		return nil, err
	}
	p, err := r.lookup(b, from)
	if err != nil {
		return nil, err
	}
	if !r.authorized(p, now) {
		return nil, ErrUnauthorized
	}
	if _, err := p.handleResponse(b, now); err != nil {
		return nil, err
	}
	p.travel(p.current, 0, from)
	r.address(p.route)
	r.schedule.update(p)
	return p, nil
}

// timeoutPeers is how many peers HandleTimeout looks at: a millisecond's work.
const timeoutPeers = 512

// HandleTimeout does what is due, for at most 512 peers and ten handshakes at a
// time. If there is more, NextTimeout does not lie in the future. It does no harm
// to call it early.
func (r *Responder[A]) HandleTimeout(now time.Time) {
	at := r.at(now)
	started := r.host.drive.started
	for range timeoutPeers {
		if r.host.drive.started-started >= driveBurst {
			return
		}
		p := r.schedule.due(at)
		if p == nil {
			return
		}
		muted := p.peer.halfOpen == 0 && !r.authorized(p, at)
		switch p.tick(at, muted) {
		case expired:
			r.remove(p, CauseExpired, 0, at)
			continue
		case givenUp:
			r.remove(p, CauseGivenUp, 0, at)
			continue
		case neverConfirmed:
			r.remove(p, 0, 0, at)
			continue
		}
		r.address(p.route)
		p.dirty = true
		r.schedule.update(p)
	}
}
