package snaptun

import (
	"bytes"
	"errors"
	"net/netip"
	"testing"
	"time"
)

// The numbers are those of the cases in snap.md 2.6.

// Case 1: a client restarts on its port, with the same key.
func TestRestartOnSameAddress(t *testing.T) {
	f := newField(t)
	old := f.client(1)
	p := f.connect(old, addr(1))
	f.now = f.now.Add(time.Second)
	restarted := f.client(1, func(c *SessionConfig) { c.Rand = seeded(99) })
	out, _, err := f.hand(f.initiation(restarted), addr(1))
	if err != nil || types(out) != "2" {
		t.Fatalf("answer %q, %v", types(out), err)
	}
	// Until the new session has carried data, the old one is in use.
	b, _, err := f.r.Seal(nil, addr(1), []byte("before"), f.now)
	if err != nil {
		t.Fatal(err)
	}
	if payload, err := old.HandleDatagram(b, f.now); err != nil || string(payload) != "before" {
		t.Fatalf("old session got %q, %v", payload, err)
	}
	deliver(t, restarted, out, f.now)
	for _, b := range taken(restarted) {
		f.hand(b, addr(1))
	}
	if b, _, err = f.r.Seal(nil, addr(1), []byte("after"), f.now); err != nil {
		t.Fatal(err)
	}
	if payload, err := restarted.HandleDatagram(b, f.now); err != nil || string(payload) != "after" {
		t.Errorf("new session got %q, %v", payload, err)
	}
	if f.r.Peer(addr(1)) != p || f.r.Len() != 1 {
		t.Error("the restart made another peer")
	}
}

// Case 1, clock set back: an initiation that is not newer gets no answer.
func TestRestartWithOlderClock(t *testing.T) {
	f := newField(t)
	f.now = start.Add(time.Minute)
	f.connect(f.client(1), addr(1))
	f.now = start.Add(30 * time.Second)
	out, _, err := f.hand(f.initiation(f.client(1)), addr(1))
	if !errors.Is(err, ErrStaleInitiation) || len(out) != 0 {
		t.Errorf("answer %q, %v", types(out), err)
	}
}

// Case 2 and behaviours 1.2 fault 2: another key at an occupied address waits,
// disturbs nobody, and takes over with its first data.
func TestAnotherKeyAtOccupiedAddress(t *testing.T) {
	for _, muted := range []bool{false, true} {
		name := map[bool]string{false: "authorized occupant", true: "muted occupant"}[muted]
		t.Run(name, func(t *testing.T) {
			f := newField(t)
			occupant, newcomer := f.client(1), f.client(2)
			was := f.connect(occupant, addr(1))
			f.events()
			f.denied[was.Key()] = muted
			out, _, err := f.hand(f.initiation(newcomer), addr(1))
			if err != nil || types(out) != "2" {
				t.Fatalf("newcomer is answered %q, %v", types(out), err)
			}
			if f.r.Peer(addr(1)) != was || f.r.HalfOpen() != 1 {
				t.Fatal("the initiation alone displaced the occupant")
			}
			if !muted {
				f.checkTraffic(occupant, addr(1))
			}
			deliver(t, newcomer, out, f.now)
			first := taken(newcomer)
			if _, _, err := f.hand(first[0], addr(1)); err != nil {
				t.Fatal(err)
			}
			p := f.r.Peer(addr(1))
			if p.Key() != newcomer.host.public || f.r.HalfOpen() != 0 || f.r.Len() != 1 {
				t.Fatal("the newcomer did not get the address")
			}
			if evs := f.events(); len(evs) != 2 || evs[0] != (Gone[netip.AddrPort]{Peer: was, Cause: CauseReplaced}) ||
				evs[1] != (Confirmed[netip.AddrPort]{p}) {
				t.Errorf("events %v", evs)
			}
			f.checkTraffic(newcomer, addr(1))
			f.denied[was.Key()] = false
			if _, _, err := f.hand(seal(t, occupant, "late", f.now), addr(1)); !errors.Is(err, ErrUnknownIndex) {
				t.Errorf("data of the former occupant gives %v", err)
			}
		})
	}
}

