package snaptun

import (
	"errors"
	"net/netip"
	"testing"
	"time"
)

func TestGoodbyeRemovesPeer(t *testing.T) {
	f := newField(t)
	s := f.client(1)
	p := f.connect(s, addr(1))
	f.events()
	bye := s.Goodbye(nil, ReasonLeave, f.now)
	if s.Up(f.now) || !s.NextTimeout().IsZero() {
		t.Error("our own session goes on after our goodbye")
	}
	if _, payload, err := f.hand(bye, addr(1)); !errors.Is(err, ErrGoodbye) || payload != nil {
		t.Errorf("goodbye: %q, %v", payload, err)
	}
	want := Gone[netip.AddrPort]{Peer: p, Cause: CauseGoodbye, Reason: ReasonLeave}
	if evs := f.events(); len(evs) != 1 || evs[0] != want {
		t.Errorf("events %v, want %v", evs, want)
	}
	if f.r.Len() != 0 || !f.r.NextTimeout().IsZero() {
		t.Error("something is left of the peer")
	}
	f.now = f.now.Add(time.Second)
	f.connect(s, addr(1))
}

func TestResponderSaysGoodbye(t *testing.T) {
	f := newField(t)
	s := f.client(1)
	if _, _, ok := f.r.Goodbye(nil, addr(1), ReasonShutdown, f.now); ok {
		t.Error("goodbye to nobody")
	}
	p := f.connect(s, addr(1))
	takeEvents(s)
	f.denied[p.Key()] = true // a revoked key is told so
	b, to, ok := f.r.Goodbye(nil, addr(1), ReasonRevoked, f.now)
	if !ok || to != addr(1) {
		t.Fatalf("goodbye to %v, %v", to, ok)
	}
	if _, err := s.HandleDatagram(b, f.now); !errors.Is(err, ErrGoodbye) {
		t.Error(err)
	}
	if evs := takeEvents(s); len(evs) != 1 || evs[0] != (PeerClosed{ReasonRevoked}) {
		t.Errorf("events %v", evs)
	}
}
