package snaptun

import (
	"errors"
	"fmt"
	"io"
	"iter"
	"net/netip"
	"time"
)

const (
	defaultMaxPeers = 1 << 17
	// maxResponderQueued bounds the bytes that wait for sessions with all peers.
	maxResponderQueued = 64 << 20
	// maxHalfOpen is how many newcomers may wait in all.
	maxHalfOpen = 1 << 12
)

// A ResponderConfig says who may talk with us. A is the address of a datagram;
// it may contain a route, which Origin takes off.
type ResponderConfig[A comparable] struct {
	// PrivateKey is our static key.
	PrivateKey PrivateKey
	// Authorize tells whether a key is authorized at this moment. It is asked for
	// every packet in both directions, so it must be quick and must not lock.
	Authorize func(PublicKey, time.Time) bool
	// Origin returns an address without its route: what is compared, and owned by a
	// peer. If nil, addresses have no route.
	Origin func(A) A
	// SealedAddr returns the address that is told to an initiator at from. If nil,
	// an address of zeros is.
	SealedAddr func(from A) netip.AddrPort
	// Burst is how many bytes of datagrams our network takes in at once. It is told
	// to initiators beside an IPv4 address. If zero, it is not.
	Burst int
	// CookieAddr appends the bytes of an address that a cookie is bound to: all of
	// it but the route. If nil, what fmt prints.
	CookieAddr func(dst []byte, a A) []byte
	// SourceAddr appends the bytes that name the host behind an address. Under
	// load a host is admitted 20 handshakes a second. If nil, CookieAddr.
	SourceAddr func(dst []byte, a A) []byte
	// HandshakeLimit is how many handshake messages a second are taken without a
	// cookie. If zero, 2000.
	HandshakeLimit int
	// MaxPeers is how many peers there may be. If zero, 131,072.
	MaxPeers int
	// Keepalive is the interval of persistent keepalives. If zero, none are sent.
	Keepalive time.Duration
	// Timers replaces durations of the protocol, for tests.
	Timers Timers
	// Rand is the source of keys. If nil, crypto/rand.
	Rand io.Reader
}

// A Responder is the protocol with many peers, each of which is a key at an
// address. Its methods need exclusive access.
//
// A key that initiates from a new address waits half-open, beside whoever owns
// the address, until its first data message shows that it receives there.
type Responder[A comparable] struct {
	config     ResponderConfig[A]
	host       host
	to         []A                 // where the messages in host.out go
	byOrigin   map[A]*Peer[A]      // confirmed peers
	byBase     map[uint32]*Peer[A] // all peers, by the upper bits of their indices
	identities identities[A]
	halfOpen   int
	schedule   schedule[A]
	events     events
	space      []byte // for the bytes of addresses
}

// NewResponder returns a Responder without peers.
func NewResponder[A comparable](config ResponderConfig[A], now time.Time) (*Responder[A], error) {
	if config.Authorize == nil {
		return nil, errors.New("new responder: no Authorize")
	}
	if config.MaxPeers < 0 {
		return nil, errors.New("new responder: negative MaxPeers")
	}
	if config.MaxPeers == 0 {
		config.MaxPeers = defaultMaxPeers
	}
	if config.Origin == nil {
		config.Origin = func(a A) A { return a }
	}
	if config.CookieAddr == nil {
		config.CookieAddr = func(dst []byte, a A) []byte { return fmt.Append(dst, config.Origin(a)) }
	}
	if config.SourceAddr == nil {
		config.SourceAddr = config.CookieAddr
	}
	r := &Responder[A]{
		byOrigin:   make(map[A]*Peer[A]),
		byBase:     make(map[uint32]*Peer[A]),
		identities: identities[A]{known: make(map[PublicKey]*identity[A])},
	}
	r.host.drive.interval = driveInterval
	r.host.queueLimit = maxResponderQueued
	err := r.host.init(config.PrivateKey, config.HandshakeLimit, config.Keepalive, config.Timers, config.Rand, now)
	if err != nil {
		return nil, fmt.Errorf("new responder: %w", err)
	}
	config.PrivateKey = PrivateKey{}
	r.config = config
	return r, nil
}

