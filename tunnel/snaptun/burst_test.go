package snaptun

import (
	"net/netip"
	"testing"
)

func TestBurstIsTold(t *testing.T) {
	for _, tt := range []struct {
		from        string
		burst, want int
	}{
		{"192.0.2.7:4000", 65507, 65507},
		{"192.0.2.7:4000", 1, 1},
		{"192.0.2.7:4000", 0, 0},
		{"192.0.2.7:4000", 1 << 20, maxBurst},
		{"[2001:db8::7]:4000", 65507, 0}, // no room
	} {
		f := newField(t, func(c *ResponderConfig[netip.AddrPort]) { c.Burst = tt.burst })
		s, from := f.client(1), netip.MustParseAddrPort(tt.from)
		f.connect(s, from)
		ev, _ := s.NextEvent()
		if want := (Established{Assigned: from, Burst: tt.want, Initiator: true}); ev != want {
			t.Errorf("from %s with %d: event %+v, want %+v", tt.from, tt.burst, ev, want)
		}
	}
}

func TestParseBurst(t *testing.T) {
	for _, tt := range []struct {
		name string
		b    [sockaddrSize]byte
		want int
	}{
		{"nothing said", [20]byte{0: 4, 16: 192}, 0},
		{"said", [20]byte{0: 4, 4: 'b', 5: 'u', 6: 'r', 7: 's', 10: 0x24, 16: 192}, 9216},
		{"more than there can be", [20]byte{0: 4, 4: 'b', 5: 'u', 6: 'r', 7: 's', 9: 1, 11: 1}, 0},
		{"another tag", [20]byte{0: 4, 4: 'b', 5: 'u', 6: 'r', 7: 'z', 10: 0x24}, 0},
		{"an address of IPv6", [20]byte{0: 6, 4: 'b', 5: 'u', 6: 'r', 7: 's', 10: 0x24}, 0},
		{"reserved byte", [20]byte{0: 4, 1: 1, 4: 'b', 5: 'u', 6: 'r', 7: 's', 10: 0x24}, 0},
	} {
		if got := parseBurst(tt.b); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
}
