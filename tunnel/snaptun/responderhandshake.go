package snaptun

import "time"

// A Handshake is an initiation that a Responder is at work on. Compute and
// Responder.Continue take turns until that is done: a quarter of a millisecond
// goes into the one, which needs no access to the Responder, and next to nothing
// into the other.
type Handshake[A comparable] struct {
	host    *host // of which only the keys are used
	from    A
	message [initiationSize]byte
	step    handshakeStep
	req     request
	counted int // of the X25519 operations of req

	shared digest // X25519 of the two static keys
	known  bool   // shared is
	draw   PrivateKey
	err    error
}

// A handshakeStep is what Compute does next.
type handshakeStep int

const (
	stepStatic handshakeStep = iota
	stepStamp
	stepAnswer
)

// IsInitiation reports whether a datagram is an initiation, for Begin.
func IsInitiation(b []byte) bool { return messageType(b) == typeInitiation }

// Begin takes up an initiation received from an address. An error says why it is
// of no use. b is not kept.
func (r *Responder[A]) Begin(b []byte, from A, now time.Time) (*Handshake[A], error) {
	at := r.at(now)
	if !IsInitiation(b) {
		return nil, ErrNotSNAPtun
	}
	if err := r.admit(b, from, at); err != nil {
		return nil, err
	}
	return &Handshake[A]{host: &r.host, from: from, message: [initiationSize]byte(b)}, nil
}

// Compute does what can be done without the Responder.
func (h *Handshake[A]) Compute() {
	if h.err != nil {
		return
	}
	switch h.step {
	case stepStatic:
		h.req, h.err = h.host.openStatic(h.message[:])
	case stepStamp:
		if !h.known {
			h.req.dhs++
			if h.shared, h.err = x25519(h.host.private, h.req.static); h.err != nil {
				return
			}
		}
		h.err = h.req.openStamp(h.message[:], h.shared)
	case stepAnswer:
		h.err = h.req.prepare(&h.draw)
	}
}

// Continue takes what Compute has found. If done is false there is more to
// compute; else p is the peer that has been answered, or err says why none was.
// Nothing changes before all of the initiation has been verified.
func (r *Responder[A]) Continue(h *Handshake[A], now time.Time) (p *Peer[A], done bool, err error) {
	at := r.at(now)
	r.host.dhs += h.req.dhs - h.counted
	h.counted = h.req.dhs
	if h.err != nil {
		return nil, true, h.err
	}
	if !r.config.Authorize(h.req.static, r.host.now) {
		return nil, true, ErrUnauthorized
	}
	id := r.identities.get(h.req.static, at)
	switch h.step {
	case stepStatic:
		if id != nil {
			h.shared, h.known = id.shared, true
		}
	case stepStamp:
		if _, err := r.known(id, h.req.stamp, r.config.Origin(h.from)); err != nil {
			return nil, true, err
		}
		if h.draw, err = r.host.drawKey(); err != nil {
			return nil, true, err
		}
	default:
		p, err := r.claimant(id, &h.req, h.shared, h.from, at)
		if err != nil {
			return nil, true, err
		}
		p.respond(&h.req, r.sealedAddr(h.from), at)
		r.address(h.from)
		p.identity.record(h.req.stamp)
		r.schedule.update(p)
		return p, true, nil
	}
	h.step++
	return nil, false, nil
}

// handleInitiation answers an initiation of an authorized key.
func (r *Responder[A]) handleInitiation(b []byte, from A, now time.Time) (p *Peer[A], err error) {
	h, err := r.Begin(b, from, now)
	for done := false; err == nil && !done; {
		h.Compute()
		p, done, err = r.Continue(h, now)
	}
	return p, err
}
