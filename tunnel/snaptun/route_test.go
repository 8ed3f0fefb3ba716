package snaptun

import (
	"bytes"
	"errors"
	"testing"
	"time"
)

// A place is an address with a route to it.
type place struct {
	host  string
	route int
}

func newRoutes(t *testing.T) *Responder[place] {
	t.Helper()
	r, err := NewResponder(ResponderConfig[place]{
		PrivateKey: serverKey,
		Authorize:  func(PublicKey, time.Time) bool { return true },
		Origin:     func(p place) place { return place{host: p.host} },
		CookieAddr: func(dst []byte, p place) []byte { return append(dst, p.host...) },
		Rand:       seeded(0),
	}, start)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRoutes(t *testing.T) {
	r := newRoutes(t)
	s := newSession(t, testKey(1), serverKey)
	now := start
	hand := func(b []byte, route int) {
		t.Helper()
		if _, _, err := r.HandleDatagram(bytes.Clone(b), place{"host", route}, now); err != nil {
			t.Fatal(err)
		}
	}
	transmit := func(wantRoute int) []byte {
		t.Helper()
		to, b := r.NextTransmit()
		if b == nil || to != (place{"host", wantRoute}) {
			t.Fatalf("%d bytes to %v, want route %d", len(b), to, wantRoute)
		}
		return bytes.Clone(b)
	}
	replies := func(want int) {
		t.Helper()
		_, to, err := r.Seal(nil, place{host: "host"}, []byte("down"), start)
		if err != nil || to != (place{"host", want}) {
			t.Errorf("replies go to %v, want route %d", to, want)
		}
	}
	s.Initiate(start)
	hand(taken(s)[0], 1)
	deliver(t, s, [][]byte{transmit(1)}, start)
	hand(taken(s)[0], 2)
	p := r.Peer(place{host: "host"})
	if p == nil || p.Origin() != (place{host: "host"}) {
		t.Fatal("the peer is not at its origin")
	}
	replies(2)

	// The packet with the highest counter chooses, not the last to arrive.
	early, late := seal(t, s, "a", start), seal(t, s, "b", start)
	hand(late, 3)
	replies(3)
	hand(early, 4)
	replies(3)

	// A response goes where its initiation came from, and changes no route.
	now = start.Add(time.Second)
	s.Initiate(now)
	old := seal(t, s, "old session", start)
	hand(taken(s)[0], 5)
	response := transmit(5)
	replies(3)
	deliver(t, s, [][]byte{response}, start)
	hand(taken(s)[0], 6)
	replies(6)
	hand(old, 7)
	replies(6)

	// An unauthenticated packet chooses nothing.
	bad := seal(t, s, "c", start)
	bad[len(bad)-1] ^= 1
	if _, _, err := r.HandleDatagram(bad, place{"host", 8}, start); !errors.Is(err, ErrOpen) {
		t.Error(err)
	}
	replies(6)

	// Our initiation goes on the route in use, the rest where its answer came from.
	if err := r.Initiate(p, start); err != nil {
		t.Fatal(err)
	}
	deliver(t, s, [][]byte{transmit(6)}, start)
	hand(taken(s)[0], 9)
	transmit(9)
	replies(9)
	if to, b := r.NextTransmit(); b != nil {
		t.Errorf("one more message to %v", to)
	}
}

func TestCookieIsGoodOnAnyRoute(t *testing.T) {
	r := newRoutes(t)
	r.host.gate.limit = 1
	s := newSession(t, testKey(1), serverKey)
	initiate := func(from place) error {
		s.Initiate(start)
		_, _, err := r.HandleDatagram(taken(s)[0], from, start)
		if to, b := r.NextTransmit(); b != nil {
			if to != from {
				t.Errorf("answer to %v, want %v", to, from)
			}
			deliver(t, s, [][]byte{bytes.Clone(b)}, start)
			taken(s)
		}
		return err
	}
	for i, step := range []struct {
		from place
		want error
	}{{place{"a", 1}, nil}, {place{"a", 2}, ErrUnderLoad}, {place{"a", 3}, nil}, {place{"b", 3}, ErrUnderLoad}} {
		if err := initiate(step.from); !errors.Is(err, step.want) {
			t.Errorf("step %d: %v, want %v", i, err, step.want)
		}
	}
}
