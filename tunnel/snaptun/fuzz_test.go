package snaptun

import (
	"bytes"
	"testing"
	"time"
)

// seedMessages adds one message of each type, and what they become when cut.
func seedMessages(f *testing.F) {
	a, b := newPair(f)
	a.Initiate(start)
	initiation := taken(a)[0]
	deliver(f, b, [][]byte{initiation}, start)
	response := taken(b)[0]
	deliver(f, a, [][]byte{response}, start)
	cookie := sealCookie(nil, newCookieAEAD(b.host.public), senderIndex(initiation), make([]byte, 24), [16]byte{}, initiation[116:132])
	for _, m := range [][]byte{nil, {1}, initiation, response, cookie, taken(a)[0], seal(f, a, "payload", start), make([]byte, 92)} {
		for _, fix := range []byte{0, 1, 2, 3} {
			f.Add(m, fix)
			if len(m) > 0 {
				f.Add(m[:len(m)-1], fix)
			}
		}
	}
}

// repair makes a datagram pass the first checks, so that what lies behind them is
// reached as well: bit 0 of fix sets mac1, bit 1 the receiver index.
func repair(b []byte, fix byte, to PublicKey, index uint32) []byte {
	b = bytes.Clone(b)
	t := messageType(b)
	if fix&2 != 0 && t > typeInitiation {
		at := 4
		if t == typeResponse {
			at = 8
		}
		b[at], b[at+1], b[at+2], b[at+3] = byte(index), byte(index>>8), byte(index>>16), byte(index>>24)
	}
	if fix&1 != 0 && (t == typeInitiation || t == typeResponse) {
		key := mac1Key(to)
		sum := mac(key[:], b[:len(b)-2*macSize])
		copy(b[len(b)-2*macSize:], sum[:])
	}
	return b
}

// FuzzHandleDatagramSession: whatever a stranger sends, a session says nothing to
// it, gives out nothing and goes on.
func FuzzHandleDatagramSession(f *testing.F) {
	seedMessages(f)
	f.Fuzz(func(t *testing.T, b []byte, fix byte) {
		// Keys other than those of the seeds, so that nothing can be authentic.
		s, other := newSession(t, testKey(11), testKey(12)), newSession(t, testKey(12), testKey(11))
		s.Initiate(start)
		exchange(t, s, other, start)
		s.Initiate(start)
		taken(s)
		index := s.peer.current.local
		if messageType(b) != typeData {
			index = s.peer.pending.index
		}
		before := s.peer.clocks
		payload, err := s.HandleDatagram(repair(b, fix, s.host.public, index), start)
		if err == nil || payload != nil {
			t.Fatalf("payload %x, %v", payload, err)
		}
		if s.peer.clocks != before {
			t.Fatalf("%v moved a timer", err)
		}
		if out := taken(s); len(out) != 0 {
			t.Fatalf("%v is answered by %q", err, types(out))
		}
		deliver(t, other, [][]byte{seal(t, s, "up", start)}, start)
		deliver(t, s, [][]byte{seal(t, other, "down", start)}, start)
	})
}

// FuzzHandleDatagramResponder: the same for a responder, which besides must not
// keep anything of a stranger.
func FuzzHandleDatagramResponder(f *testing.F) {
	seedMessages(f)
	f.Fuzz(func(t *testing.T, b []byte, fix byte) {
		w := newField(t)
		s := w.client(11)
		p := w.connect(s, addr(1))
		if err := w.r.Initiate(p, w.now); err != nil {
			t.Fatal(err)
		}
		w.sent(addr(1))
		index := p.current.local
		if messageType(b) != typeData {
			index = p.pending.index
		}
		before := p.clocks
		out, payload, err := w.hand(repair(b, fix, w.r.host.public, index), addr(1))
		if err == nil || payload != nil || len(out) != 0 {
			t.Fatalf("payload %x, answer %q, %v", payload, types(out), err)
		}
		if p.clocks != before || w.r.Len() != 1 || w.r.HalfOpen() != 0 || len(w.r.identities.known) != 1 {
			t.Fatalf("%v left something behind", err)
		}
		w.checkTraffic(s, addr(1))
	})
}

// FuzzAuthenticated hands a session what only its peer can make: any payload, in
// any order, and any timestamp and address.
func FuzzAuthenticated(f *testing.F) {
	f.Add([]byte("payload"), uint64(0), []byte{4, 0, 1, 2}, int64(0))
	f.Add([]byte("\xffbye1"), uint64(1<<63), []byte{6}, int64(1e9))
	f.Add([]byte{}, uint64(maxCounter), []byte{4, 1}, int64(-1))
	f.Fuzz(func(t *testing.T, payload []byte, counter uint64, sealed []byte, later int64) {
		a, b := connectedPair(t)
		m := a.peer.current.Seal(nil, counter, payload)
		got, err := b.HandleDatagram(m, start)
		_, bye := parseGoodbye(payload)
		switch {
		case counter == 0 || counter >= maxCounter:
			if err == nil {
				t.Fatal("a counter that was used or is too high is accepted")
			}
		case bye:
			if err != ErrGoodbye || got != nil {
				t.Fatalf("goodbye gives %q, %v", got, err)
			}
		case err != nil || !bytes.Equal(got, payload):
			t.Fatalf("%q arrives as %q, %v", payload, got, err)
		}
		var addr [sockaddrSize]byte
		copy(addr[:], sealed)
		if parsed := parseSockaddr(addr); parsed.IsValid() {
			if again := parseSockaddr(sockaddr(parsed)); again != parsed {
				t.Fatalf("%v is sealed as %v", parsed, again)
			}
			again := sockaddr(parsed)
			putBurst(&again, parseBurst(addr))
			if parseSockaddr(again) != parsed || parseBurst(again) != parseBurst(addr) {
				t.Fatalf("%v with %d is sealed as %v with %d", parsed, parseBurst(addr), parseSockaddr(again), parseBurst(again))
			}
		}
		s := stampAt(start.Add(time.Duration(later)))
		if parsed := s.bytes(); parseStamp(parsed[:]) != s || !s.before(s.next()) {
			t.Fatalf("timestamp %v", s)
		}
	})
}

func FuzzParseKeys(f *testing.F) {
	f.Add(testKey(1).Base64())
	f.Add(" " + testKey(1).PublicKey().String() + "\n")
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		k, err := ParsePrivateKey(text)
		p, errPublic := ParsePublicKey(text)
		if (err == nil) != (errPublic == nil) {
			t.Fatalf("%v, but %v", err, errPublic)
		}
		if err != nil {
			return
		}
		if again, err := ParsePrivateKey(k.Base64()); err != nil || again != k || k.IsZero() {
			t.Fatal(err)
		}
		if again, err := ParsePublicKey(p.String()); err != nil || again != p {
			t.Fatal(err)
		}
	})
}