// checkTraffic sends a payload each way between s and the responder.
func (f *field) checkTraffic(s *Session, at netip.AddrPort) {
	f.t.Helper()
	_, payload, err := f.hand(seal(f.t, s, "up", f.now), at)
	if err != nil || string(payload) != "up" {
		f.t.Errorf("responder got %q, %v", payload, err)
	}
	b, to, err := f.r.Seal(nil, at, []byte("down"), f.now)
	if err != nil || to != at {
		f.t.Fatalf("responder seals to %v: %v", to, err)
	}
	if payload, err := s.HandleDatagram(b, f.now); err != nil || string(payload) != "down" {
		f.t.Errorf("client got %q, %v", payload, err)
	}
}

// A newcomer that never confirms is forgotten, and nothing but its response was
// ever sent to it.
func TestNewcomerIsForgotten(t *testing.T) {
	f := newField(t)
	out, _, err := f.hand(f.initiation(f.client(1)), addr(1))
	if err != nil || types(out) != "2" {
		t.Fatalf("answer %q, %v", types(out), err)
	}
	if _, _, err := f.r.Seal(nil, addr(1), []byte("x"), f.now); !errors.Is(err, ErrNoPeer) {
		t.Errorf("Seal to a newcomer gives %v", err)
	}
	if got := f.r.NextTimeout(); !got.Equal(start.Add(10 * time.Second)) {
		t.Errorf("timeout at %v", got.Sub(start))
	}
	f.now = f.r.NextTimeout()
	f.r.HandleTimeout(f.now)
	if to, b := f.r.NextTransmit(); b != nil {
		t.Errorf("sent type %d to %v", b[0], to)
	}
	if f.r.HalfOpen() != 0 || len(f.r.byBase) != 0 || len(f.events()) != 0 || !f.r.NextTimeout().IsZero() {
		t.Error("something is left of the newcomer")
	}
}

func TestNewcomersOfOneKeyAreCapped(t *testing.T) {
	f := newField(t)
	other := f.client(2)
	f.hand(f.initiation(other), addr(100))
	s := f.client(1)
	var first [][]byte
	for n := range uint16(maxHalfOpenOwn + 5) {
		f.now = f.now.Add(time.Millisecond)
		out, _, err := f.hand(f.initiation(s), addr(n))
		if err != nil || types(out) != "2" {
			t.Fatalf("initiation %d: %q, %v", n, types(out), err)
		}
		if n == 0 {
			first = out
		}
	}
	if got, want := f.r.HalfOpen(), maxHalfOpenOwn+1; got != want {
		t.Errorf("%d newcomers, want %d", got, want)
	}
	if len(first) == 0 || f.r.byBase[senderIndex(first[0])>>8] != nil {
		t.Error("the oldest newcomer of the key is still there")
	}
}

// Case 3: a key that loses its authorization is muted at once in both directions
// and works again without a handshake.
func TestMutedPeer(t *testing.T) {
	f := newField(t)
	s := f.client(1)
	p := f.connect(s, addr(1))
	f.denied[p.Key()] = true
	f.now = f.now.Add(time.Second)
	if _, payload, err := f.hand(seal(t, s, "up", f.now), addr(1)); !errors.Is(err, ErrUnauthorized) || payload != nil {
		t.Errorf("data of a muted peer: %q, %v", payload, err)
	}
	if _, _, err := f.r.Seal(nil, addr(1), []byte("down"), f.now); !errors.Is(err, ErrUnauthorized) {
		t.Errorf("Seal to a muted peer: %v", err)
	}
	if _, _, _, ok := f.r.Reserve(addr(1), 1, f.now); ok {
		t.Error("Reserve for a muted peer")
	}
	if out, _, err := f.hand(f.initiation(s), addr(1)); !errors.Is(err, ErrUnauthorized) || len(out) != 0 {
		t.Errorf("initiation of a muted peer: %q, %v", types(out), err)
	}
	if got := p.MutedSince(); !got.Equal(f.now) {
		t.Errorf("muted since %v", got)
	}
	for range 100 {
		if d := f.r.NextTimeout(); d.After(start.Add(170*time.Second)) || d.IsZero() {
			break
		}
		f.now = f.r.NextTimeout()
		f.r.HandleTimeout(f.now)
		if out := f.sent(addr(1)); len(out) != 0 {
			t.Fatalf("timer sent %q to a muted peer", types(out))
		}
	}
	f.now = start.Add(170 * time.Second)
	f.denied[p.Key()] = false
	f.checkTraffic(s, addr(1))
	if !p.MutedSince().IsZero() {
		t.Error("still muted")
	}
}

