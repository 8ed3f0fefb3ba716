package snaptun

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func seconds(n float64) time.Duration { return time.Duration(n * float64(time.Second)) }

// An attempt sends an initiation every five seconds, 18 in all, and is given up
// after 90.
func TestAttemptWithoutAnswer(t *testing.T) {
	s := newSession(t, testKey(1), testKey(2))
	if !s.NextTimeout().IsZero() {
		t.Fatal("an idle session has a timer")
	}
	s.Initiate(start)
	first := taken(s)[0]
	log := runUntil(t, s, nil, start, start.Add(time.Hour), false)
	var want []string
	for n := 5; n < 90; n += 5 {
		want = append(want, "a "+(time.Duration(n)*time.Second).String()+" 1")
	}
	if !slices.Equal(log, want) {
		t.Errorf("sent %v, want %v", log, want)
	}
	if evs := takeEvents(s); len(evs) != 1 || evs[0] != (GivenUp{}) {
		t.Errorf("events %v", evs)
	}
	// The object stays usable.
	now := start.Add(2 * time.Hour)
	s.Initiate(now)
	again := taken(s)[0]
	if senderIndex(again) == senderIndex(first) {
		t.Error("an index was used again")
	}
	peer := newSession(t, testKey(2), testKey(1))
	deliver(t, peer, [][]byte{again}, now)
	exchange(t, s, peer, now)
	if !s.Up(now) {
		t.Error("no session after giving up once")
	}
}

// An idle pair without persistent keepalives, but with one packet: keepalives
// answer each other, and the initiator rekeys.
func TestIdlePair(t *testing.T) {
	a, b := connectedPair(t)
	deliver(t, b, [][]byte{seal(t, a, "x", start)}, start)
	log := runUntil(t, a, b, start, start.Add(seconds(1300)), true)
	initiations := 0
	for _, line := range log {
		switch {
		case strings.HasSuffix(line, " k"):
		case strings.HasPrefix(line, "a") && strings.HasSuffix(line, " 1"):
			initiations++
		default:
			t.Errorf("sent %q", line)
		}
	}
	if initiations != 10 {
		t.Errorf("%d rekeys in 1300 s, want 10:\n%s", initiations, strings.Join(log, "\n"))
	}
	if !a.Up(start.Add(seconds(1300))) || !b.Up(start.Add(seconds(1300))) {
		t.Error("the session is lost")
	}
}

// Before anything was sent, nothing is, and the session expires.
func TestSilentPairExpires(t *testing.T) {
	a, b := connectedPair(t)
	// The empty message after the response is answered once; the answer as well.
	log := runUntil(t, a, b, start, start.Add(seconds(9)), true)
	if len(log) != 0 {
		t.Errorf("sent %v", log)
	}
	// Nothing comes through any more.
	runUntil(t, a, nil, start, start.Add(time.Hour), false)
	runUntil(t, b, nil, start, start.Add(time.Hour), false)
	for name, s := range map[string]*Session{"a": a, "b": b} {
		evs := takeEvents(s)
		if len(evs) != 1 || !s.NextTimeout().IsZero() || s.Up(start.Add(time.Hour)) {
			t.Errorf("%s: events %v, timeout %v", name, evs, s.NextTimeout())
		}
	}
}

func TestExpiryAfter540Seconds(t *testing.T) {
	s, _ := connectedPair(t)
	runUntil(t, s, nil, start, start.Add(seconds(539.9)), false)
	if evs := takeEvents(s); len(evs) != 0 {
		t.Errorf("events %v", evs)
	}
	runUntil(t, s, nil, start, start.Add(seconds(540)), false)
	if evs := takeEvents(s); len(evs) != 1 || evs[0] != (Expired{}) {
		t.Errorf("events %v", evs)
	}
}

