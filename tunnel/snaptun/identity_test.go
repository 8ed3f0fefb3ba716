package snaptun

import (
	"errors"
	"testing"
	"time"
)

func TestIdentityStamps(t *testing.T) {
	at := func(s float64) stamp { return stampAt(start.Add(seconds(s))) }
	tests := []struct {
		name string
		seen []float64
		next float64
		want error
	}{
		{"first", nil, 0, nil},
		{"newer", []float64{0}, 1, nil},
		{"same", []float64{0}, 0, ErrReplay},
		{"lagging a little", []float64{100}, 41, nil},
		{"lagging at the limit", []float64{100}, 40, nil},
		{"lagging too much", []float64{100}, 39.999, ErrStaleInitiation},
		{"lagging one seen", []float64{50, 100}, 50, ErrReplay},
		{"seen, then out of the window", []float64{0, 30, 100}, 30, ErrStaleInitiation},
		{"far future", []float64{0, 1e9}, 10, ErrStaleInitiation},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var id identity[int]
			for _, s := range tt.seen {
				if err := id.check(at(s)); err != nil {
					t.Fatal(err)
				}
				id.record(at(s))
			}
			if err := id.check(at(tt.next)); !errors.Is(err, tt.want) {
				t.Errorf("%v, want %v", err, tt.want)
			}
		})
	}
	var id identity[int]
	if err := id.check(stamp{}); !errors.Is(err, ErrStaleInitiation) {
		t.Errorf("zero: %v", err)
	}
	id.record(stamp{sec: 1<<64 - 1, nano: 1<<32 - 1})
	if err := id.check(at(0)); !errors.Is(err, ErrStaleInitiation) {
		t.Errorf("after the last of all: %v", err)
	}
}

// However many are seen, none is accepted twice, and memory is bounded.
func TestIdentityStampsAreBounded(t *testing.T) {
	var id identity[int]
	var accepted []stamp
	for n := range 1000 {
		s := stampAt(start.Add(time.Duration(n*7919%1000) * 10 * time.Millisecond))
		if id.check(s) == nil {
			id.record(s)
			accepted = append(accepted, s)
		}
		if len(id.recent) > maxRecent {
			t.Fatalf("%d stamps remembered", len(id.recent))
		}
	}
	if len(accepted) < maxRecent {
		t.Errorf("only %d accepted", len(accepted))
	}
	for _, s := range accepted {
		if id.check(s) == nil {
			t.Errorf("%v would be accepted again", s)
		}
	}
}

// Two machines share a key, and the clock of one is 40 s behind: both connect.
func TestClocksOfOneKeyDiffer(t *testing.T) {
	f := newField(t)
	f.connect(f.client(1), addr(1))
	ahead := f.now
	f.now = start.Add(-40 * time.Second)
	behind := f.client(1)
	f.connect(behind, addr(2))
	// From one address they must still grow.
	f.now = ahead.Add(-20 * time.Second)
	if _, _, err := f.hand(f.initiation(f.client(1)), addr(1)); !errors.Is(err, ErrStaleInitiation) {
		t.Errorf("older initiation from the same address: %v", err)
	}
	f.now = start.Add(-30 * time.Second)
	f.answer(behind, addr(2), f.initiation(behind))
	f.now = start.Add(-61 * time.Second)
	if _, _, err := f.hand(f.initiation(f.client(1)), addr(3)); !errors.Is(err, ErrStaleInitiation) {
		t.Errorf("a clock 61 s behind: %v", err)
	}
	if f.r.Len() != 2 {
		t.Errorf("%d peers", f.r.Len())
	}
}

func TestIdentitiesAreForgotten(t *testing.T) {
	f := newField(t)
	s := f.client(1)
	f.connect(s, addr(1))
	f.hand(s.Goodbye(nil, ReasonLeave, f.now), addr(1))
	gone := f.now
	// With its clock set right, a client that once was in the future comes back
	// within the hour at the latest.
	for _, tt := range []struct {
		after time.Duration
		want  error
	}{{59 * time.Minute, ErrStaleInitiation}, {61 * time.Minute, nil}} {
		past := newSession(t, testKey(1), serverKey)
		past.host.now = start.Add(-time.Hour)
		past.peer.initiate(1, true)
		f.now = gone.Add(tt.after)
		if _, _, err := f.hand(taken(past)[0], addr(1)); !errors.Is(err, tt.want) {
			t.Errorf("after %v: %v, want %v", tt.after, err, tt.want)
		}
	}
}

func TestIdleIdentitiesAreBounded(t *testing.T) {
	ids := identities[int]{known: make(map[PublicKey]*identity[int])}
	for n := range maxIdle + 100 {
		key := PublicKey{byte(n), byte(n >> 8), byte(n >> 16), 1}
		id := ids.add(key, digest{}, instant(n+1))
		ids.join(id)
		ids.leave(id, instant(n+1))
	}
	if len(ids.known) > maxIdle || ids.idle.Len() != len(ids.known) {
		t.Errorf("%d identities, %d idle", len(ids.known), ids.idle.Len())
	}
	if ids.get(PublicKey{3: 1}, 1) != nil {
		t.Error("the one idle for longest is still there")
	}
	// One with peers stays.
	busy := ids.add(PublicKey{3: 2}, digest{}, 1)
	ids.join(busy)
	late := instant(1).add(10 * identityMemory)
	ids.add(PublicKey{3: 3}, digest{}, late)
	if ids.get(busy.key, late) != busy || len(ids.known) != 2 {
		t.Errorf("%d identities left", len(ids.known))
	}
}
