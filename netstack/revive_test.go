package netstack

import (
	"io"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip/faketime"
)

// An outage of a pair's link begins when told, and ends when both ends, or the
// one that has something in flight, have tried to revive it so often.
type outage struct {
	p      *pair
	down   atomic.Bool
	tries  uint64
	before uint64
}

func (o *outage) link(p *pair) {
	o.p = p
	pass := func([]byte) bool {
		if o.down.Load() && o.revived() >= o.before+o.tries {
			o.down.Store(false)
		}
		return !o.down.Load()
	}
	p.clientLink.filter, p.exitLink.filter = pass, pass
}

func (o *outage) begin() {
	o.before = o.revived()
	o.down.Store(true)
}

func (o *outage) revived() uint64 {
	return o.p.client.counters[flightsRevived].Load() + o.p.exit.counters[flightsRevived].Load()
}

// checkRecovery checks that a sender was told what was lost: one that is not
// retransmits fast after each timeout, once per packet or two.
func checkRecovery(t *testing.T, stacks ...*Stack) {
	t.Helper()
	for _, s := range stacks {
		if n := s.ipstack.Stats().TCP.FastRetransmit.Value(); n > 60 {
			t.Errorf("%d fast retransmissions", n)
		}
	}
}

func TestOutageInTransfer(t *testing.T) {
	for _, tt := range []struct {
		name string
		half bool // the client has nothing to say
		size int64
	}{{"download", false, 16 << 20}, {"half-closed", true, 16 << 20}, {"small", false, 3 << 20}} {
		t.Run(tt.name, func(t *testing.T) {
			o := &outage{tries: 3}
			p := startPair(t, 1312, Config{TCP: acceptAnd(t, func(c *TCPConn) {
				if tt.half {
					io.Copy(io.Discard, c)
				}
				io.CopyN(c, zeros{}, tt.size)
				c.CloseWrite()
				io.Copy(io.Discard, c)
			})}, o.link)
			c := dial(t, p, farPort)
			if tt.half {
				c.CloseWrite()
			}
			if _, err := io.CopyN(io.Discard, c, 2<<20); err != nil {
				t.Fatal(err)
			}
			o.begin()
			n, err := io.Copy(io.Discard, c)
			if err != nil || n != tt.size-2<<20 {
				t.Errorf("received %d bytes after the outage, %v, want %d", n, err, tt.size-2<<20)
			}
			checkRecovery(t, p.exit)
		})
	}
}

func TestOutageInBothDirections(t *testing.T) {
	o := &outage{tries: 4}
	var sent atomic.Int64
	p := startPair(t, 1312, Config{TCP: acceptAnd(t, func(c *TCPConn) { echo(c) })}, o.link, func(p *pair) {
		pass := p.clientLink.filter
		p.clientLink.filter = func(b []byte) bool {
			if sent.Add(1) == 2000 {
				o.begin()
			}
			return pass(b)
		}
	})
	checkEcho(t, dial(t, p, farPort), 8<<20)
	if o.down.Load() || o.revived() < o.tries {
		t.Errorf("down %v after %d of %d tries", o.down.Load(), o.revived(), o.tries)
	}
	checkRecovery(t, p.client, p.exit)
}

func TestOutageOfManyConnections(t *testing.T) {
	o := &outage{tries: 3}
	var sent atomic.Int64
	p := startPair(t, 1312, Config{TCP: acceptAnd(t, func(c *TCPConn) { echo(c) })}, o.link, func(p *pair) {
		pass := p.exitLink.filter
		p.exitLink.filter = func(b []byte) bool {
			if sent.Add(1) == 3000 {
				o.begin()
			}
			return pass(b)
		}
	})
	var wg sync.WaitGroup
	for range 60 {
		c := dial(t, p, farPort)
		wg.Go(func() { checkEcho(t, c, 200<<10) })
	}
	wg.Wait()
	if o.revived() < o.tries {
		t.Errorf("revived %d times", o.revived())
	}
}

