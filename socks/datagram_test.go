package socks

import (
	"bytes"
	"errors"
	"net/netip"
	"strings"
	"testing"
)

func TestDatagrams(t *testing.T) {
	v6 := string(netip.MustParseAddr("2001:db8::1").AsSlice())
	mapped := string(netip.MustParseAddr("::ffff:192.0.2.1").AsSlice())
	tests := []struct{ name, datagram, target, payload string }{
		{"IPv4", "\x00\x00\x00\x01\xc0\x00\x02\x01\x00\x35query", "192.0.2.1:53", "query"},
		{"IPv6", "\x00\x00\x00\x04" + v6 + "\x00\x35query", "[2001:db8::1]:53", "query"},
		{"mapped IPv4", "\x00\x00\x00\x04" + mapped + "\x00\x35query", "192.0.2.1:53", "query"},
		{"name", "\x00\x00\x00\x03\x08dns.test\x00\x35query", "dns.test:53", "query"},
		{"name that is an address", "\x00\x00\x00\x03\x09192.0.2.1\x00\x35query", "192.0.2.1:53", "query"},
		{"empty", "\x00\x00\x00\x01\xc0\x00\x02\x01\x00\x35", "192.0.2.1:53", ""},
		{"large", "\x00\x00\x00\x01\xc0\x00\x02\x01\x00\x35" + strings.Repeat("x", 65507), "192.0.2.1:53", strings.Repeat("x", 65507)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			target, payload, err := ParseDatagram([]byte(tt.datagram))
			if err != nil {
				t.Fatal(err)
			}
			if target.String() != tt.target || string(payload) != tt.payload {
				t.Errorf("got %s %.20q, want %s %.20q", target, payload, tt.target, tt.payload)
			}
			// An answer has the address in the form asked for.
			if got := AppendDatagram(nil, target, payload); string(got) != tt.datagram {
				t.Errorf("answer %.40q, want %.40q", got, tt.datagram)
			}
			if got, want := HeaderLen(target), len(tt.datagram)-len(tt.payload); got != want {
				t.Errorf("HeaderLen = %d, want %d", got, want)
			}
		})
	}
}

func TestParseDatagramRefuses(t *testing.T) {
	tests := []struct {
		name, datagram string
		err            error
	}{
		{"nothing", "", ErrTruncated},
		{"no address", "\x00\x00\x00", ErrTruncated},
		{"reserved byte", "\x00\x01\x00\x01\xc0\x00\x02\x01\x00\x35", ErrReserved},
		{"first fragment", "\x00\x00\x01\x01\xc0\x00\x02\x01\x00\x35", ErrFragment},
		{"last fragment", "\x00\x00\x81\x01\xc0\x00\x02\x01\x00\x35", ErrFragment},
		{"address type", "\x00\x00\x00\x02\xc0\x00\x02\x01\x00\x35", ErrAddressType},
		{"short IPv4", "\x00\x00\x00\x01\xc0\x00\x02\x01\x00", ErrTruncated},
		{"short IPv6", "\x00\x00\x00\x04\xc0\x00\x02\x01\x00\x35", ErrTruncated},
		{"no name length", "\x00\x00\x00\x03", ErrTruncated},
		{"short name", "\x00\x00\x00\x03\x09dns.test\x35", ErrTruncated},
		{"empty name", "\x00\x00\x00\x03\x00\x00\x35", ErrAddress},
		{"long name", "\x00\x00\x00\x03\xfe" + strings.Repeat("a", 254) + "\x00\x35", ErrAddress},
		{"NUL in name", "\x00\x00\x00\x03\x03a\x00b\x00\x35", ErrAddress},
		{"zone", "\x00\x00\x00\x03\x09fe80::1%1\x00\x35", ErrAddressType},
		{"port 0", "\x00\x00\x00\x01\xc0\x00\x02\x01\x00\x00", ErrAddress},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, _, err := ParseDatagram([]byte(tt.datagram)); !errors.Is(err, tt.err) {
				t.Errorf("error %v, want %v", err, tt.err)
			}
		})
	}
}

func TestDatagramsDoNotAllocate(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	datagram := AppendDatagram(nil, AddrOf(netip.MustParseAddrPort("[2001:db8::1]:443")), make([]byte, 1200))
	out := make([]byte, 0, 2048)
	if n := testing.AllocsPerRun(100, func() {
		target, payload, err := ParseDatagram(datagram)
		if err != nil {
			t.Fatal(err)
		}
		out = AppendDatagram(out[:0], target, payload)
	}); n != 0 {
		t.Errorf("%v allocations a datagram, want 0", n)
	}
}

func FuzzDatagram(f *testing.F) {
	for _, s := range []string{
		"", "\x00\x00\x00\x01\xc0\x00\x02\x01\x00\x35query", "\x00\x00\x00\x03\x08dns.test\x00\x35query",
		"\x00\x00\x00\x03\x09192.0.2.1\x00\x35", "\x00\x00\x00\x03\x00\x00\x35", "\x00\x00\x01\x01\xc0\x00\x02\x01\x00\x35",
		"\x00\x00\x00\x04\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x35x",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		target, payload, err := ParseDatagram(b)
		if err != nil {
			return
		}
		if target.Host() == "" || len(target.Name) > MaxNameLen || target.Port == 0 || target.IP.Zone() != "" {
			t.Errorf("accepted target %+v", target)
		}
		if got := AppendDatagram(nil, target, payload); !bytes.Equal(got, b) {
			t.Errorf("%q comes back as %q", b, got)
		}
	})
}

func BenchmarkParseDatagram(b *testing.B) {
	datagram := AppendDatagram(nil, AddrOf(netip.MustParseAddrPort("192.0.2.1:443")), make([]byte, 1200))
	b.SetBytes(int64(len(datagram)))
	b.ReportAllocs()
	for b.Loop() {
		ParseDatagram(datagram)
	}
}

func BenchmarkAppendDatagram(b *testing.B) {
	source := AddrOf(netip.MustParseAddrPort("192.0.2.1:443"))
	payload, out := make([]byte, 1200), make([]byte, 0, 2048)
	b.SetBytes(int64(len(payload)))
	b.ReportAllocs()
	for b.Loop() {
		out = AppendDatagram(out[:0], source, payload)
	}
}
