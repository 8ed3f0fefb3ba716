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

// handleInitiation answers an initiation of an authorized key. Nothing changes
// before all of it has been verified.
func (r *Responder[A]) handleInitiation(b []byte, from A, now instant) (*Peer[A], error) {
	if err := r.admit(b, from, now); err != nil {
		return nil, err
	}
	req, err := r.host.openStatic(b)
	if err != nil {
		return nil, err
	}
	if !r.config.Authorize(req.static, r.host.now) {
		return nil, ErrUnauthorized
	}
	id := r.identities.get(req.static, now)
	var shared digest
	if id != nil {
		shared = id.shared
	} else if shared, err = r.host.dh(r.host.private, req.static); err != nil {
		return nil, err
	}
	if err := req.openStamp(b, shared); err != nil {
		return nil, err
	}
	p, err := r.claimant(id, &req, shared, from, now)
	if err != nil {
		return nil, err
	}
	if err := p.respond(&req, r.sealedAddr(from), now); err != nil {
		if p.peer.halfOpen != 0 {
			r.remove(p, 0, 0, now)
		}
		return nil, err
	}
	r.address(from)
	p.identity.record(req.stamp)
	r.schedule.update(p)
	return p, nil
}

// claimant returns the peer for a verified initiation: the owner of the address
// if it has the same key, else a newcomer that waits beside it.
func (r *Responder[A]) claimant(id *identity[A], req *request, shared digest, from A, now instant) (*Peer[A], error) {
	origin := r.config.Origin(from)
	owner := r.byOrigin[origin]
	var p *Peer[A]
	if id == nil {
		if req.stamp == (stamp{}) {
			return nil, ErrStaleInitiation
		}
	} else {
		if err := id.check(req.stamp); err != nil {
			return nil, err
		}
		if owner != nil && owner.identity == id {
			p = owner
		} else if i := slices.IndexFunc(id.halfOpen, func(p *Peer[A]) bool { return p.origin == origin }); i >= 0 {
			p = id.halfOpen[i]
			p.peer.halfOpen = now.add(r.host.timers.HalfOpen)
		}
	}
	if p != nil {
		if !p.newest.before(req.stamp) {
			return nil, ErrStaleInitiation
		}
		return p, nil
	}
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

// HandleTimeout does what is due for all peers. It does no harm to call it early.
func (r *Responder[A]) HandleTimeout(now time.Time) {
	at := r.at(now)
	for p := r.schedule.due(at); p != nil; p = r.schedule.due(at) {
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