// at takes the time of a call, which ends the life of what NextTransmit lent.
func (r *Responder[A]) at(now time.Time) instant {
	if r.host.out.reuse() {
		r.to = r.to[:0]
	}
	return r.host.at(now)
}

// address says where the messages go that were put into the outbox since.
func (r *Responder[A]) address(to A) {
	for len(r.to) < len(r.host.out.messages) {
		r.to = append(r.to, to)
	}
}

// HandleDatagram processes a datagram received from an address, decrypting it in
// place. It returns the payload, a slice of b, or nil if b carried none, and the
// peer it came from. An error says why the datagram was of no use; it harms
// nobody.
func (r *Responder[A]) HandleDatagram(b []byte, from A, now time.Time) (p *Peer[A], payload []byte, err error) {
	at := r.at(now)
	switch messageType(b) {
	case typeInitiation:
		p, err = r.handleInitiation(b, from, now)
	case typeResponse:
		p, err = r.handleResponse(b, from, at)
	case typeCookie:
		if p, err = r.lookup(b, from); err == nil {
			err = p.handleCookie(b, at)
		}
	case typeData:
		p, payload, err = r.handleData(b, from, at)
	default:
		err = ErrNotSNAPtun
	}
	if err != nil {
		return nil, nil, err
	}
	return p, payload, nil
}

func (r *Responder[A]) handleData(b []byte, from A, now instant) (*Peer[A], []byte, error) {
	k, p, err := r.Keypair(b, from)
	if err != nil {
		return nil, nil, err
	}
	if !r.authorized(p, now) {
		return nil, nil, ErrUnauthorized
	}
	payload, err := k.Open(b)
	if err != nil {
		return nil, nil, err
	}
	if err := r.accept(p, k, b, from, len(payload), now); err != nil || len(payload) == 0 {
		return p, nil, err
	}
	return p, payload, nil
}

// Keypair returns the keys that open the data message b, and the peer it claims
// to be from. It changes nothing. The error is ErrNotData if b is a handshake
// message.
func (r *Responder[A]) Keypair(b []byte, from A) (*Keypair, *Peer[A], error) {
	if err := checkData(b); err != nil {
		return nil, nil, err
	}
	p, err := r.lookup(b, from)
	if err != nil {
		return nil, nil, err
	}
	k, err := p.keypair(b)
	if err != nil {
		return nil, nil, err
	}
	return k, p, nil
}

// lookup finds the peer by the receiver index of a message, then holds the
// address against it.
func (r *Responder[A]) lookup(b []byte, from A) (*Peer[A], error) {
	p := r.byBase[receiverIndex(b)>>8]
	if p == nil {
		return nil, ErrUnknownIndex
	}
	if p.origin != r.config.Origin(from) {
		return nil, ErrAddrMismatch
	}
	return p, nil
}

// Accept takes into account the data message b, which k.Open has decrypted to
// payloadLen bytes. Only if it returns nil the payload counts; it may be empty.
func (r *Responder[A]) Accept(p *Peer[A], k *Keypair, b []byte, from A, payloadLen int, now time.Time) error {
	at := r.at(now)
	if !r.authorized(p, at) {
		return ErrUnauthorized
	}
	return r.accept(p, k, b, from, payloadLen, at)
}

func (r *Responder[A]) accept(p *Peer[A], k *Keypair, b []byte, from A, payloadLen int, now instant) error {
	switched, err := p.accept(k, b, now)
	if err != nil {
		return err
	}
	reason, bye := parseGoodbye(b[headerSize : headerSize+payloadLen])
	if bye {
		// One that was overtaken by a new session says nothing about that.
		if k == p.current {
			r.remove(p, CauseGoodbye, reason, now)
		}
		return ErrGoodbye
	}
	p.travel(k, dataCounter(b), from)
	if p.halfOpen != 0 {
		if err := r.confirm(p, now); err != nil {
			return err
		}
	}
	if switched {
		p.drain(now)
		r.address(p.route)
	}
	r.schedule.update(p)
	return nil
}

