package snaptun

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// testKey returns a private key that is different for every n.
func testKey(n uint16) PrivateKey {
	return PrivateKey(append(bytes.Repeat([]byte{0x40}, 30), byte(n), byte(n>>8)))
}

// seeded returns a source of keys that is the same in every run.
func seeded(n byte) io.Reader { return rand.NewChaCha8([32]byte{n}) }

// newSession returns a session from key a to key b.
func newSession(t testing.TB, a, b PrivateKey, adapt ...func(*SessionConfig)) *Session {
	t.Helper()
	config := SessionConfig{PrivateKey: a, PeerKey: b.PublicKey(), Rand: seeded(a[30])}
	for _, f := range adapt {
		f(&config)
	}
	s, err := NewSession(config, start)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newPair(t testing.TB, adapt ...func(*SessionConfig)) (a, b *Session) {
	t.Helper()
	return newSession(t, testKey(1), testKey(2), adapt...), newSession(t, testKey(2), testKey(1), adapt...)
}

// connectedPair returns two sessions, between which the first has made a
// handshake at start, with no events left.
func connectedPair(t testing.TB, adapt ...func(*SessionConfig)) (a, b *Session) {
	t.Helper()
	a, b = newPair(t, adapt...)
	a.Initiate(start)
	exchange(t, a, b, start)
	if !a.Up(start) || !b.Up(start) {
		t.Fatal("no session")
	}
	takeEvents(a)
	takeEvents(b)
	return a, b
}

// taken returns copies of all that waits for transmission.
func taken(s *Session) (messages [][]byte) {
	for b := s.NextTransmit(); b != nil; b = s.NextTransmit() {
		messages = append(messages, bytes.Clone(b))
	}
	return messages
}

func takeEvents(s *Session) (evs []Event) {
	for ev, ok := s.NextEvent(); ok; ev, ok = s.NextEvent() {
		evs = append(evs, ev)
	}
	return evs
}

// types returns the message types of datagrams, such as "14" for an initiation
// and a data message; k is an empty data message.
func types(messages [][]byte) string {
	var s []byte
	for _, m := range messages {
		switch {
		case messageType(m) == typeData && len(m) == Overhead:
			s = append(s, 'k')
		default:
			s = append(s, '0'+messageType(m))
		}
	}
	return string(s)
}

// exchange carries messages between a and b until both are quiet, and returns
// the payloads that arrived at each.
func exchange(t testing.TB, a, b *Session, now time.Time) (atA, atB [][]byte) {
	t.Helper()
	for range 100 {
		toB, toA := taken(a), taken(b)
		if len(toA)+len(toB) == 0 {
			return atA, atB
		}
		atB = append(atB, deliver(t, b, toB, now)...)
		atA = append(atA, deliver(t, a, toA, now)...)
	}
	t.Fatal("the two never get quiet")
	return nil, nil
}

// deliver hands messages to s, all of which must be good, and returns payloads.
func deliver(t testing.TB, s *Session, messages [][]byte, now time.Time) (payloads [][]byte) {
	t.Helper()
	for _, m := range messages {
		p, err := s.HandleDatagram(bytes.Clone(m), now)
		if err != nil {
			t.Fatalf("message of type %d: %v", m[0], err)
		}
		if p != nil {
			payloads = append(payloads, p)
		}
	}
	return payloads
}

// seal returns a data message and fails if there is no session.
func seal(t testing.TB, s *Session, payload string, now time.Time) []byte {
	t.Helper()
	b, err := s.Seal(nil, []byte(payload), now)
	if err != nil || b == nil {
		t.Fatalf("Seal: %d bytes, %v", len(b), err)
	}
	return b
}

// runUntil moves a pair through time with all timers, from one deadline to the
// next, and returns what each sent, as "12.5s 1" for an initiation.
func runUntil(t testing.TB, a, b *Session, from, to time.Time, carry bool) (log []string) {
	t.Helper()
	for range 10_000 {
		at := to.Add(1)
		for _, s := range []*Session{a, b} {
			if s == nil {
				continue
			}
			if d := s.NextTimeout(); !d.IsZero() && d.Before(at) {
				at = d
			}
		}
		if at.After(to) {
			return log
		}
		if at.Before(from) {
			at = from
		}
		for i, s := range []*Session{a, b} {
			if s == nil || s.NextTimeout().IsZero() || s.NextTimeout().After(at) {
				continue
			}
			s.HandleTimeout(at)
			if d := s.NextTimeout(); !d.IsZero() && !d.After(at) {
				t.Fatalf("deadline %v not after %v when it was handled", d.Sub(start), at.Sub(start))
			}
			out := taken(s)
			for _, m := range out {
				log = append(log, "ab"[i:i+1]+" "+at.Sub(start).String()+" "+types([][]byte{m}))
			}
			if carry {
				other := []*Session{b, a}[i]
				deliver(t, other, out, at)
				exchange(t, a, b, at)
			}
		}
	}
	t.Fatal("time does not move on")
	return nil
}

// A field is a Responder on a network of addresses, with clients.
type field struct {
	t      testing.TB
	r      *Responder[netip.AddrPort]
	now    time.Time
	denied map[PublicKey]bool
	asked  int
}

var serverKey = testKey(1000)

func newField(t testing.TB, adapt ...func(*ResponderConfig[netip.AddrPort])) *field {
	t.Helper()
	f := &field{t: t, now: start, denied: make(map[PublicKey]bool)}
	config := ResponderConfig[netip.AddrPort]{
		PrivateKey: serverKey,
		Authorize: func(k PublicKey, _ time.Time) bool {
			f.asked++
			return !f.denied[k]
		},
		SealedAddr: func(a netip.AddrPort) netip.AddrPort { return a },
		Rand:       seeded(0),
	}
	for _, g := range adapt {
		g(&config)
	}
	r, err := NewResponder(config, start)
	if err != nil {
		t.Fatal(err)
	}
	f.r = r
	return f
}

// client returns a session towards the responder that is not connected.
func (f *field) client(n uint16, adapt ...func(*SessionConfig)) *Session {
	f.t.Helper()
	return newSession(f.t, testKey(n), serverKey, adapt...)
}

// addr returns the n-th address.
func addr(n uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, 1}), 1000+n)
}

