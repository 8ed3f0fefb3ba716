package snaptun

import (
	"encoding/binary"
	"net/netip"
	"runtime"
	"testing"
	"time"
)

func wideAddr(n uint32) netip.AddrPort {
	var ip [4]byte
	binary.BigEndian.PutUint32(ip[:], 10<<24|n)
	return netip.AddrPortFrom(netip.AddrFrom4(ip), 1000)
}

// populate puts n confirmed peers into a responder, without the cost of their
// handshakes: they share one session's keys.
func populate(t testing.TB, r *Responder[netip.AddrPort], n int) {
	t.Helper()
	r.host.gate.limit = 1 << 30
	model := newSession(t, testKey(1), serverKey)
	model.Initiate(start)
	b := taken(model)[0]
	req, err := r.host.openStatic(b)
	if err != nil {
		t.Fatal(err)
	}
	shared, _ := r.host.dh(r.host.private, req.static)
	for i := range uint32(n) {
		req.static = PublicKey{byte(i), byte(i >> 8), byte(i >> 16), 1}
		req.stamp = stampAt(start)
		p, err := r.claimant(nil, &req, shared, wideAddr(i), 1)
		if err != nil {
			t.Fatal(err)
		}
		k := &Keypair{send: newAEAD(digest{1}), recv: newAEAD(digest{2}), local: p.nextIndex()}
		p.identity.record(req.stamp)
		p.store(k, instant(1).add(time.Duration(i)*time.Millisecond))
		p.use(k)
		if err := r.confirm(p, 1); err != nil {
			t.Fatal(err)
		}
		r.schedule.update(p)
	}
	r.events = events{}
}

func TestMemoryPerPeer(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector adds memory")
	}
	const peers = 2000
	f := newField(t)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	populate(t, f.r, peers)
	runtime.GC()
	runtime.ReadMemStats(&after)
	each := int(after.HeapAlloc-before.HeapAlloc) / peers
	t.Logf("%d bytes a peer with one session", each)
	if each > 4096 {
		t.Errorf("%d bytes a peer", each)
	}
	runtime.KeepAlive(f)
}

// Idle peers are looked at only when one of their deadlines has come.
func TestIdlePeersCostNothing(t *testing.T) {
	const peers = 3000
	f := newField(t)
	populate(t, f.r, peers)
	asked := f.asked
	for f.now.Before(start.Add(170 * time.Second)) {
		f.now = f.now.Add(250 * time.Millisecond)
		f.r.HandleTimeout(f.now)
	}
	if got := f.asked - asked; got != 0 {
		t.Errorf("%d peers looked at while idle", got)
	}
	looks := 0
	for f.r.Len() > 0 {
		if f.r.NextTimeout().IsZero() {
			t.Fatalf("%d peers without a timer", f.r.Len())
		}
		f.now = f.r.NextTimeout()
		f.r.HandleTimeout(f.now)
		looks++
		for {
			if _, b := f.r.NextTransmit(); b == nil {
				break
			}
		}
	}
	if got := f.asked - asked; got > 3*peers {
		t.Errorf("%d looks until %d peers had expired", got, peers)
	}
	if len(f.r.byBase) != 0 || len(f.r.schedule) != 0 {
		t.Errorf("%d peers, %d timers left", len(f.r.byBase), len(f.r.schedule))
	}
}

// A packet moves deadlines, but not the schedule.
func TestPacketsDoNotMoveTheSchedule(t *testing.T) {
	f := newField(t)
	s := f.client(1)
	p := f.connect(s, addr(1))
	f.checkTraffic(s, addr(1))
	wake := p.wake
	for range 1000 {
		f.now = f.now.Add(time.Millisecond)
		f.checkTraffic(s, addr(1))
		if p.wake != wake {
			t.Fatal("the schedule has moved")
		}
	}
}
