package snaptun

import (
	"errors"
	"net/netip"
	"testing"
	"time"
)

// Many peers that fall silent at once are asked one after the other, and
// are gone in the end.
func TestSilentPeersAreAskedInTurn(t *testing.T) {
	const peers = 1000
	f := newField(t)
	populate(t, f.r, peers)
	f.now = start.Add(time.Second)
	for i := range uint32(peers) {
		if _, _, _, ok := f.r.Reserve(wideAddr(i), 1, f.now); !ok {
			t.Fatal("no session")
		}
	}
	const step = 20 * time.Millisecond
	asked, most, before := 0, 0, f.now.Add(15*time.Second)
	for f.now = before; f.now.Before(before.Add(10 * time.Second)); f.now = f.now.Add(step) {
		f.r.HandleTimeout(f.now)
		n := 0
		for {
			_, b := f.r.NextTransmit()
			if b == nil {
				break
			}
			if IsInitiation(b) {
				n++
			}
		}
		asked, most = asked+n, max(most, n)
	}
	if most > driveBurst {
		t.Errorf("%d handshakes were started at a time, want at most %d", most, driveBurst)
	}
	if asked < peers {
		t.Errorf("%d of %d peers were asked in 10 s", asked, peers)
	}
	if limit := int(10*time.Second/driveInterval) + driveBurst; asked > limit {
		t.Errorf("%d handshakes were started in 10 s, want at most %d", asked, limit)
	}
	for looks := 0; f.r.Len() > 0; looks++ {
		if looks > 400*peers {
			t.Fatalf("%d peers are left", f.r.Len())
		}
		f.now = later(f.now.Add(time.Millisecond), f.r.NextTimeout())
		f.r.HandleTimeout(f.now)
		for _, b := f.r.NextTransmit(); b != nil; _, b = f.r.NextTransmit() {
		}
	}
	if f.now.Sub(start) > 10*time.Minute {
		t.Errorf("the last peer was gone after %v", f.now.Sub(start))
	}
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// A packet for a peer without a session is kept while others are asked, and the
// peer asked when there is time.
func TestPostponedHandshakeOfQueuedData(t *testing.T) {
	f := newField(t)
	for i := range uint16(2) {
		f.connect(f.client(i+1), addr(i+1))
	}
	f.now = start.Add(200 * time.Second) // the sessions are too old
	f.r.HandleTimeout(f.now)
	asked := func() (n int) {
		for _, b := f.r.NextTransmit(); b != nil; _, b = f.r.NextTransmit() {
			if IsInitiation(b) {
				n++
			}
		}
		return n
	}
	f.r.host.drive.next = f.r.at(f.now) // there were others
	for i := range uint16(2) {
		if b, _, err := f.r.Seal(nil, addr(i+1), []byte("x"), f.now); err != nil || len(b) != 0 {
			t.Fatalf("Seal = %d bytes, %v", len(b), err)
		}
	}
	if n := asked(); n != 1 {
		t.Fatalf("%d peers were asked, want 1", n)
	}
	if got := f.r.NextTimeout(); !got.Equal(f.now.Add(driveInterval)) {
		t.Errorf("the other has its turn in %v, want %v", got.Sub(f.now), driveInterval)
	}
	f.now = f.r.NextTimeout()
	f.r.HandleTimeout(f.now)
	if n := asked(); n != 1 {
		t.Errorf("%d peers were asked later, want 1", n)
	}
	if f.r.byOrigin[addr(2)].pending == nil {
		t.Error("the second peer was not asked")
	}
}

// Who did not need its turn has it no more.
func TestTurnIsLost(t *testing.T) {
	f := newField(t)
	p := f.connect(f.client(1), addr(1))
	f.now = start.Add(time.Minute)
	now := f.r.at(f.now)
	p.held = now.add(-f.r.host.timers.RekeyTimeout)
	next := now.add(1)
	f.r.host.drive.next = next // there were others
	if err := p.propose(now, true); err != nil || p.pending != nil || p.held != next {
		t.Errorf("a handshake in a turn of long ago: %v, held until %v, want %v", err, p.held, next)
	}
	if err := p.propose(now, true); err != nil || p.pending == nil || p.held != 0 {
		t.Errorf("no handshake in its turn: %v", err)
	}
}

// What waits for sessions is bounded over all peers.
func TestQueuedPayloadsAreBounded(t *testing.T) {
	f := newField(t)
	f.r.host.queueLimit = 1000
	p := f.connect(f.client(1), addr(1))
	f.connect(f.client(2), addr(2))
	f.now = start.Add(200 * time.Second)
	for i, want := range []error{nil, nil, nil, ErrQueueFull} {
		if _, _, err := f.r.Seal(nil, addr(uint16(i%2+1)), make([]byte, 300), f.now); !errors.Is(err, want) {
			t.Errorf("payload %d: %v, want %v", i, err, want)
		}
	}
	f.r.remove(p, CauseExpired, 0, f.r.at(f.now))
	if got := f.r.host.queued; got != 300 {
		t.Errorf("%d bytes are queued after one peer is gone, want 300", got)
	}
	if _, _, err := f.r.Seal(nil, addr(2), make([]byte, 300), f.now); err != nil {
		t.Errorf("there is no room where some was freed: %v", err)
	}
}

// A Responder looks after many peers bit by bit.
func TestTimeoutsAreHandledInParts(t *testing.T) {
	f := newField(t)
	populate(t, f.r, 2*timeoutPeers)
	f.now = start.Add(time.Hour)
	f.r.HandleTimeout(f.now)
	if got := f.r.Len(); got != timeoutPeers {
		t.Errorf("%d peers are left after one call, want %d", got, timeoutPeers)
	}
	if f.r.NextTimeout().After(f.now) {
		t.Error("the rest is not due")
	}
}

// The same initiation at work twice at once is answered once.
func TestHandshakesInterleave(t *testing.T) {
	f := newField(t)
	s := f.client(1)
	b := f.initiation(s)
	var two [2]*Handshake[netip.AddrPort]
	for i := range two {
		var err error
		if two[i], err = f.r.Begin(b, addr(1), f.now); err != nil {
			t.Fatal(err)
		}
	}
	var errs []error
	for range 3 {
		for _, h := range two {
			h.Compute()
		}
		for _, h := range two {
			if _, done, err := f.r.Continue(h, f.now); done {
				errs = append(errs, err)
			}
		}
	}
	if len(errs) != 2 || errs[0] != nil || !errors.Is(errs[1], ErrReplay) {
		t.Errorf("handshakes end with %v, want one answer and %v", errs, ErrReplay)
	}
	if two[0].draw != (PrivateKey{}) {
		t.Error("the ephemeral key is still there")
	}
	if f.r.HalfOpen() != 1 {
		t.Errorf("%d newcomers, want 1", f.r.HalfOpen())
	}
}
