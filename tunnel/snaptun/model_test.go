package snaptun

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// A world is a responder, some clients, two of which share a key, and a network
// that loses, repeats, delays and misdirects what they send. It is the model
// against which the state machine is tested: it knows which payloads may arrive,
// where and from whom.
type world struct {
	t       *rapid.T
	now     time.Time
	r       *Responder[netip.AddrPort]
	denied  map[PublicKey]bool
	clients []*mobile
	up      []datagram // towards the responder
	down    []datagram
	sent    map[string]sender // payloads under way, or lost
	serial  int
}

// A mobile is a client that may restart and move.
type mobile struct {
	n   int
	key PrivateKey
	at  netip.AddrPort
	s   *Session
}

type datagram struct {
	b    []byte
	addr netip.AddrPort // of the client
}

type sender struct {
	key  PublicKey // of the client, whichever the direction
	up   bool
	seen bool
}

func newWorld(t *rapid.T) *world {
	w := &world{t: t, now: start, denied: make(map[PublicKey]bool), sent: make(map[string]sender)}
	r, err := NewResponder(ResponderConfig[netip.AddrPort]{
		PrivateKey:     serverKey,
		Authorize:      func(k PublicKey, _ time.Time) bool { return !w.denied[k] },
		SealedAddr:     func(a netip.AddrPort) netip.AddrPort { return a },
		HandshakeLimit: 5,
		MaxPeers:       8,
		Keepalive:      time.Duration(rapid.IntRange(0, 1).Draw(t, "keepalive")) * 25 * time.Second,
		Rand:           seeded(0),
	}, start)
	if err != nil {
		t.Fatal(err)
	}
	w.r = r
	for n, key := range []uint16{1, 1, 2} {
		m := &mobile{n: n, key: testKey(key), at: addr(uint16(n))}
		w.clients = append(w.clients, m)
		w.restart(m)
	}
	return w
}

func (w *world) restart(m *mobile) {
	s, err := NewSession(SessionConfig{
		PrivateKey: m.key, PeerKey: serverKey.PublicKey(), Keepalive: 10 * time.Second, Rand: seeded(byte(w.serial)),
	}, w.now)
	if err != nil {
		w.t.Fatal(err)
	}
	w.serial++
	m.s = s
}

func (w *world) payload(key PublicKey, up bool) []byte {
	w.serial++
	p := fmt.Sprintf("payload %d", w.serial)
	w.sent[p] = sender{key: key, up: up}
	return []byte(p)
}

// arrived checks a payload that came out of a tunnel.
func (w *world) arrived(payload []byte, key PublicKey, up bool) {
	s, ok := w.sent[string(payload)]
	if !ok || s.seen || s.key != key || s.up != up {
		w.t.Fatalf("payload %q from %v: known %v, seen before %v, made for %v", payload, key, ok, s.seen, s.key)
	}
	s.seen = true
	w.sent[string(payload)] = s
}

// collect puts onto the network what all sides want to send.
func (w *world) collect() {
	for _, m := range w.clients {
		for b := m.s.NextTransmit(); b != nil; b = m.s.NextTransmit() {
			w.up = append(w.up, datagram{bytes.Clone(b), m.at})
		}
		for _, ok := m.s.NextEvent(); ok; _, ok = m.s.NextEvent() {
		}
	}
	for to, b := w.r.NextTransmit(); b != nil; to, b = w.r.NextTransmit() {
		w.down = append(w.down, datagram{bytes.Clone(b), to})
	}
	for _, ok := w.r.NextEvent(); ok; _, ok = w.r.NextEvent() {
	}
}

func (w *world) handUp(d datagram) {
	owners := make(map[netip.AddrPort]*Peer[netip.AddrPort])
	for a, p := range w.r.byOrigin {
		owners[a] = p
	}
	p, payload, err := w.r.HandleDatagram(bytes.Clone(d.b), d.addr, w.now)
	if payload != nil {
		if err != nil || p.Origin() != d.addr || w.denied[p.Key()] {
			w.t.Fatalf("payload with error %v from %v at %v", err, p, d.addr)
		}
		w.arrived(payload, p.Key(), true)
	}
	if d.b[0] != typeData {
		for a, p := range w.r.byOrigin {
			if owners[a] != p {
				w.t.Fatalf("message of type %d made %v the owner of %v", d.b[0], p, a)
			}
		}
	}
	w.collect()
}

