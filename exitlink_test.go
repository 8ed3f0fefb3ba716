package snapproxy

import (
	"net/netip"
	"testing"

	"github.com/snapproxy/snapproxy/scion"
	"github.com/snapproxy/snapproxy/tunnel/snaptun"
)

// fromInnerOf is an IPv6 packet from the inner address of a process of a key.
func fromInnerOf(key snaptun.PublicKey, process uint16) []byte {
	b := make([]byte, 60)
	b[0] = 0x60
	src := innerAddr(key, process).As16()
	copy(b[8:], src[:])
	return b
}

func TestExitLinkKnowsItsClients(t *testing.T) {
	l := newExitLink(nil, frameBudget{})
	here, there := new(snaptun.Peer[scion.Addr]), new(snaptun.Peer[scion.Addr]) // of one key
	key := here.Key()
	foreign := fromInnerOf(newKey(t).PublicKey(), 1)
	for i, tt := range []struct {
		from   *snaptun.Peer[scion.Addr]
		b      []byte
		want   bool
		behind *snaptun.Peer[scion.Addr] // process 1
	}{
		{here, fromInnerOf(key, 0), false, nil}, // the server's
		{here, fromInnerOf(key, 1), true, here},
		{here, foreign, false, here},
		{here, fromInnerOf(key, 1), true, here},
		{here, fromInnerOf(key, 1)[:39], false, here},
		{there, fromInnerOf(key, 2), true, here},
		{there, fromInnerOf(key, 1), true, there}, // it has moved
		{here, fromInnerOf(key, 1), true, here},   // and back
		{there, foreign, false, here},
	} {
		if got := l.learn(tt.from, tt.b); got != tt.want {
			t.Errorf("packet %d passes: %v", i, got)
		}
		if l.lookup(innerAddr(key, 1)) != tt.behind {
			t.Errorf("packet %d: the address is not behind who sent from it last", i)
		}
	}
	if l.lookup(innerAddr(key, 2)) != there {
		t.Error("the other address is elsewhere")
	}
	l.forget(here)
	if l.lookup(innerAddr(key, 1)) != nil || l.lookup(innerAddr(key, 2)) != there || l.owned[key] != 1 {
		t.Error("what is behind a peer that is gone is not forgotten, or more than that")
	}
	for process := range uint16(2 * maxProcesses) {
		l.learn(here, fromInnerOf(key, 1000+process))
	}
	if len(l.routes) != maxProcesses || l.lookup(netip.Addr{}) != nil {
		t.Errorf("%d inner addresses of one key", len(l.routes))
	}
}

// A run of packets passes without a lookup for each.
func BenchmarkExitLinkLearn(b *testing.B) {
	l := newExitLink(nil, frameBudget{})
	p := new(snaptun.Peer[scion.Addr])
	packet := fromInnerOf(p.Key(), 1)
	b.ReportAllocs()
	for b.Loop() {
		l.learn(p, packet)
	}
}