// Case 4: data from another address than the peer's gets no answer.
func TestDataFromAnotherAddress(t *testing.T) {
	f := newField(t)
	s := f.client(1)
	f.connect(s, addr(1))
	out, _, err := f.hand(seal(t, s, "x", f.now), addr(2))
	if !errors.Is(err, ErrAddrMismatch) || len(out) != 0 {
		t.Errorf("answer %q, %v", types(out), err)
	}
}

// Case 5: the responder has data and no session, so it initiates.
func TestResponderInitiates(t *testing.T) {
	f := newField(t)
	s := f.client(1)
	f.connect(s, addr(1))
	f.now = f.now.Add(200 * time.Second) // older than a session gets
	f.r.HandleTimeout(f.now)
	f.sent(addr(1))
	b, _, err := f.r.Seal(nil, addr(1), []byte("queued"), f.now)
	if err != nil || b != nil {
		t.Fatalf("Seal: %d bytes, %v", len(b), err)
	}
	// Both may have begun at once; both handshakes complete.
	theirs := f.initiation(s)
	ours := f.sent(addr(1))
	if types(ours) != "1" {
		t.Fatalf("responder sent %q", types(ours))
	}
	deliver(t, s, ours, f.now)
	out, _, err := f.hand(theirs, addr(1))
	if err != nil || types(out) != "2" {
		t.Fatalf("answer to the crossing initiation: %q, %v", types(out), err)
	}
	var got [][]byte
	for _, b := range taken(s) { // its response
		answer, _, err := f.hand(b, addr(1))
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, deliver(t, s, answer, f.now)...)
	}
	got = append(got, deliver(t, s, out, f.now)...)
	for _, b := range taken(s) {
		if _, _, err := f.hand(b, addr(1)); err != nil {
			t.Fatal(err)
		}
	}
	if len(got) != 1 || string(got[0]) != "queued" {
		t.Errorf("client got %q", got)
	}
	f.checkTraffic(s, addr(1))
}

// Case 6, A0-10 and fault 3: a recorded initiation from another address.
func TestReplayedInitiation(t *testing.T) {
	f := newField(t)
	s := f.client(1)
	recorded := f.initiation(s)
	f.answer(s, addr(1), recorded)
	for _, from := range []netip.AddrPort{addr(1), addr(2)} {
		if out, _, err := f.hand(recorded, from); !errors.Is(err, ErrReplay) || len(out) != 0 {
			t.Errorf("replay from %v: %q, %v", from, types(out), err)
		}
	}
	if f.r.HalfOpen() != 0 {
		t.Error("the replay left an entry")
	}
	// Neither is it accepted when the peer is long gone.
	for !f.r.NextTimeout().IsZero() {
		f.now = f.r.NextTimeout()
		f.r.HandleTimeout(f.now)
		f.sent(addr(1))
	}
	if f.r.Len() != 0 {
		t.Fatal("the peer has not expired")
	}
	if out, _, err := f.hand(recorded, addr(1)); !errors.Is(err, ErrReplay) || len(out) != 0 {
		t.Errorf("replay after expiry: %q, %v", types(out), err)
	}
}