// TestLostWindowUpdate loses what says that a receiver reads again, until the
// sender asks.
func TestLostWindowUpdate(t *testing.T) {
	var closed atomic.Bool
	shut := make(chan struct{})
	p := startPair(t, 1312, Config{TCP: acceptAnd(t, func(c *TCPConn) {
		io.CopyN(c, zeros{}, 24<<20)
		c.CloseWrite()
		io.Copy(io.Discard, c)
	})}, func(p *pair) {
		p.clientLink.filter = func(b []byte) bool {
			if b[6] != protoTCP || b[53]&flagSYN != 0 {
				return true
			}
			if be16(b[54:]) == 0 {
				if closed.CompareAndSwap(false, true) {
					close(shut)
				}
				return true
			}
			return !closed.Load() || p.exit.counters[flightsRevived].Load() > 0
		}
	})
	c := dial(t, p, farPort)
	<-shut
	if n, err := io.Copy(io.Discard, c); err != nil || n != 24<<20 {
		t.Errorf("received %d bytes, %v", n, err)
	}
}

// zeros is a reader of zeros.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// A flightsWorld is flights with a clock that stands still, connections from
// clientAddr, and a queue whose pump is the test.
type flightsWorld struct {
	*flights
	clock *faketime.ManualClock
}

func newFlightsWorld(exit bool) flightsWorld {
	clock := faketime.NewManualClock()
	f := &flights{
		clock: clock, link: &recorder{mtu: 1312}, out: newOutbound(), counters: new(counters), exit: exit,
		table: make(map[tuple]*flight), peers: make(map[netip.Addr]*peer),
	}
	return flightsWorld{f, clock}
}

// send sends a segment on a connection from port.
func (w flightsWorld) send(port uint16, seq uint32, flags byte, size int) {
	item := tcpPacket{seq: seq, flags: flags, payload: make([]byte, size), view: 1 << 16}.item()
	ip, tcp := item.pkt.NetworkHeader().Slice(), item.pkt.TransportHeader().Slice()
	put16(tcp, port)
	w.sent(item.pkt, ip, tcp, size)
	item.release()
}

// answer lets an acknowledgement for a connection from port come in.
func (w flightsWorld) answer(port uint16, ack uint32, flags byte) {
	b := tcpPacket{flags: flags | flagACK}.headers()
	src, dst := clientAddr.As16(), farAddr.As16()
	copy(b[8:], dst[:])
	copy(b[24:], src[:])
	put16(b[40:], 443)
	put16(b[42:], port)
	put32(b[48:], ack)
	w.heard([]run{{head: b}})
}

// resent returns from which ports packets have been sent again, and how often.
func (w flightsWorld) resent() map[uint16]int {
	m := make(map[uint16]int)
	for items, _ := w.out.take(nil, false); len(items) > 0; items, _ = w.out.take(nil, false) {
		for i := range items {
			m[be16(items[i].pkt.TransportHeader().Slice())]++
			items[i].release()
		}
	}
	return m
}

// advance moves the clock in ticks.
func (w flightsWorld) advance(d time.Duration) {
	for ; d > 0; d -= flightTick {
		w.clock.Advance(flightTick)
	}
}

