package snaptun

import "time"

// A Peer is one of the other sides of a Responder: a key at an address. Key,
// Origin and ID never change and may be called at any time; the other methods
// need the same exclusive access as the Responder.
type Peer[A comparable] struct {
	peer
	origin   A
	route    A
	identity *identity[A]

	// The packet that chose the route.
	routeKeys    *Keypair
	routeCounter uint64

	muted instant // since when not authorized; 0 if it is
	wake  instant // when the schedule looks at it; 0 if it is not there
	place int     // in the schedule
}

// Key returns the identity of the peer.
func (p *Peer[A]) Key() PublicKey { return p.key }

// Origin returns the address that the peer owns, without a route.
func (p *Peer[A]) Origin() A { return p.origin }

// Route returns the address with the route that the peer used last: that of the
// authenticated packet with the highest counter.
func (p *Peer[A]) Route() A { return p.route }

// ID returns the 24 bits that are the upper part of all our session indices
// with this peer. No two peers have the same at one time.
func (p *Peer[A]) ID() uint32 { return p.base }

// LastReceived returns when the last authenticated message came.
func (p *Peer[A]) LastReceived() time.Time { return p.h.time(p.received) }

// Handshaked returns when the newest session was made.
func (p *Peer[A]) Handshaked() time.Time { return p.h.time(p.established) }

// MutedSince returns since when the key is known not to be authorized, the zero
// time if it is.
func (p *Peer[A]) MutedSince() time.Time { return p.h.time(p.muted) }

// String names the key of the peer.
func (p *Peer[A]) String() string { return "peer " + p.key.String() }

// travel takes the route of an authenticated packet, unless a later one was
// seen: one of the session in use counts more than those of sessions before.
func (p *Peer[A]) travel(k *Keypair, counter uint64, from A) {
	if k != p.current || k == p.routeKeys && counter < p.routeCounter {
		return
	}
	p.route, p.routeKeys, p.routeCounter = from, k, counter
}