// Case 7, A0-9 and fault 1: an initiation that names an authorized key, made by
// somebody who does not have it.
func TestForgedInitiation(t *testing.T) {
	f := newField(t)
	victim := f.client(1)
	forger := f.client(2)
	forger.host.public = victim.host.public // but not the private key
	for range 3 {
		f.now = f.now.Add(time.Second)
		out, _, err := f.hand(f.initiation(forger), addr(1))
		if !errors.Is(err, ErrOpen) || len(out) != 0 {
			t.Fatalf("forgery: %q, %v", types(out), err)
		}
	}
	if f.r.Len() != 0 || f.r.HalfOpen() != 0 || len(f.r.identities.known) != 0 {
		t.Fatal("the forgery left something")
	}
	f.connect(victim, addr(1))
	f.checkTraffic(victim, addr(1))
}

// Case 8: the address that is sealed is not a mapped one.
func TestMappedAddressIsSealedUnmapped(t *testing.T) {
	f := newField(t)
	mapped := netip.MustParseAddrPort("[::ffff:192.0.2.7]:4000")
	s := f.client(1)
	f.connect(s, mapped)
	ev, _ := s.NextEvent()
	if want := (Established{Assigned: netip.MustParseAddrPort("192.0.2.7:4000"), Initiator: true}); ev != want {
		t.Errorf("event %v, want %v", ev, want)
	}
}

// Case 10: the key of an address loses its authorization to a new one.
func TestNewKeyAtAddressOfRevokedKey(t *testing.T) {
	f := newField(t)
	old, renewed := f.client(1), f.client(2)
	f.connect(old, addr(1))
	f.denied[old.host.public] = true
	f.now = f.now.Add(time.Second)
	f.connect(renewed, addr(1))
	f.checkTraffic(renewed, addr(1))
}

func TestStrangersGetSilence(t *testing.T) {
	f := newField(t)
	known := f.client(1)
	f.connect(known, addr(1))
	stranger := f.client(2)
	f.denied[stranger.host.public] = true
	wrongServer := newSession(t, testKey(1), testKey(3))
	response := func() []byte {
		b := make([]byte, responseSize)
		b[0] = typeResponse
		key := mac1Key(f.r.host.public)
		sum := mac(key[:], b[:80])
		copy(b[80:], sum[:])
		return b
	}()
	tests := []struct {
		name string
		b    []byte
		want error
	}{
		{"nothing", nil, ErrNotSNAPtun},
		{"one byte", []byte{1}, ErrNotSNAPtun},
		{"type 0", make([]byte, 148), ErrNotSNAPtun},
		{"type 5", append([]byte{5}, make([]byte, 147)...), ErrNotSNAPtun},
		{"short initiation", f.initiation(known)[:147], ErrNotSNAPtun},
		{"long initiation", append(f.initiation(known), 0), ErrNotSNAPtun},
		{"stock response of 92 bytes", append([]byte{2}, make([]byte, 91)...), ErrNotSNAPtun},
		{"long cookie reply", append([]byte{3}, make([]byte, 64)...), ErrNotSNAPtun},
		{"short data", append([]byte{4}, make([]byte, 30)...), ErrNotSNAPtun},
		{"initiation without mac1", append([]byte{1}, make([]byte, 147)...), ErrMAC1},
		{"initiation for another server", f.initiation(wrongServer), ErrMAC1},
		{"initiation of a stranger", f.initiation(stranger), ErrUnauthorized},
		{"response to nobody", response, ErrUnknownIndex},
		{"cookie reply to nobody", append([]byte{3}, make([]byte, 63)...), ErrUnknownIndex},
		{"data to nobody", append([]byte{4}, make([]byte, 40)...), ErrUnknownIndex},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			out, payload, err := f.hand(tt.b, addr(2))
			if !errors.Is(err, tt.want) || len(out) != 0 || payload != nil {
				t.Errorf("answer %q, payload %q, %v; want silence and %v", types(out), payload, err, tt.want)
			}
		})
	}
	if f.r.Len() != 1 || f.r.HalfOpen() != 0 {
		t.Error("a stranger left an entry")
	}
}