func TestOneConnectionAsksForAll(t *testing.T) {
	w := newFlightsWorld(false)
	defer w.close()
	for port := range uint16(20) {
		w.send(port, 100, flagACK, 500)
	}
	w.clock.Advance(50 * time.Millisecond)
	for port := range uint16(20) {
		w.answer(port, 600, 0)
		w.send(port, 600, flagACK, 500)
	}
	w.advance(150 * time.Millisecond)
	if got := w.resent(); len(got) != 0 {
		t.Fatalf("sent again too early: %v", got)
	}
	w.advance(150 * time.Millisecond)
	if got := w.resent(); len(got) != 1 {
		t.Fatalf("sent again in silence: %v, want one", got)
	}
	w.advance(20 * time.Second)
	n := 0
	for _, m := range w.resent() {
		n += m
	}
	if n < 10 || n > 40 {
		t.Errorf("sent %d packets into 20 s of silence", n)
	}
	w.answer(7, 1100, 0)
	got := w.resent()
	if len(got) != 19 || got[7] != 0 {
		t.Errorf("sent again after the silence: %v, want all but 7", got)
	}
	w.clock.Advance(50 * time.Millisecond)
	for port := range uint16(20) {
		w.answer(port, 1100, 0)
	}
	w.advance(3 * time.Second)
	if got := w.resent(); len(got) != 0 || len(w.table) != 0 || w.running {
		t.Errorf("sent again after all was well: %v; %d flights, timer %v", got, len(w.table), w.running)
	}
}

func TestStuckConnectionIsHelpedWhileOthersAreHeard(t *testing.T) {
	w := newFlightsWorld(false)
	defer w.close()
	w.send(1, 0, flagACK, 500)
	w.send(2, 0, flagACK, 500)
	w.clock.Advance(20 * time.Millisecond)
	w.answer(1, 500, 0)
	tries := 0
	for i := range 100 {
		w.send(1, uint32(500+100*i), flagACK, 100)
		w.clock.Advance(flightTick)
		w.answer(1, uint32(600+100*i), 0)
		got := w.resent()
		tries += got[2]
		if got[1] != 0 {
			t.Fatal("sent again what was answered")
		}
	}
	if tries < 2 || tries > 6 {
		t.Errorf("sent again %d times in 5 s, want ever more seldom", tries)
	}
}

func TestExitKeepsItsClientsApart(t *testing.T) {
	w := newFlightsWorld(true)
	defer w.close()
	w.send(1, 0, flagACK, 500) // to farAddr
	other := tcpPacket{seq: 0, flags: flagACK, payload: make([]byte, 500), view: 1 << 16}.item()
	ip := other.pkt.NetworkHeader().Slice()
	dst := exitAddr.As16()
	copy(ip[24:], dst[:])
	w.sent(other.pkt, ip, other.pkt.TransportHeader().Slice(), 500)
	other.release()
	w.advance(3 * time.Second)
	w.resent()
	w.answer(9, 0, 0) // another connection of farAddr
	if got := w.resent(); len(got) != 1 || got[1] != 1 {
		t.Errorf("sent again: %v, want only to who was heard", got)
	}
	if len(w.peers) != 2 {
		t.Errorf("%d peers", len(w.peers))
	}
}

func TestReviveSendsWhatIsOverdue(t *testing.T) {
	w := newFlightsWorld(false)
	s := &Stack{}
	w.send(1, 0, flagACK, 500)
	w.clock.Advance(40 * time.Millisecond)
	w.answer(1, 500, 0) // the round trip
	w.send(2, 0, flagACK, 500)
	w.clock.Advance(110 * time.Millisecond)
	w.send(3, 0, flagACK, 500)
	w.clock.Advance(30 * time.Millisecond)
	s.flights.clock, s.flights.link, s.flights.out, s.flights.counters = w.clock, w.link, w.out, w.counters
	s.flights.table, s.flights.peers = w.table, w.peers
	s.flights.n.Store(w.n.Load())
	s.Revive(netip.Addr{})
	if got := w.resent(); len(got) != 1 || got[2] != 1 {
		t.Errorf("sent again: %v, want what was sent 140 ms ago", got)
	}
	w.close()
}

