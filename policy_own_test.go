package snapproxy

import (
	"net/netip"
	"testing"
	"time"
)

func TestOwnAddrsAsksAgain(t *testing.T) {
	own, asked := true, 0
	o := &ownAddrs{ask: func(netip.Addr) bool { asked++; return own }}
	ip, now := netip.MustParseAddr("192.0.2.1"), time.Unix(0, 0)
	for _, tt := range []struct {
		after     time.Duration
		own, want bool
		asked     int
	}{
		{0, true, true, 1},
		{ownMemory - 1, false, true, 1}, // remembered
		{ownMemory, false, false, 2},
		{ownMemory + ownMemory/2, true, false, 2},
		{2 * ownMemory, true, true, 3},
	} {
		own = tt.own
		if got := o.has(ip, now.Add(tt.after)); got != tt.want || asked != tt.asked {
			t.Errorf("after %v: %v, asked %d times, want %v, %d", tt.after, got, asked, tt.want, tt.asked)
		}
	}
}

func TestOwnAddrsRemembersABoundedNumber(t *testing.T) {
	o := &ownAddrs{ask: func(netip.Addr) bool { return false }}
	ip := netip.MustParseAddr("10.0.0.0")
	for range 3 * maxOwnMemory {
		o.has(ip, time.Unix(0, 0))
		ip = ip.Next()
	}
	if n := len(o.known); n > maxOwnMemory {
		t.Errorf("%d addresses remembered, want %d at most", n, maxOwnMemory)
	}
}