// TestReasonsAreComplete fails if a message is rejected for a reason not listed.
func TestReasonsAreComplete(t *testing.T) {
	seen := make(map[string]bool)
	for _, err := range Reasons() {
		if seen[err.Error()] {
			t.Errorf("%q is listed twice", err)
		}
		seen[err.Error()] = true
	}
}

func TestResponderDataErrors(t *testing.T) {
	f := newField(t)
	s := f.client(1)
	f.connect(s, addr(1))
	good := seal(t, s, "good", f.now)

	b := bytes.Clone(good)
	b[20] ^= 1
	if _, _, err := f.hand(b, addr(1)); !errors.Is(err, ErrOpen) {
		t.Errorf("damaged message: %v", err)
	}
	b = bytes.Clone(good)
	b[4]++ // another session of the same peer
	if _, _, err := f.hand(b, addr(1)); !errors.Is(err, ErrUnknownIndex) {
		t.Errorf("unknown session: %v", err)
	}
	if _, payload, err := f.hand(good, addr(1)); err != nil || string(payload) != "good" {
		t.Errorf("good message: %q, %v", payload, err)
	}
	if _, _, err := f.hand(good, addr(1)); !errors.Is(err, ErrReplay) {
		t.Errorf("replay: %v", err)
	}
}

// However many keys there are, newcomers in all are bounded.
func TestNewcomersAreCapped(t *testing.T) {
	f := newField(t)
	f.r.halfOpen = maxHalfOpen // as if so many were waiting
	out, _, err := f.hand(f.initiation(f.client(1)), addr(1))
	if !errors.Is(err, ErrTooManyPeers) || len(out) != 0 {
		t.Errorf("answer %q, %v", types(out), err)
	}
	f.r.halfOpen--
	if out, _, err := f.hand(f.initiation(f.client(1, func(c *SessionConfig) { c.Rand = seeded(9) })), addr(1)); err != nil || types(out) != "2" {
		t.Errorf("answer %q, %v", types(out), err)
	}
}