// Seal appends a data message for the peer at an origin to dst, and returns the
// route on which to send it. Without a session it queues a copy, at most 256 and
// 64 MiB for all peers, starts a handshake and returns dst as it is. Of
// handshakes that it starts by itself a Responder begins at most 500 a second;
// those of other peers are postponed.
func (r *Responder[A]) Seal(dst []byte, to A, payload []byte, now time.Time) (out []byte, route A, err error) {
	at := r.at(now)
	p := r.byOrigin[to]
	switch {
	case p == nil:
		return dst, to, ErrNoPeer
	case Reserved(payload):
		return dst, p.route, ErrReservedPayload
	case !r.authorized(p, at):
		return dst, p.route, ErrUnauthorized
	}
	out, err = p.seal(dst, payload, at)
	r.address(p.route)
	r.schedule.update(p)
	return out, p.route, err
}

// Reserve takes n consecutive counters of the session with the peer at an
// origin, the first of which it returns, for Keypair.Seal. It counts as sending n
// payloads. Without an authorized peer that has a session ok is false; then Seal
// queues or tells the reason.
func (r *Responder[A]) Reserve(to A, n int, now time.Time) (p *Peer[A], k *Keypair, counter uint64, ok bool) {
	at := r.at(now)
	p = r.byOrigin[to]
	if p == nil || !r.authorized(p, at) {
		return nil, nil, 0, false
	}
	k, counter, ok = p.reserve(n, at, true)
	if !ok {
		return nil, nil, 0, false
	}
	r.schedule.update(p)
	return p, k, counter, true
}

// authorized asks for this packet, and remembers since when the answer is no.
func (r *Responder[A]) authorized(p *Peer[A], now instant) bool {
	if r.config.Authorize(p.key, r.host.now) {
		p.muted = 0
		return true
	}
	if p.muted == 0 {
		p.muted = now
	}
	return false
}

// Initiate starts a handshake with a confirmed peer now, whatever the timers say.
func (r *Responder[A]) Initiate(p *Peer[A], now time.Time) error {
	at := r.at(now)
	switch {
	case r.byOrigin[p.origin] != p:
		return ErrNoPeer
	case !r.authorized(p, at):
		return ErrUnauthorized
	}
	err := p.initiate(at, true)
	r.address(p.route)
	r.schedule.update(p)
	return err
}

// Goodbye appends a data message that tells the peer at an origin that we end
// the session and why, and returns the route on which to send it. ok is false if
// there is no session. The peer may be one that is not authorized any more. What
// we know of it stays until it expires, should it not understand.
func (r *Responder[A]) Goodbye(dst []byte, to A, reason Reason, now time.Time) (out []byte, route A, ok bool) {
	at := r.at(now)
	p := r.byOrigin[to]
	if p == nil {
		return dst, to, false
	}
	out, ok = p.goodbye(dst, reason, at)
	return out, p.route, ok
}

// NextTransmit returns the next message to send and where to, nil if there is
// none. It is valid until the next call of any method.
func (r *Responder[A]) NextTransmit() (to A, b []byte) {
	i := r.host.out.taken
	if b = r.host.out.next(); b != nil {
		to = r.to[i]
	}
	return to, b
}

// NextTimeout returns when HandleTimeout should be called, the zero time for
// never. It changes with every call of another method, and may lie in the past.
func (r *Responder[A]) NextTimeout() time.Time {
	if len(r.schedule) == 0 {
		return time.Time{}
	}
	return r.host.time(r.schedule[0].wake)
}

// NextEvent returns the oldest event not returned yet, a Confirmed[A] or Gone[A].
// Events are kept until they are taken.
func (r *Responder[A]) NextEvent() (Event, bool) { return r.events.next() }

// Peer returns the peer that owns an origin, or nil.
func (r *Responder[A]) Peer(origin A) *Peer[A] { return r.byOrigin[origin] }

// Peers yields all confirmed peers, in no order. The Responder must not be used
// meanwhile.
func (r *Responder[A]) Peers() iter.Seq[*Peer[A]] {
	return func(yield func(*Peer[A]) bool) {
		for _, p := range r.byOrigin {
			if !yield(p) {
				return
			}
		}
	}
}

// Len returns the number of confirmed peers.
func (r *Responder[A]) Len() int { return len(r.byOrigin) }

// HalfOpen returns the number of newcomers that wait to be confirmed.
func (r *Responder[A]) HalfOpen() int { return r.halfOpen }

// String names the responder by its public key.
func (r *Responder[A]) String() string { return "responder " + r.host.public.String() }