func (w *world) handDown(d datagram) {
	for _, m := range w.clients {
		if m.at != d.addr {
			continue
		}
		if payload, _ := m.s.HandleDatagram(bytes.Clone(d.b), w.now); payload != nil {
			w.arrived(payload, m.s.host.public, false)
		}
	}
	w.collect()
}

// advance lets time pass, and calls every timer that comes on the way.
func (w *world) advance(d time.Duration, between func()) {
	end := w.now.Add(d)
	for range 100_000 {
		next := end
		due := func(t time.Time) {
			if !t.IsZero() && t.Before(next) {
				next = t
			}
		}
		due(w.r.NextTimeout())
		for _, m := range w.clients {
			due(m.s.NextTimeout())
		}
		if next.After(w.now) {
			w.now = next
		}
		w.r.HandleTimeout(w.now)
		if t := w.r.NextTimeout(); !t.IsZero() && !t.After(w.now) {
			w.t.Fatalf("responder is still due after its timeout")
		}
		for _, m := range w.clients {
			m.s.HandleTimeout(w.now)
			if t := m.s.NextTimeout(); !t.IsZero() && !t.After(w.now) {
				w.t.Fatalf("client %d is still due after its timeout", m.n)
			}
		}
		w.collect()
		between()
		if !w.now.Before(end) {
			return
		}
	}
	w.t.Fatal("time does not pass")
}

// check holds the tables of the responder against each other.
func (w *world) check() {
	halfOpen, total := 0, 0
	for key, id := range w.r.identities.known {
		halfOpen += len(id.halfOpen)
		total += id.peers
		if len(id.halfOpen) > maxHalfOpenOwn || (id.peers == 0) != (id.idle != nil) {
			w.t.Fatalf("%v: %d newcomers, %d peers, idle %v", key, len(id.halfOpen), id.peers, id.idle != nil)
		}
	}
	if halfOpen != w.r.HalfOpen() || total != len(w.r.byBase) || total != halfOpen+w.r.Len() || w.r.Len() > 8 {
		w.t.Fatalf("%d newcomers counted as %d, %d peers as %d, %d confirmed", halfOpen, w.r.HalfOpen(), len(w.r.byBase), total, w.r.Len())
	}
	for base, p := range w.r.byBase {
		d := p.next()
		if p.base != base || p.wake == 0 || d == 0 || p.wake > d {
			w.t.Fatalf("%v is looked at %v, wants to be at %v", p, p.wake, d)
		}
		if (p.peer.halfOpen != 0) == (w.r.byOrigin[p.origin] == p) {
			w.t.Fatalf("%v is owner and newcomer, or neither", p)
		}
	}
	if len(w.r.schedule) != total {
		w.t.Fatalf("%d timers for %d peers", len(w.r.schedule), total)
	}
}

func TestModel(t *testing.T) { rapid.Check(t, testModel) }

func FuzzModel(f *testing.F) { f.Fuzz(rapid.MakeFuzz(testModel)) }

