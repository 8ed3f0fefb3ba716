package snaptun

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"
)

// sessionHandshakes is how many handshake messages a second a Session takes
// before it asks for a cookie. An honest peer sends one in five seconds.
const sessionHandshakes = 20

// A SessionConfig says who talks with whom.
type SessionConfig struct {
	// PrivateKey is our static key.
	PrivateKey PrivateKey
	// PeerKey is the only identity we talk with.
	PeerKey PublicKey
	// Keepalive is the interval of persistent keepalives. They are sent while a
	// session stands and nothing else is. If zero, none are.
	Keepalive time.Duration
	// Timers replaces durations of the protocol, for tests.
	Timers Timers
	// SealedAddr is the address we tell the peer when we answer its initiation. If
	// zero, an address of zeros.
	SealedAddr netip.AddrPort
	// Rand is the source of keys. If nil, crypto/rand.
	Rand io.Reader
}

// A Session is the protocol with one peer. Its methods need exclusive access.
type Session struct {
	host   host
	peer   peer
	events events
	sealed [sockaddrSize]byte
}

// NewSession returns a session that is not connected. It does so at the first
// Seal or Initiate, or when the peer initiates.
func NewSession(config SessionConfig, now time.Time) (*Session, error) {
	s := &Session{sealed: sockaddr(config.SealedAddr)}
	if config.PeerKey.IsZero() {
		return nil, errors.New("new session: no key of the peer")
	}
	err := s.host.init(config.PrivateKey, sessionHandshakes, config.Keepalive, config.Timers, config.Rand, now)
	if err != nil {
		return nil, fmt.Errorf("new session: %w", err)
	}
	base, err := s.host.randomUint32()
	if err != nil {
		return nil, fmt.Errorf("new session: %w", err)
	}
	shared, err := s.host.dh(s.host.private, config.PeerKey)
	if err != nil {
		return nil, errors.New("new session: unusable key of the peer")
	}
	s.peer = peer{h: &s.host, key: config.PeerKey, shared: shared, base: base >> 8}
	return s, nil
}

// at takes the time of a call, which ends the life of what NextTransmit lent.
func (s *Session) at(now time.Time) instant {
	s.host.out.reuse()
	return s.host.at(now)
}

// HandleDatagram processes a datagram received from the peer, decrypting it in
// place. It returns the payload, a slice of b, or nil if b carried none. An error
// says why the datagram was of no use; it never harms the session.
func (s *Session) HandleDatagram(b []byte, now time.Time) (payload []byte, err error) {
	at := s.at(now)
	switch messageType(b) {
	case typeInitiation:
		return nil, s.handleInitiation(b, at)
	case typeResponse:
		return nil, s.handleResponse(b, at)
	case typeCookie:
		return nil, s.peer.handleCookie(b, at)
	case typeData:
		k, err := s.peer.keypair(b)
		if err != nil {
			return nil, err
		}
		payload, err = k.Open(b)
		if err != nil {
			return nil, err
		}
		if err := s.Accept(k, b, len(payload), now); err != nil || len(payload) == 0 {
			return nil, err
		}
		return payload, nil
	}
	return nil, ErrNotSNAPtun
}

// admit checks what is checked of both handshake messages. All that comes from
// the peer's address is one source.
func (s *Session) admit(b []byte, now instant) error {
	if !s.host.gate.knowsUs(b) {
		return ErrMAC1
	}
	if s.host.gate.crowded(now) {
		return s.host.admit(b, nil, nil, now)
	}
	return nil
}

func (s *Session) handleInitiation(b []byte, now instant) error {
	if err := s.admit(b, now); err != nil {
		return err
	}
	r, err := s.host.openStatic(b)
	if err != nil {
		return err
	}
	if subtle.ConstantTimeCompare(r.static[:], s.peer.key[:]) != 1 {
		return ErrWrongKey
	}
	if err := r.openStamp(b, s.peer.shared); err != nil {
		return err
	}
	if !s.peer.newest.before(r.stamp) {
		if s.peer.newest == r.stamp {
			return ErrReplay
		}
		return ErrStaleInitiation
	}
	key, err := s.host.drawKey()
	if err != nil {
		return err
	}
	if err := r.prepare(&key); err != nil {
		return err
	}
	s.peer.respond(&r, s.sealed, now)
	return nil
}