func TestNewResponderErrors(t *testing.T) {
	yes := func(PublicKey, time.Time) bool { return true }
	for name, config := range map[string]ResponderConfig[int]{
		"no Authorize":   {},
		"MaxPeers":       {Authorize: yes, MaxPeers: -1},
		"HandshakeLimit": {Authorize: yes, HandshakeLimit: -1},
		"Timers":         {Authorize: yes, Timers: Timers{HalfOpen: -1}},
		"Rand":           {Authorize: yes, Rand: bytes.NewReader(nil)},
	} {
		if _, err := NewResponder(config, start); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// Without randomness there is no handshake, and nothing is left of the attempt.
func TestRandomnessFails(t *testing.T) {
	f := newField(t)
	s := f.client(1)
	initiation := f.initiation(s)
	f.r.host.rand = bytes.NewReader(make([]byte, 4)) // enough for the index
	if out, _, err := f.hand(initiation, addr(1)); err == nil || len(out) != 0 {
		t.Errorf("answer %q, %v", types(out), err)
	}
	if f.r.HalfOpen() != 0 || len(f.r.byBase) != 0 {
		t.Error("something is left")
	}
	s.host.rand = bytes.NewReader(nil)
	if err := s.Initiate(start); err == nil || taken(s) != nil {
		t.Errorf("Initiate: %v", err)
	}
}

func TestPeerCap(t *testing.T) {
	f := newField(t, func(c *ResponderConfig[netip.AddrPort]) { c.MaxPeers = 2 })
	clients := []*Session{f.client(1), f.client(2), f.client(3)}
	// Two newcomers for the last place: one confirms first.
	f.connect(clients[0], addr(0))
	var responses [][]byte
	for i := 1; i < 3; i++ {
		out, _, err := f.hand(f.initiation(clients[i]), addr(uint16(i)))
		if err != nil {
			t.Fatal(err)
		}
		responses = append(responses, out[0])
	}
	for i, want := range []error{nil, ErrTooManyPeers} {
		deliver(t, clients[i+1], responses[i:i+1], f.now)
		if _, _, err := f.hand(taken(clients[i+1])[0], addr(uint16(i+1))); !errors.Is(err, want) {
			t.Errorf("newcomer %d: %v, want %v", i, err, want)
		}
	}
	f.now = f.now.Add(time.Second)
	if out, _, err := f.hand(f.initiation(f.client(4)), addr(4)); !errors.Is(err, ErrTooManyPeers) || len(out) != 0 {
		t.Errorf("peer too many: %q, %v", types(out), err)
	}
	// An address that is taken may still change hands.
	f.connect(f.client(5), addr(1))
	if f.r.Len() != 2 || f.r.HalfOpen() != 0 {
		t.Errorf("%d peers, %d newcomers", f.r.Len(), f.r.HalfOpen())
	}
}

func TestResponderBatchPrimitives(t *testing.T) {
	f := newField(t)
	s := f.client(1)
	if _, _, _, ok := f.r.Reserve(addr(1), 1, f.now); ok {
		t.Error("counters for nobody")
	}
	p := f.connect(s, addr(1))
	up := seal(t, s, "up", f.now)
	k, from, err := f.r.Keypair(up, addr(1))
	if err != nil || from != p {
		t.Fatalf("Keypair: %v, %v", from, err)
	}
	payload, err := k.Open(up)
	if err != nil || string(payload) != "up" {
		t.Fatalf("payload %q, %v", payload, err)
	}
	f.denied[p.Key()] = true
	if err := f.r.Accept(p, k, up, addr(1), len(payload), f.now); !errors.Is(err, ErrUnauthorized) {
		t.Errorf("not authorized: %v", err)
	}
	f.denied[p.Key()] = false
	for _, want := range []error{nil, ErrReplay} {
		if err := f.r.Accept(p, k, up, addr(1), len(payload), f.now); !errors.Is(err, want) {
			t.Errorf("Accept: %v, want %v", err, want)
		}
	}
	to, k, counter, ok := f.r.Reserve(addr(1), 2, f.now)
	if !ok || to != p {
		t.Fatal("no counters")
	}
	deliver(t, s, [][]byte{k.Seal(nil, counter+1, []byte("b")), k.Seal(nil, counter, []byte("a"))}, f.now)

	// The peer is removed between Keypair and Accept.
	late := seal(t, s, "late", f.now)
	k, _, _ = f.r.Keypair(late, addr(1))
	payload, _ = k.Open(late)
	f.hand(s.Goodbye(nil, ReasonLeave, f.now), addr(1))
	if err := f.r.Accept(p, k, late, addr(1), len(payload), f.now); !errors.Is(err, ErrUnknownIndex) {
		t.Errorf("peer gone: %v", err)
	}
	if _, _, err := f.r.Keypair(f.initiation(s), addr(1)); !errors.Is(err, ErrNotData) {
		t.Errorf("Keypair of an initiation: %v", err)
	}
	if err := f.r.Initiate(p, f.now); !errors.Is(err, ErrNoPeer) {
		t.Errorf("Initiate towards one that is gone: %v", err)
	}
}

func TestPeerTells(t *testing.T) {
	f := newField(t)
	ids := make(map[uint32]bool)
	for n := range uint16(3) {
		f.connect(f.client(n+1), addr(n))
	}
	for p := range f.r.Peers() {
		ids[p.ID()] = true
		if f.r.Peer(p.Origin()) != p || p.Route() != p.Origin() || p.ID()>>24 != 0 ||
			!p.LastReceived().Equal(start) || !p.Handshaked().Equal(start) {
			t.Errorf("%v at %v", p, p.Origin())
		}
	}
	if len(ids) != 3 {
		t.Errorf("%d different IDs", len(ids))
	}
	for range f.r.Peers() {
		break
	}
}