// initiation has s start a handshake.
func (f *field) initiation(s *Session) []byte {
	f.t.Helper()
	s.Initiate(f.now)
	out := taken(s)
	if types(out) != "1" {
		f.t.Fatalf("initiate sent %q", types(out))
	}
	return out[0]
}

// hand gives a datagram to the responder and returns what it sent to from; it
// fails if anything goes elsewhere.
func (f *field) hand(b []byte, from netip.AddrPort) (out [][]byte, payload []byte, err error) {
	f.t.Helper()
	_, payload, err = f.r.HandleDatagram(bytes.Clone(b), from, f.now)
	return f.sent(from), payload, err
}

func (f *field) sent(to netip.AddrPort) (out [][]byte) {
	f.t.Helper()
	for a, b := f.r.NextTransmit(); b != nil; a, b = f.r.NextTransmit() {
		if a != to {
			f.t.Fatalf("message of type %d to %v, want %v", b[0], a, to)
		}
		out = append(out, bytes.Clone(b))
	}
	return out
}

// connect has s make a handshake from an address, and confirm it.
func (f *field) connect(s *Session, from netip.AddrPort) *Peer[netip.AddrPort] {
	f.t.Helper()
	f.answer(s, from, f.initiation(s))
	p := f.r.Peer(from)
	if p == nil || p.key != s.host.public {
		f.t.Fatalf("%v is not confirmed at %v", s.host.public, from)
	}
	return p
}

// answer hands an initiation to the responder, the response to s, and what
// follows to the responder.
func (f *field) answer(s *Session, from netip.AddrPort, initiation []byte) {
	f.t.Helper()
	out, _, err := f.hand(initiation, from)
	if err != nil || types(out) != "2" {
		f.t.Fatalf("responder answers %q, %v", types(out), err)
	}
	deliver(f.t, s, out, f.now)
	for _, b := range taken(s) {
		if _, _, err := f.hand(b, from); err != nil {
			f.t.Fatal(err)
		}
	}
}

func (f *field) events() (evs []Event) {
	for ev, ok := f.r.NextEvent(); ok; ev, ok = f.r.NextEvent() {
		evs = append(evs, ev)
	}
	return evs
}