func (s *Session) handleResponse(b []byte, now instant) error {
	if err := s.admit(b, now); err != nil {
		return err
	}
	addr, err := s.peer.handleResponse(b, now)
	if err != nil {
		return err
	}
	s.events.tell(Established{Assigned: parseSockaddr(addr), Burst: parseBurst(addr), Initiator: true})
	return nil
}

// Seal appends a data message with the payload to dst. Without a session it
// queues a copy, at most 256, starts a handshake and returns dst as it is; the
// queue is sent by NextTransmit when the session stands.
func (s *Session) Seal(dst, payload []byte, now time.Time) ([]byte, error) {
	if Reserved(payload) {
		return dst, ErrReservedPayload
	}
	return s.peer.seal(dst, payload, s.at(now))
}

// Initiate starts a handshake now, whatever the timers say, and counts the time
// to give up anew. A session that stands stays in use until the answer.
func (s *Session) Initiate(now time.Time) error {
	return s.peer.initiate(s.at(now), true)
}

// NextTransmit returns the next message to send to the peer, nil if there is
// none. It is valid until the next call of any method.
func (s *Session) NextTransmit() []byte { return s.host.out.next() }

// NextTimeout returns when HandleTimeout should be called, the zero time for
// never. It changes with every call of another method, and may lie in the past.
func (s *Session) NextTimeout() time.Time { return s.host.time(s.peer.next()) }

// HandleTimeout does what is due. It does no harm to call it early.
func (s *Session) HandleTimeout(now time.Time) {
	switch s.peer.tick(s.at(now), false) {
	case givenUp:
		s.peer.forget()
		s.events.tell(GivenUp{})
	case expired:
		s.peer.forget()
		s.events.tell(Expired{})
	}
}

// NextEvent returns the oldest event not returned yet. Events are kept until
// they are taken.
func (s *Session) NextEvent() (Event, bool) { return s.events.next() }

// Keypair returns the keys that open the data message b. It changes nothing. The
// error is ErrNotData if b is a handshake message.
func (s *Session) Keypair(b []byte) (*Keypair, error) {
	if err := checkData(b); err != nil {
		return nil, err
	}
	return s.peer.keypair(b)
}

func checkData(b []byte) error {
	switch messageType(b) {
	case typeData:
		return nil
	case 0:
		return ErrNotSNAPtun
	}
	return ErrNotData
}

// Accept takes into account the data message b, which k.Open has decrypted to
// payloadLen bytes. Only if it returns nil the payload counts; it may be empty.
func (s *Session) Accept(k *Keypair, b []byte, payloadLen int, now time.Time) error {
	at := s.at(now)
	switched, err := s.peer.accept(k, b, at)
	if err != nil {
		return err
	}
	if reason, ok := parseGoodbye(b[headerSize : headerSize+payloadLen]); ok {
		// One that was overtaken by a new session says nothing about that.
		if k == s.peer.current {
			s.peer.forget()
			s.events.tell(PeerClosed{reason})
		}
		return ErrGoodbye
	}
	if switched {
		s.events.tell(Established{})
		s.peer.drain(at)
	}
	return nil
}

// Reserve takes n consecutive counters of the session, the first of which it
// returns, for Keypair.Seal. It counts as sending n payloads. Without a session
// ok is false; then Seal queues.
func (s *Session) Reserve(n int, now time.Time) (k *Keypair, counter uint64, ok bool) {
	return s.peer.reserve(n, s.at(now), true)
}

// Goodbye ends the session and appends a data message that tells the peer why.
// Without a session it returns dst as it is. A new one is not started before
// there is data to send or Initiate is called.
func (s *Session) Goodbye(dst []byte, r Reason, now time.Time) []byte {
	dst, _ = s.peer.goodbye(dst, r, s.at(now))
	s.peer.forget()
	return dst
}

// Up reports whether there is a session to send in.
func (s *Session) Up(now time.Time) bool { return s.peer.usable(s.at(now)) != nil }

// LastReceived returns when the last authenticated message came, the zero time
// for never.
func (s *Session) LastReceived() time.Time { return s.host.time(s.peer.received) }

// AwaitingSince returns since when payloads were sent without anything being
// heard, the zero time if we are not waiting. Empty messages do not count.
func (s *Session) AwaitingSince() time.Time { return s.host.time(s.peer.waiting) }

// String names the peer.
func (s *Session) String() string { return "session with " + s.peer.key.String() }