func testModel(t *rapid.T) {
	w := newWorld(t)
	client := func() *mobile { return w.clients[rapid.IntRange(0, len(w.clients)-1).Draw(t, "client")] }
	take := func(from *[]datagram, keep bool) datagram {
		if len(*from) == 0 {
			t.Skip("nothing under way")
		}
		i := rapid.IntRange(0, len(*from)-1).Draw(t, "datagram")
		d := (*from)[i]
		if !keep {
			*from = append((*from)[:i:i], (*from)[i+1:]...)
		}
		return d
	}
	t.Repeat(map[string]func(*rapid.T){
		"": func(*rapid.T) { w.check() },
		"send up": func(*rapid.T) {
			m := client()
			payload := w.payload(m.s.host.public, true)
			if b, err := m.s.Seal(nil, payload, w.now); err == nil && b != nil {
				w.up = append(w.up, datagram{b, m.at})
			}
			w.collect()
		},
		"send down": func(*rapid.T) {
			for a, p := range w.r.byOrigin {
				payload := w.payload(p.Key(), false)
				if b, to, err := w.r.Seal(nil, a, payload, w.now); err == nil && b != nil {
					if w.denied[p.Key()] || to != a {
						t.Fatalf("sent to %v for %v", to, p)
					}
					w.down = append(w.down, datagram{b, to})
				}
			}
			w.collect()
		},
		"initiate": func(*rapid.T) {
			client().s.Initiate(w.now)
			w.collect()
		},
		"responder initiates": func(*rapid.T) {
			for _, p := range w.r.byOrigin {
				w.r.Initiate(p, w.now)
			}
			w.collect()
		},
		"arrive up":   func(*rapid.T) { w.handUp(take(&w.up, false)) },
		"arrive down": func(*rapid.T) { w.handDown(take(&w.down, false)) },
		"all arrive":  func(*rapid.T) { w.calm() },
		"repeat up":   func(*rapid.T) { w.handUp(take(&w.up, true)) },
		"repeat down": func(*rapid.T) { w.handDown(take(&w.down, true)) },
		"misdirect": func(*rapid.T) {
			d := take(&w.up, true)
			d.addr = addr(uint16(rapid.IntRange(0, 4).Draw(t, "address")))
			w.handUp(d)
		},
		"damage": func(*rapid.T) {
			d := take(&w.up, true)
			b := bytes.Clone(d.b)
			b[rapid.IntRange(0, len(b)-1).Draw(t, "byte")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
			w.handUp(datagram{b, d.addr})
		},
		"lose": func(*rapid.T) { take(&w.up, false) },
		"restart": func(*rapid.T) {
			w.restart(client())
		},
		"move": func(*rapid.T) {
			client().at = addr(uint16(rapid.IntRange(0, 4).Draw(t, "address")))
		},
		"mute or not": func(*rapid.T) {
			k := client().s.host.public
			w.denied[k] = !w.denied[k]
		},
		"leave": func(*rapid.T) {
			m := client()
			if b := m.s.Goodbye(nil, ReasonLeave, w.now); b != nil {
				w.up = append(w.up, datagram{b, m.at})
			}
		},
		"time passes": func(*rapid.T) {
			ms := rapid.SampledFrom([]int{1, 100, 300, 2_000, 5_000, 11_000, 70_000, 200_000, 600_000}).Draw(t, "ms")
			w.advance(time.Duration(ms)*time.Millisecond, w.check)
		},
	})
	w.recover()
}

// calm lets everything under way arrive in order.
func (w *world) calm() {
	for range 1000 {
		if len(w.up)+len(w.down) == 0 {
			return
		}
		if len(w.up) > 0 {
			d := w.up[0]
			w.up = w.up[1:]
			w.handUp(d)
		} else {
			d := w.down[0]
			w.down = w.down[1:]
			w.handDown(d)
		}
	}
	w.t.Fatal("never calm")
}

// recover checks that whatever has happened, three clients with addresses of
// their own and nobody in the way can talk again. It may take them a few retries.
func (w *world) recover() {
	clear(w.denied)
	w.up, w.down = nil, nil
	for i, m := range w.clients {
		m.at = addr(uint16(i))
	}
	w.advance(2*time.Second, w.calm)
	for range 4 { // a session that is dead is found out by what it leaves unanswered
		for _, m := range w.clients {
			if b, err := m.s.Seal(nil, w.payload(m.s.host.public, true), w.now); err == nil && b != nil {
				w.up = append(w.up, datagram{b, m.at})
			}
		}
		w.advance(25*time.Second, w.calm)
	}
	for _, m := range w.clients {
		up := w.payload(m.s.host.public, true)
		b, err := m.s.Seal(nil, up, w.now)
		if err != nil {
			w.t.Fatalf("client %d: %v", m.n, err)
		}
		if b != nil {
			w.up = append(w.up, datagram{b, m.at})
		}
		w.advance(6*time.Second, w.calm)
		down := w.payload(m.s.host.public, false)
		b, to, err := w.r.Seal(nil, m.at, down, w.now)
		if err != nil {
			w.t.Fatalf("responder to client %d: %v", m.n, err)
		}
		if b != nil {
			w.down = append(w.down, datagram{b, to})
		}
		w.advance(6*time.Second, w.calm)
		if !w.sent[string(up)].seen || !w.sent[string(down)].seen {
			w.t.Fatalf("client %d: up arrived %v, down %v", m.n, w.sent[string(up)].seen, w.sent[string(down)].seen)
		}
	}
}
