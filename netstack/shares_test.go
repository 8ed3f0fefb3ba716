package netstack

import (
	"net/netip"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/faketime"
)

// A sharing is sendShares with a clock of its own.
type sharing struct {
	sendShares
	now *faketime.ManualClock
	rtt time.Duration
}

func newSharing(exit bool) *sharing {
	s := &sharing{now: faketime.NewManualClock()}
	s.init(s.now, exit)
	s.now.Advance(time.Minute)
	return s
}

// fill fills the send buffer of each connection once and returns the share of
// the last.
func (s *sharing) fill(remote netip.Addr, all ...*share) (size int) {
	for _, sh := range all {
		size = s.filled(sh, remote, maxSend, func() time.Duration { return s.rtt })
	}
	return size
}

func someShares(n int) (all []*share) {
	for range n {
		all = append(all, new(share))
	}
	return all
}

var otherClient = netip.MustParseAddr("fd53:4e41::a:0:2")

func TestSendBuffersAreShared(t *testing.T) {
	for _, tt := range []struct {
		n    int
		rtt  time.Duration
		want int
	}{
		{1, 0, pathSend},
		{1, time.Second / 2, maxSend},
		{2, 0, pathSend / 2},
		{50, 0, pathSend / 50},
		{200, 100 * time.Millisecond, (pathSend + sendRate/10) / 200},
		{200, 10 * time.Second, peerSend / 200},
		{200, time.Hour, peerSend / 200},
		{1000, 0, minSend},
	} {
		s := newSharing(false)
		s.rtt = tt.rtt
		if got := s.fill(farAddr, someShares(tt.n)...); got != tt.want {
			t.Errorf("%d connections, %v: %d bytes each, want %d", tt.n, tt.rtt, got, tt.want)
		}
	}
}

func TestClientsShareNoPath(t *testing.T) {
	s := newSharing(true)
	s.fill(clientAddr, someShares(100)...)
	if got := s.fill(otherClient, new(share)); got != pathSend {
		t.Errorf("a lone connection has %d bytes beside 100 of another client, want %d", got, pathSend)
	}
	s.fill(clientAddr, someShares(400)...)
	if got := s.fill(otherClient, new(share)); got != allSend/502 {
		t.Errorf("one of 502 connections has %d bytes, want %d", got, allSend/502)
	}
	client := newSharing(false)
	client.fill(farAddr, someShares(49)...)
	if got := client.fill(otherClient, new(share)); got != pathSend/50 {
		t.Errorf("a client's fiftieth connection has %d bytes, want %d", got, pathSend/50)
	}
}

func TestSharesGrowWhenOthersEnd(t *testing.T) {
	s := newSharing(false)
	all := someShares(4)
	s.fill(farAddr, all...)
	s.end(all[0])
	s.end(all[1])
	s.end(all[1])
	if got := s.fill(farAddr, all[2]); got != pathSend/2 {
		t.Errorf("one of two has %d bytes, want %d", got, pathSend/2)
	}
	s.now.Advance(2 * hungryFor) // all[3] sends no more
	if got := s.fill(farAddr, all[2]); got != pathSend {
		t.Errorf("one has %d bytes, want %d", got, pathSend)
	}
	s.end(all[2])
	s.now.Advance(sharesSweep)
	s.fill(otherClient, new(share))
	if len(s.peers) != 1 || s.count.hungry != 1 || s.count.held != 0 {
		t.Errorf("%d peers, %+v are left, want one connection", len(s.peers), s.count)
	}
}

func TestStuckConnectionsKeepWhatTheyHave(t *testing.T) {
	s := newSharing(true)
	stuck := someShares(200)
	for _, sh := range stuck { // one after the other, so that each may have most
		s.fill(clientAddr, sh)
		sh.waiting.Store(true)
		s.now.Advance(2 * hungryFor)
	}
	held := 0
	for _, sh := range stuck {
		held += sh.limit
	}
	if most := peerSend + pathSend + 200*minSend; held > most {
		t.Errorf("connections that nobody reads from hold %d bytes, want %d at most", held, most)
	}
	if got := s.fill(otherClient, new(share)); got != pathSend {
		t.Errorf("another client's connection has %d bytes beside them, want %d", got, pathSend)
	}
	stuck[0].waiting.Store(false)
	s.fill(clientAddr, stuck[0])
	for _, sh := range stuck {
		s.end(sh)
	}
	if c := s.count; c.held != 0 || c.hungry != 1 {
		t.Errorf("after all have ended %+v are counted", c)
	}
}

func TestShareOfNewConnection(t *testing.T) {
	s := newSharing(false)
	if got := s.first(farAddr); got != firstSend {
		t.Errorf("the first connection begins with %d bytes, want %d", got, firstSend)
	}
	s.fill(farAddr, someShares(79)...)
	if got := s.first(farAddr); got != pathSend/80 {
		t.Errorf("the eightieth connection begins with %d bytes, want %d", got, pathSend/80)
	}
}

func TestShortestRoundTripCounts(t *testing.T) {
	s := newSharing(false)
	sh := new(share)
	for _, rtt := range []time.Duration{30, 10, 50} {
		s.rtt = rtt * time.Millisecond
		s.now.Advance(sharesSweep)
		s.fill(farAddr, sh)
	}
	if want := pathSend + sendRate/100; sh.limit != want {
		t.Errorf("a share of %d bytes, want %d", sh.limit, want)
	}
}
