package snaptun

import (
	"bytes"
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// The order is length and type, mac1, load, and only then X25519.
func TestNoX25519ForWrongMAC1(t *testing.T) {
	f := newField(t)
	s := f.client(1)
	response, other := newPair(t)
	response.Initiate(f.now)
	deliver(t, other, taken(response), f.now)
	before := f.r.host.dhs
	for _, b := range [][]byte{f.initiation(s), taken(other)[0]} {
		b[len(b)-20] ^= 1
		for n := range 10 {
			b[8] = byte(n)
			if _, _, err := f.hand(b, addr(1)); !errors.Is(err, ErrMAC1) {
				t.Fatal(err)
			}
		}
	}
	if got := f.r.host.dhs - before; got != 0 {
		t.Errorf("%d X25519 operations", got)
	}
	if f.r.host.gate.count != 0 {
		t.Errorf("%d messages counted", f.r.host.gate.count)
	}
	if f.asked != 0 {
		t.Errorf("asked %d times for authorization", f.asked)
	}
}

// A stranger costs one X25519 operation, a known key with an old timestamp one
// too.
func TestX25519OfRefusedInitiations(t *testing.T) {
	f := newField(t)
	s, stranger := f.client(1), f.client(2)
	f.denied[stranger.host.public] = true
	recorded := f.initiation(s)
	f.answer(s, addr(1), recorded)
	for _, b := range [][]byte{recorded, f.initiation(stranger)} {
		before := f.r.host.dhs
		f.hand(b, addr(1))
		if got := f.r.host.dhs - before; got != 1 {
			t.Errorf("%d X25519 operations, want 1", got)
		}
	}
}

func limited(n int) func(*ResponderConfig[netip.AddrPort]) {
	return func(c *ResponderConfig[netip.AddrPort]) { c.HandshakeLimit = n }
}

// A0-7: a flood of valid initiations, then a real client.
func TestFloodAndRealClient(t *testing.T) {
	f := newField(t, limited(100))
	flooder, real := f.client(1), f.client(2)
	flood := make([][]byte, 200)
	for i := range flood {
		flood[i] = f.initiation(flooder)
	}
	cookies := 0
	before := f.r.host.dhs
	for _, b := range flood {
		out, _, err := f.hand(b, addr(1))
		switch types(out) {
		case "2":
		case "3":
			cookies++
			if !errors.Is(err, ErrUnderLoad) || len(out[0]) >= len(b) {
				t.Fatalf("cookie reply of %d bytes with %v", len(out[0]), err)
			}
		default:
			t.Fatalf("answer %q, %v", types(out), err)
		}
	}
	if cookies != 100 {
		t.Errorf("%d cookie replies, want 100", cookies)
	}
	const perHandshake = 5 // static, shared, and three of the response
	if got := f.r.host.dhs - before; got > 100*perHandshake {
		t.Errorf("%d X25519 operations for 100 handshakes", got)
	}

	out, _, err := f.hand(f.initiation(real), addr(2))
	if !errors.Is(err, ErrUnderLoad) || types(out) != "3" {
		t.Fatalf("real client is answered %q, %v", types(out), err)
	}
	deliver(t, real, out, f.now)
	if taken(real) != nil {
		t.Error("a cookie reply is answered at once")
	}
	again := f.initiation(real)
	if out, _, err := f.hand(again, addr(3)); !errors.Is(err, ErrUnderLoad) {
		t.Errorf("the cookie of another port: %q, %v", types(out), err)
	}
	f.answer(real, addr(2), again)
	f.checkTraffic(real, addr(2))
}

// A0-8 and fault 4: the count is reset although there is no tunnel and no tick.
func TestLoadEndsByItself(t *testing.T) {
	f := newField(t, limited(100))
	stranger := f.client(1)
	f.denied[stranger.host.public] = true
	for range 150 {
		f.hand(f.initiation(stranger), addr(1))
	}
	f.now = f.now.Add(2 * time.Second)
	s := f.client(2)
	f.connect(s, addr(2))
	if s.peer.cookieAt != 0 {
		t.Error("the client needed a cookie")
	}
}

// Who floods from one address does not use up the cookie replies of others, and
// all together do not get more than there is time for.
func TestCookieRepliesAreBounded(t *testing.T) {
	f := newField(t, limited(1))
	b := f.initiation(f.client(1))
	f.hand(slices.Clone(b), addr(0))
	replies := func(from uint16, n int) (got int) {
		for range n {
			out, _, err := f.hand(slices.Clone(b), addr(from))
			if !errors.Is(err, ErrUnderLoad) {
				t.Fatal(err)
			}
			got += len(out)
		}
		return got
	}
	if got := replies(1, maxRepliesEach+100); got != maxRepliesEach {
		t.Errorf("%d replies to one address, want %d", got, maxRepliesEach)
	}
	if got := replies(2, 1); got != 1 {
		t.Errorf("%d replies to another, want 1", got)
	}
	f.r.host.gate.quota = 1
	if got := replies(3, 2); got != 1 {
		t.Errorf("%d replies where there is time for one", got)
	}
	f.now = f.now.Add(time.Second)
	f.hand(slices.Clone(b), addr(0))
	if got := replies(1, 1); got != 1 {
		t.Errorf("%d replies in the next period, want 1", got)
	}
}

// Under load a source that has proved its address has a budget of its own.
func TestSourceBudget(t *testing.T) {
	f := newField(t, limited(1), func(c *ResponderConfig[netip.AddrPort]) {
		c.SourceAddr = func(dst []byte, a netip.AddrPort) []byte { return append(dst, a.Addr().AsSlice()...) }
	})
	f.hand(f.initiation(f.client(9)), addr(9)) // from now on there is load
	s := f.client(1)
	withCookie := func(from netip.AddrPort) []byte {
		out, _, _ := f.hand(f.initiation(s), from)
		if types(out) != "3" {
			t.Fatalf("answer %q", types(out))
		}
		deliver(t, s, out, f.now)
		return f.initiation(s)
	}
	for n := range sourceHandshakes {
		if out, _, err := f.hand(withCookie(addr(uint16(n))), addr(uint16(n))); err != nil || types(out) != "2" {
			t.Fatalf("handshake %d: %q, %v", n, types(out), err)
		}
	}
	if out, _, err := f.hand(withCookie(addr(50)), addr(50)); !errors.Is(err, ErrSourceBudget) || len(out) != 0 {
		t.Errorf("one more: %q, %v", types(out), err)
	}
	elsewhere := netip.MustParseAddrPort("198.51.100.1:1")
	if out, _, err := f.hand(withCookie(elsewhere), elsewhere); err != nil || types(out) != "2" {
		t.Errorf("another source: %q, %v", types(out), err)
	}
}

// Case 9 of snap.md 2.6: a response meets the load limit and is asked for a
// cookie; the next one has it. Case 11: so is a newcomer at an occupied address.
func TestCookieForResponse(t *testing.T) {
	f := newField(t, limited(1))
	s := f.client(1)
	p := f.connect(s, addr(1))
	f.now = f.now.Add(time.Minute)
	f.hand(f.initiation(f.client(2)), addr(2))

	newcomer := f.client(3)
	if out, _, err := f.hand(f.initiation(newcomer), addr(1)); !errors.Is(err, ErrUnderLoad) || types(out) != "3" {
		t.Errorf("newcomer at an occupied address: %q, %v", types(out), err)
	}
	respond := func() []byte {
		if err := f.r.Initiate(p, f.now); err != nil {
			t.Fatal(err)
		}
		deliver(t, s, f.sent(addr(1)), f.now)
		return taken(s)[0]
	}
	out, _, err := f.hand(respond(), addr(1))
	if !errors.Is(err, ErrUnderLoad) || types(out) != "3" {
		t.Fatalf("response under load: %q, %v", types(out), err)
	}
	deliver(t, s, out, f.now)
	out, _, err = f.hand(respond(), addr(1))
	if err != nil || types(out) != "k" {
		t.Errorf("response with mac2: %q, %v", types(out), err)
	}
}

func TestCookiePeriods(t *testing.T) {
	var g gate
	if err := g.init(PublicKey{1}, 1, seeded(1)); err != nil {
		t.Fatal(err)
	}
	made := instant(0).add(127 * time.Second)
	a := []byte("192.0.2.1:1000")
	cookie := g.cookie(a, 0)
	msg := make([]byte, initiationSize)
	sum := mac(cookie[:], msg[:132])
	copy(msg[132:], sum[:])
	tests := []struct {
		after time.Duration
		addr  string
		want  bool
	}{
		{0, "192.0.2.1:1000", true},
		{time.Second, "192.0.2.1:1000", true}, // the next period has begun
		{120 * time.Second, "192.0.2.1:1000", true},
		{129 * time.Second, "192.0.2.1:1000", false},
		{0, "192.0.2.1:1001", false},
		{0, "192.0.2.2:1000", false},
	}
	for _, tt := range tests {
		if got := g.provesAddress(msg, []byte(tt.addr), made.add(tt.after)); got != tt.want {
			t.Errorf("after %v from %s: %v, want %v", tt.after, tt.addr, got, tt.want)
		}
	}
}

// A cookie reply is forgeable by whoever saw the initiation, so it moves nothing.
func TestCookieReplyMovesNoTimer(t *testing.T) {
	s := newSession(t, testKey(1), testKey(2))
	s.Initiate(start)
	msg := taken(s)[0]
	reply := sealCookie(nil, newCookieAEAD(s.peer.key), senderIndex(msg), make([]byte, 24), [16]byte{1}, msg[116:132])
	before, deadline := s.peer.clocks, s.NextTimeout()
	if _, err := s.HandleDatagram(bytes.Clone(reply), start.Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	if s.peer.clocks != before || !s.NextTimeout().Equal(deadline) || taken(s) != nil {
		t.Error("the cookie reply had an effect beyond the next mac2")
	}
	if _, err := s.HandleDatagram(bytes.Clone(reply), start.Add(time.Second)); !errors.Is(err, ErrCookie) {
		t.Errorf("replayed cookie reply: %v", err)
	}
}

func TestCookieReplyErrors(t *testing.T) {
	s := newSession(t, testKey(1), testKey(2))
	reply := func(index uint32, mac1 []byte) []byte {
		return sealCookie(nil, newCookieAEAD(s.peer.key), index, make([]byte, 24), [16]byte{1}, mac1)
	}
	if _, err := s.HandleDatagram(reply(0, make([]byte, 16)), start); !errors.Is(err, ErrCookie) {
		t.Errorf("before anything was sent: %v", err)
	}
	s.Initiate(start)
	msg := taken(s)[0]
	if _, err := s.HandleDatagram(reply(senderIndex(msg)+1, msg[116:132]), start); !errors.Is(err, ErrCookie) {
		t.Errorf("wrong index: %v", err)
	}
	if _, err := s.HandleDatagram(reply(senderIndex(msg), msg[100:116]), start); !errors.Is(err, ErrOpen) {
		t.Errorf("wrong mac1: %v", err)
	}
	if _, err := s.HandleDatagram(reply(senderIndex(msg), msg[116:132]), start); err != nil {
		t.Errorf("right one after wrong ones: %v", err)
	}
}

func TestCookieExpires(t *testing.T) {
	for _, tt := range []struct {
		age  time.Duration
		used bool
	}{{119 * time.Second, true}, {120 * time.Second, false}} {
		s := newSession(t, testKey(1), testKey(2))
		s.Initiate(start)
		msg := taken(s)[0]
		deliver(t, s, [][]byte{sealCookie(nil, newCookieAEAD(s.peer.key), senderIndex(msg), make([]byte, 24), [16]byte{1}, msg[116:132])}, start)
		s.Initiate(start.Add(tt.age))
		if used := !bytes.Equal(taken(s)[0][132:], make([]byte, 16)); used != tt.used {
			t.Errorf("cookie of age %v used: %v, want %v", tt.age, used, tt.used)
		}
	}
}

// A session asks for cookies too, although it cannot tell addresses apart.
func TestSessionUnderLoad(t *testing.T) {
	a, b := newPair(t)
	var last []byte
	for range sessionHandshakes {
		a.Initiate(start)
		last = taken(a)[0]
		b.HandleDatagram(bytes.Clone(last), start)
	}
	taken(b)
	a.Initiate(start)
	if _, err := b.HandleDatagram(taken(a)[0], start); !errors.Is(err, ErrUnderLoad) {
		t.Fatal(err)
	}
	out := taken(b)
	if types(out) != "3" {
		t.Fatalf("sent %q", types(out))
	}
	deliver(t, a, out, start)
	a.Initiate(start)
	exchange(t, a, b, start)
	if !a.Up(start) {
		t.Error("no session with a cookie")
	}
}
