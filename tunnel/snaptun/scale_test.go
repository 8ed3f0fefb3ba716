package snaptun

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"strconv"
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

// BenchmarkForward takes a packet of one peer and one for another, both of which
// nobody has looked at for long if there are many.
func BenchmarkForward(b *testing.B) {
	for _, peers := range []int{10, 1000, 30000} {
		b.Run(strconv.Itoa(peers), func(b *testing.B) {
			keys := make(map[PublicKey]string)
			f := newField(b, func(c *ResponderConfig[netip.AddrPort]) {
				c.Authorize = func(k PublicKey, _ time.Time) bool { _, ok := keys[k]; return ok }
			})
			populate(b, f.r, peers)
			for p := range f.r.Peers() {
				keys[p.key] = ""
			}
			rng := rand.New(rand.NewPCG(1, 2))
			indices := make([]uint32, peers)
			for i := range indices {
				indices[i] = f.r.byOrigin[wideAddr(uint32(i))].current.local
			}
			counters := make([]uint64, peers)
			message, sealed := make([]byte, Overhead), make([]byte, 0, Overhead)
			message[0] = typeData
			now := start
			for b.Loop() {
				i, j := rng.IntN(peers), rng.IntN(peers)
				counters[i]++
				binary.LittleEndian.PutUint32(message[4:], indices[i])
				binary.LittleEndian.PutUint64(message[8:], counters[i])
				now = now.Add(time.Microsecond)
				k, p, err := f.r.Keypair(message, wideAddr(uint32(i)))
				if err == nil {
					k.Open(message)
					err = f.r.Accept(p, k, message, wideAddr(uint32(i)), 0, now)
				}
				if err != nil {
					b.Fatal(err)
				}
				if f.r.Peer(wideAddr(uint32(j))) == nil {
					b.Fatal("no peer")
				}
				_, k, counter, ok := f.r.Reserve(wideAddr(uint32(j)), 1, now)
				if !ok {
					b.Fatal("no session")
				}
				sealed = k.Seal(sealed[:0], counter, nil)
			}
		})
	}
}
