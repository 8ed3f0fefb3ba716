package netstack

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
)

const (
	// minSend is the least send buffer: little more than the ten packets with which
	// any TCP may begin, and enough that wake-ups do not cost more than packets.
	minSend = 24 << 10
	// firstSend is the send buffer of a new connection. Each time that it was full
	// and something of it has been acknowledged it may grow sendGrowth times,
	// which is ahead of what slow start makes of the congestion window.
	firstSend  = 32 << 10
	sendGrowth = 4
	// maxSend fills a path of 100 ms at 500 Mbit/s and more: gVisor wakes who writes
	// when half of it is free.
	maxSend = 12 << 20

	// pathSend is shared by all that send to one peer, and so is what sendRate
	// bytes a second make in the time of a round trip: twice what two cores carry,
	// since of a send buffer that is refilled when half of it is free that half is
	// sure to be on its way. What is under way waits in the sockets on the way,
	// before every packet of other flows, and what does not fit their 4 MiB is
	// lost; with many flows it takes luck to recover. Half as much as pathSend
	// fills the way between processes on one machine as well.
	pathSend = 2 << 20
	sendRate = 384 << 20
	// peerSend and allSend bound the memory of the send buffers to one peer, and
	// of all. Beyond them every connection has minSend.
	peerSend = 64 << 20
	allSend  = 256 << 20

	// hungryFor is how long a connection counts that has filled its send buffer.
	// One that then still waits does not send: it keeps what it has.
	hungryFor = time.Second
	// sharesSweep is how often that is looked at, and how often the round trip is.
	sharesSweep = 100 * time.Millisecond
)

// sendShares divides send buffers among the connections that fill them.
// Since flights of equal size take equal turns in all queues on the way, this is
// what makes many flows fair, and it keeps them from losing what they send.
type sendShares struct {
	clock tcpip.Clock
	exit  bool

	mu    sync.Mutex // guards what follows; never held while calling out
	peers map[netip.Addr]*sharePeer
	count shareCount
	swept tcpip.MonotonicTime
}

// A sharePeer is whom connections send to: for an exit the client at an
// address, for a client whatever is behind its tunnel.
type sharePeer struct {
	shares map[*share]struct{}
	count  shareCount
	rtt    time.Duration // the least seen
	asked  tcpip.MonotonicTime
}

// A shareCount is the connections that send as fast as they may, and what those
// keep that do not get on.
type shareCount struct{ hungry, held int }

func (c *shareCount) add(hungry, held int) { c.hungry, c.held = c.hungry+hungry, c.held+held }

// A share is the part of one connection.
type share struct {
	waiting atomic.Bool // for room in its send buffer

	// The rest is guarded by sendShares.mu.
	peer  *sharePeer // nil: it does not count
	full  tcpip.MonotonicTime
	limit int
	stuck bool
}

func (s *sendShares) init(clock tcpip.Clock, exit bool) {
	s.clock, s.exit, s.peers = clock, exit, make(map[netip.Addr]*sharePeer)
}

func (s *sendShares) key(remote netip.Addr) netip.Addr {
	if !s.exit {
		return netip.Addr{}
	}
	return remote
}

// first returns the size of the send buffer of a new connection to remote.
func (s *sendShares) first(remote netip.Addr) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.peers[s.key(remote)]
	if p == nil {
		return firstSend
	}
	return min(firstSend, s.part(p, 1))
}

// filled notes that the connection of sh to remote has filled its send buffer,
// and returns the size that it may have, at most most. rtt is called now and
// then, and tells the round trip time, or zero.
func (s *sendShares) filled(sh *share, remote netip.Addr, most int, rtt func() time.Duration) int {
	now := s.clock.NowMonotonic()
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Sub(s.swept) >= sharesSweep {
		s.sweep(now)
	}
	s.begin(sh, remote)
	sh.full = now
	p := sh.peer
	if p.rtt == 0 || now.Sub(p.asked) >= sharesSweep {
		p.asked = now
		s.mu.Unlock()
		d := rtt()
		s.mu.Lock()
		if d > 0 && (p.rtt == 0 || d < p.rtt) {
			p.rtt = d
		}
		if sh.peer == nil {
			return minSend // it was closed meanwhile
		}
	}
	sh.limit = min(s.part(p, 0), most)
	return sh.limit
}

// part is what each hungry connection to p may have, if there are more of them.
func (s *sendShares) part(p *sharePeer, more int) int {
	path := pathSend + int(min(p.rtt, time.Second)*sendRate/time.Second)
	size := min(path, peerSend-p.count.held) / max(p.count.hungry+more, 1)
	size = min(size, (allSend-s.count.held)/max(s.count.hungry+more, 1))
	return min(max(size, minSend), maxSend)
}

// begin counts sh among the hungry.
func (s *sendShares) begin(sh *share, remote netip.Addr) {
	if sh.peer == nil {
		key := s.key(remote)
		p := s.peers[key]
		if p == nil {
			p = &sharePeer{shares: make(map[*share]struct{})}
			s.peers[key] = p
		}
		p.shares[sh] = struct{}{}
		sh.peer = p
		s.add(p, 1, 0)
	} else if sh.stuck {
		sh.stuck = false
		s.add(sh.peer, 1, -sh.limit)
	}
}

// end takes sh out of the count.
func (s *sendShares) end(sh *share) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remove(sh)
}

func (s *sendShares) remove(sh *share) {
	p := sh.peer
	if p == nil {
		return
	}
	if sh.stuck {
		s.add(p, 0, -sh.limit)
	} else {
		s.add(p, -1, 0)
	}
	delete(p.shares, sh)
	sh.peer, sh.stuck = nil, false
}

func (s *sendShares) add(p *sharePeer, hungry, held int) {
	p.count.add(hungry, held)
	s.count.add(hungry, held)
}

// sweep looks which connections have not filled their send buffers for a while.
func (s *sendShares) sweep(now tcpip.MonotonicTime) {
	s.swept = now
	for key, p := range s.peers {
		for sh := range p.shares {
			switch {
			case now.Sub(sh.full) < hungryFor:
			case !sh.waiting.Load():
				s.remove(sh)
			case !sh.stuck:
				sh.stuck = true
				s.add(p, -1, sh.limit)
			}
		}
		if len(p.shares) == 0 {
			delete(s.peers, key)
		}
	}
}