func TestRekeyAndReject(t *testing.T) {
	tests := []struct {
		name    string
		prepare func(a, b *Session) // at start
		at      float64             // seconds, of the first initiation of a
	}{
		{"initiator sent", func(a, b *Session) { deliver(t, b, [][]byte{seal(t, a, "x", start)}, start) }, 120},
		{"initiator only received", func(a, b *Session) {
			b.peer.dataSent(b.at(start), false)
			m := b.peer.current.Seal(nil, b.peer.current.sent, nil)
			a.at(start)
			deliver(t, a, [][]byte{m}, start)
			a.peer.owed = 0 // as if a had not answered
		}, 165},
		{"initiator did nothing", func(a, b *Session) {}, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, b := connectedPair(t)
			tt.prepare(a, b)
			a.peer.unanswered = 0 // as if it had been answered
			log := runUntil(t, a, nil, start, start.Add(seconds(185)), false)
			first := ""
			for _, line := range log {
				if strings.HasSuffix(line, " 1") {
					first = line
					break
				}
			}
			want := ""
			if tt.at != 0 {
				want = "a " + seconds(tt.at).String() + " 1"
			}
			if first != want {
				t.Errorf("first initiation %q, want %q in %v", first, want, log)
			}
			if a.Up(start.Add(seconds(185))) {
				t.Error("the session is usable after 180 s")
			}
		})
	}
}

func TestSessionIsRejectedWithoutTimer(t *testing.T) {
	a, b := connectedPair(t)
	m := seal(t, a, "late", start)
	late := start.Add(seconds(180))
	if out, err := a.Seal(nil, []byte("x"), late); err != nil || len(out) != 0 {
		t.Errorf("sealed %d bytes in a session of 180 s: %v", len(out), err)
	}
	if _, _, ok := b.Reserve(1, late); ok {
		t.Error("reserved in a session of 180 s")
	}
	if _, err := b.HandleDatagram(m, late); err != ErrNoSession {
		t.Errorf("data in a session of 180 s: %v", err)
	}
}

func TestPassiveKeepalive(t *testing.T) {
	tests := []struct {
		name     string
		sentLast float64 // seconds, of b before it receives at 30 s
		want     string
	}{
		{"silent for long", 0, "a 30.25s k"},
		{"silent for a while", 25, "a 35s k"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, b := connectedPair(t)
			a.peer.owed, b.peer.owed = 0, 0 // as if nothing had been said yet
			if tt.sentLast != 0 {
				seal(t, b, "x", start.Add(seconds(tt.sentLast)))
			}
			at := start.Add(seconds(30))
			deliver(t, b, [][]byte{seal(t, a, "y", at)}, at)
			log := runUntil(t, b, nil, at, at.Add(seconds(6)), false)
			if !slices.Equal(log, []string{tt.want}) {
				t.Errorf("sent %v, want %v", log, tt.want)
			}
		})
	}
	t.Run("data instead", func(t *testing.T) {
		a, b := connectedPair(t)
		at := start.Add(seconds(30))
		deliver(t, b, [][]byte{seal(t, a, "y", at)}, at)
		seal(t, b, "reply", at)
		if log := runUntil(t, b, nil, at, at.Add(seconds(6)), false); len(log) != 0 {
			t.Errorf("sent %v", log)
		}
	})
	t.Run("empty messages are answered", func(t *testing.T) {
		a, b := connectedPair(t)
		b.peer.owed = 0
		at := start.Add(seconds(30))
		a.peer.sendKeepalive(a.at(at))
		deliver(t, b, taken(a), at)
		if log := runUntil(t, b, nil, at, at.Add(seconds(1)), false); !slices.Equal(log, []string{"a 30.25s k"}) {
			t.Errorf("sent %v", log)
		}
	})
}

func TestUnansweredData(t *testing.T) {
	a, b := connectedPair(t)
	a.peer.owed, b.peer.owed = 0, 0
	at := start.Add(seconds(40))
	seal(t, b, "lost", at)
	seal(t, b, "lost", at.Add(seconds(10))) // counts from the first
	if got := b.AwaitingSince(); !got.Equal(at) {
		t.Errorf("awaiting since %v", got.Sub(start))
	}
	log := runUntil(t, b, nil, at, at.Add(seconds(21)), false)
	if want := []string{"a 55s 1", "a 1m0s 1"}; !slices.Equal(log, want) {
		t.Errorf("sent %v, want %v", log, want)
	}
	// Any authenticated message ends the wait, but not the handshake.
	at = at.Add(seconds(21))
	deliver(t, b, [][]byte{seal(t, a, "x", at)}, at)
	if !b.AwaitingSince().IsZero() || !b.LastReceived().Equal(at) {
		t.Errorf("awaiting since %v, received %v", b.AwaitingSince(), b.LastReceived())
	}
}

