package netstack

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

const (
	// maxFlights bounds how many connections with something in flight are
	// remembered. The rest recover by themselves.
	maxFlights = 16384
	// maxPeers is how many peers are remembered beyond those of the flights.
	maxPeers = 1024
	// flightIdle is how long a flight that landed is remembered, and
	// flightOrphan one whose connection does not send any more.
	flightIdle   = time.Second
	flightOrphan = 3 * maxRTO
)

// flights ends outages for TCP. While nothing comes from a peer, one of the
// connections to it is sent again in part, now and then; as soon as something
// comes, all of them are.
//
// What they get is true: the far side acknowledges these packets selectively,
// and the sender concludes at once that all before them is lost. By itself
// gVisor would wait for its timer and then, having forgotten what SACK told
// it, count what is lost as on its way, and send two packets per timeout.
type flights struct {
	clock    tcpip.Clock
	link     Link
	out      *outbound
	counters *counters
	exit     bool
	deliver  func(*stack.PacketBuffer) // to gVisor; called without mu
	n        atomic.Int32              // len(table)

	mu      sync.Mutex // guards what follows; never held while calling up
	table   map[tuple]*flight
	peers   map[netip.Addr]*peer
	last    *flight // of the packet before
	free    []*flight
	ended   []*peer // whose silence the batch has ended
	timer   tcpip.Timer
	running bool // the timer
	mends   []*flight
	mender  tcpip.Timer
	mendAt  tcpip.MonotonicTime // when it fires; zero: it does not
	told    []run               // what the batch has to tell senders
	closed  bool
}

// A peer is who is heard or silent: for an exit the client at an address, for
// a client whatever is behind its tunnel. Times and silence count while it has
// flights.
type peer struct {
	heard   tcpip.MonotonicTime
	revived tcpip.MonotonicTime // when the last silence ended
	probe   tcpip.MonotonicTime // when the next packets go into the silence
	rtt     time.Duration       // smoothed; zero: unknown
	flights int
}

func (f *flights) init(s *Stack) {
	*f = flights{
		clock: s.ipstack.Clock(), link: s.cfg.Link, out: s.out, counters: &s.counters, exit: s.exit, deliver: s.endpoint.deliver,
		table: make(map[tuple]*flight), peers: make(map[netip.Addr]*peer),
	}
}

// key returns by which peer the remote address of t is found.
func (f *flights) key(t *tuple) netip.Addr {
	if !f.exit {
		return netip.Addr{}
	}
	return addrAt(t[18:])
}

// find returns the flight of t, or nil.
func (f *flights) find(t *tuple) *flight {
	if f.last != nil && f.last.tuple == *t {
		return f.last
	}
	if fl := f.table[*t]; fl != nil {
		f.last = fl
		return fl
	}
	return nil
}

// sent notes a segment that leaves.
func (f *flights) sent(pkt *stack.PacketBuffer, ip, tcp []byte, size int) {
	flags := tcp[13]
	carries := size > 0 || flags&flagFIN != 0
	if !carries && f.n.Load() == 0 {
		return
	}
	t := outboundTuple(ip, tcp)
	f.mu.Lock()
	defer f.mu.Unlock()
	fl := f.find(&t)
	if flags&(flagSYN|flagRST) != 0 {
		f.forget(fl)
		return
	}
	if fl == nil {
		if !carries {
			return
		}
		if fl = f.begin(t, be32(tcp[4:])); fl == nil {
			return
		}
	}
	now := f.clock.NowMonotonic()
	fl.ack, fl.window = be32(tcp[8:]), be16(tcp[14:])
	if len(tcp) >= stampEnd && be32(tcp[tcpHeaderLen:]) == stampKind {
		fl.stamp, fl.stamped = be32(tcp[tcpHeaderLen+4:]), now
	}
	if carries {
		fl.add(segmentSent{pkt: pkt, at: now, seq: be32(tcp[4:]), size: uint32(size), fin: flags&flagFIN != 0})
	}
}

// renew makes a header of a segment that is sent again say what the packet
// before it did, or reports that nothing of it is in flight. gVisor takes even an
// old window for the newest, and one that seems to shrink afterwards can lock both
// sides up. A selective acknowledgement would be out of date.
func (f *flights) renew(ip, tcp []byte) bool {
	t := outboundTuple(ip, tcp)
	f.mu.Lock()
	defer f.mu.Unlock()
	fl := f.find(&t)
	if fl == nil {
		return false
	}
	put32(tcp[8:], fl.ack)
	put16(tcp[14:], fl.window)
	if fl.stamp != 0 && len(tcp) >= stampEnd && be32(tcp[tcpHeaderLen:]) == stampKind {
		// gVisor's clock ticks in milliseconds. Without this, what is behind a hole
		// would seem to have taken as long as the hole was there.
		put32(tcp[tcpHeaderLen+4:], fl.stamp+uint32(f.clock.NowMonotonic().Sub(fl.stamped)/time.Millisecond))
	}
	hideSACK(tcp)
	return true
}

// begin returns a flight for t whose next byte is seq, or nil if there are too
// many.
func (f *flights) begin(t tuple, seq uint32) *flight {
	if f.closed || len(f.table) >= maxFlights {
		return nil
	}
	now := f.clock.NowMonotonic()
	p := f.peer(&t)
	if p.flights++; p.flights == 1 {
		p.heard = now
	}
	var fl *flight
	if n := len(f.free); n > 0 {
		fl, f.free = f.free[n-1], f.free[:n-1]
	} else {
		fl = new(flight)
	}
	*fl = flight{tuple: t, peer: p, una: seq, next: seq, hole: seq, repeated: seq, segments: fl.segments[:0], answered: now, mend: fl.mend}
	fl.mend.begin(seq)
	fl.packet = uint32(usableMTU(f.link.MTU(addrAt(t[18:]))) - ipv6HeaderLen - tcpHeaderLen)
	f.table[t], f.last = fl, fl
	f.n.Store(int32(len(f.table)))
	if !f.running {
		f.running = true
		if f.timer == nil {
			f.timer = f.clock.AfterFunc(flightTick, f.tick)
		} else {
			f.timer.Reset(flightTick)
		}
	}
	return fl
}

// peer returns the peer of t. One that is silent and has nothing in flight
// makes room.
func (f *flights) peer(t *tuple) *peer {
	key := f.key(t)
	p := f.peers[key]
	if p != nil {
		return p
	}
	if len(f.peers) >= maxPeers {
		for k, old := range f.peers {
			if old.flights == 0 {
				delete(f.peers, k)
				break
			}
		}
	}
	p = new(peer)
	f.peers[key] = p
	return p
}

// forget drops a flight, if it is one.
func (f *flights) forget(fl *flight) {
	if fl == nil {
		return
	}
	fl.release()
	f.unlist(fl)
	if f.last == fl {
		f.last = nil
	}
	delete(f.table, fl.tuple)
	f.n.Store(int32(len(f.table)))
	fl.peer.flights--
	if len(f.free) < 64 && cap(fl.segments) <= 128 {
		f.free = append(f.free, fl)
	}
}

// close gives everything back. Nothing is remembered after it.
func (f *flights) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	if f.timer != nil {
		f.timer.Stop()
	}
	if f.mender != nil {
		f.mender.Stop()
	}
	for _, fl := range f.table {
		f.forget(fl)
	}
}