func TestFlightEndsWithItsConnection(t *testing.T) {
	for name, end := range map[string]func(w flightsWorld){
		"RST received": func(w flightsWorld) { w.answer(1, 0, flagRST) },
		"RST sent":     func(w flightsWorld) { w.send(1, 500, flagRST|flagACK, 0) },
		"new SYN":      func(w flightsWorld) { w.send(1, 9000, flagSYN, 0) },
		"no more sent": func(w flightsWorld) { w.advance(flightOrphan + flightTick) },
		"stack closed": func(w flightsWorld) { w.close() },
	} {
		t.Run(name, func(t *testing.T) {
			w := newFlightsWorld(false)
			w.send(1, 0, flagACK, 500)
			end(w)
			if len(w.table) != 0 || w.n.Load() != 0 {
				t.Errorf("%d flights", len(w.table))
			}
			w.close()
		})
	}
}

func TestFlightsAllocateNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	w := newFlightsWorld(false)
	defer w.close()
	step := w.step(65000)
	step()
	if n := testing.AllocsPerRun(1000, step); n != 0 {
		t.Errorf("%v allocations for a segment and its acknowledgement, want 0", n)
	}
}

// step returns a function that sends a segment and receives its
// acknowledgement.
func (w flightsWorld) step(size int) func() {
	item := tcpPacket{flags: flagACK, payload: make([]byte, size), view: 1 << 16}.item()
	ip, tcp := item.pkt.NetworkHeader().Slice(), item.pkt.TransportHeader().Slice()
	b := tcpPacket{flags: flagACK}.headers()
	copy(b[8:24], ip[24:40])
	copy(b[24:40], ip[8:24])
	copy(b[40:], tcp[2:4])
	copy(b[42:], tcp[0:2])
	runs := []run{{head: b}}
	seq := uint32(0)
	return func() {
		put32(tcp[4:], seq)
		w.sent(item.pkt, ip, tcp, size)
		seq += uint32(size)
		put32(b[48:], seq)
		w.heard(runs)
	}
}

func BenchmarkFlights(b *testing.B) {
	w := newFlightsWorld(false)
	defer w.close()
	step := w.step(65000)
	b.ReportAllocs()
	for b.Loop() {
		step()
	}
}

func TestPumpSendsPartAgain(t *testing.T) {
	p := tcpPacket{seq: 1<<32 - 100, flags: flagACK | flagPSH, payload: randomBytes(5000), view: 700,
		options: []byte{1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1, 1, 5, 10, 0, 0, 0, 1, 0, 0, 0, 2}}
	for _, r := range [][2]uint32{{0, 1000}, {1000, 4000}, {4000, 5000}, {4999, 5000}} {
		link := &recorder{mtu: 1312, keep: true}
		w := newFlightsWorld(false)
		pump := newPump(link, new(counters))
		pump.flights = w.flights
		item := p.item()
		w.sent(item.pkt, item.pkt.NetworkHeader().Slice(), item.pkt.TransportHeader().Slice(), len(p.payload))
		fl := w.last
		fl.ack, fl.window = 4711, 99
		item.part = part{again: true, from: r[0], to: r[1]}
		pump.add(&item)
		pump.flush()
		var got []byte
		for _, b := range link.packets {
			tcp := b[ipv6HeaderLen:]
			if !checksumRight(b, protoTCP) || be32(tcp[8:]) != 4711 || be16(tcp[14:]) != 99 || sackOption(tcp) != nil ||
				be32(tcp[4:]) != p.seq+r[0]+uint32(len(got)) {
				t.Errorf("part %v: header %x", r, b[:84])
			}
			got = append(got, b[84:]...)
			if last := int(r[0])+len(got) == len(p.payload); (tcp[13]&flagPSH != 0) != last {
				t.Errorf("part %v: flags %x", r, tcp[13])
			}
		}
		if string(got) != string(p.payload[r[0]:r[1]]) {
			t.Errorf("part %v: wrong payload", r)
		}
		w.close()
	}
}

func TestFullQueueRefusesWhatIsSentAgain(t *testing.T) {
	q := newOutbound()
	if !q.tryPush(outItem{raw: buffer.NewViewSize(1), size: outboundLimit}) || q.tryPush(outItem{size: 1}) {
		t.Error("want one item of all the room")
	}
	q.close()
}