func TestEmptyMessagesAreNotWaitedFor(t *testing.T) {
	a, _ := connectedPair(t)
	a.peer.sendKeepalive(a.at(start))
	if !a.AwaitingSince().IsZero() {
		t.Error("awaiting an answer to a keepalive")
	}
}

func TestPersistentKeepalive(t *testing.T) {
	every := func(d time.Duration) func(*SessionConfig) {
		return func(c *SessionConfig) { c.Keepalive = d }
	}
	t.Run("while a session stands", func(t *testing.T) {
		a, _ := connectedPair(t, every(4*time.Second))
		a.peer.unanswered = 0
		log := runUntil(t, a, nil, start, start.Add(seconds(13)), false)
		if want := []string{"a 4s k", "a 8s k", "a 12s k"}; !slices.Equal(log, want) {
			t.Errorf("sent %v, want %v", log, want)
		}
	})
	t.Run("not on an idle dead tunnel", func(t *testing.T) {
		a, _ := connectedPair(t, every(10*time.Second))
		log := runUntil(t, a, nil, start, start.Add(24*time.Hour), false)
		evs := takeEvents(a)
		if len(evs) != 1 || evs[0] != (GivenUp{}) || !a.NextTimeout().IsZero() {
			t.Errorf("events %v after %v", evs, log)
		}
		if last := log[len(log)-1]; !strings.HasPrefix(last, "a 1m") {
			t.Errorf("still at it: %v", last)
		}
	})
	t.Run("Rust client and our server", func(t *testing.T) {
		// The client sends every 10 s and the server answers, with the first
		// initiation after 120 s.
		f := newField(t)
		s := f.client(1, every(10*time.Second))
		f.connect(s, addr(1))
		for {
			next := s.NextTimeout()
			if d := f.r.NextTimeout(); d.Before(next) {
				next = d
			}
			if f.now = next; !next.Before(start.Add(seconds(120))) {
				break
			}
			s.HandleTimeout(f.now)
			for _, b := range taken(s) {
				if b[0] != typeData {
					t.Fatalf("client sent type %d after %v", b[0], f.now.Sub(start))
				}
				if _, _, err := f.hand(b, addr(1)); err != nil {
					t.Fatal(err)
				}
			}
			f.r.HandleTimeout(f.now)
			out := f.sent(addr(1))
			if strings.Contains(types(out), "1") {
				t.Fatalf("server initiates after %v", f.now.Sub(start))
			}
			deliver(t, s, out, f.now)
		}
	})
}

// Three rekeys while data flows; nothing is lost.
func TestRekeyUnderLoad(t *testing.T) {
	short := func(c *SessionConfig) {
		c.Timers = Timers{RekeyAfter: seconds(12), RejectAfter: seconds(18)}
	}
	a, b := connectedPair(t, short)
	got := 0
	now := start
	for i := 0; i < 5000; i++ {
		now = now.Add(10 * time.Millisecond)
		for _, s := range []*Session{a, b} {
			if d := s.NextTimeout(); !d.IsZero() && !d.After(now) {
				s.HandleTimeout(now)
			}
		}
		exchange(t, a, b, now)
		got += len(deliver(t, b, [][]byte{seal(t, a, "up", now)}, now))
		got += len(deliver(t, a, [][]byte{seal(t, b, "down", now)}, now))
	}
	if got != 10000 {
		t.Errorf("%d payloads arrived", got)
	}
	if evs := takeEvents(a); len(evs) < 3 {
		t.Errorf("%d rekeys", len(evs))
	}
}

func TestClockSetBack(t *testing.T) {
	s := newSession(t, testKey(1), testKey(2))
	now := start.Add(time.Minute)
	var last stamp
	for _, step := range []time.Duration{0, -time.Second, 0, -time.Hour, time.Second} {
		now = now.Add(step)
		s.host.now = now
		next := s.host.nextStamp()
		if !last.before(next) {
			t.Errorf("after %v: %v is not newer than %v", step, next, last)
		}
		last = next
	}
}

func TestTimersAreChecked(t *testing.T) {
	config := SessionConfig{PeerKey: testKey(1).PublicKey(), Timers: Timers{RekeyAfter: -1}}
	if _, err := NewSession(config, start); err == nil {
		t.Error("negative timer accepted")
	}
	config = SessionConfig{PeerKey: testKey(1).PublicKey(), Keepalive: -1}
	if _, err := NewSession(config, start); err == nil {
		t.Error("negative keepalive accepted")
	}
}
