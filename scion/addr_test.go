package scion

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/scionproto/scion/pkg/addr"
)

func TestParseIA(t *testing.T) {
	tests := []struct {
		in   string
		want IA
		out  string
	}{
		{"1-ff00:0:110", 0x0001_ff00_0000_0110, "1-ff00:0:110"},
		{"64-2:0:9b", 0x0040_0002_0000_009b, "64-2:0:9b"},
		{"64-559", 0x0040_0000_0000_022f, "64-559"},
		{"65535-ffff:ffff:ffff", 0xffff_ffff_ffff_ffff, "65535-ffff:ffff:ffff"},
		{"1-4294967295", 0x0001_0000_ffff_ffff, "1-4294967295"},
		{"1-1:0:0", 0x0001_0001_0000_0000, "1-1:0:0"},
		{"1-0:0:1", 0x0001_0000_0000_0001, "1-1"},
		{"1-FF00:0000:0110", 0x0001_ff00_0000_0110, "1-ff00:0:110"},
		{"0-0", 0, "0-0"},
		{"1-0", 0x0001_0000_0000_0000, "1-0"},
	}
	for _, tt := range tests {
		got, err := ParseIA(tt.in)
		if err != nil || got != tt.want || got.String() != tt.out {
			t.Errorf("ParseIA(%q) = %#x (%s), %v; want %#x (%s)", tt.in, uint64(got), got, err, uint64(tt.want), tt.out)
		}
		if theirs := addr.IA(got).String(); theirs != tt.out {
			t.Errorf("reference prints %s, want %s", theirs, tt.out)
		}
	}
}

func TestParseIARefuses(t *testing.T) {
	for _, s := range []string{
		"", "-", "1", "1-", "-1", "1-ff00:0", "1-ff00:0:0:110", "1-ff00::110", "1-:0:110", "1-ff00:0:110-1",
		"65536-1", "1-4294967296", "1-10000:0:0", "1-00000:0:1", "1-g:0:0", "+1-1", "1-+1", "1--1", "01-1", "1-01",
		" 1-1", "1-1 ", "1_0-1", "0x1-1", "1-0x1", "1-ff00", "1-ff00:0:110,", "1-+f:0:0",
	} {
		if ia, err := ParseIA(s); err == nil {
			t.Errorf("ParseIA(%q) = %s, want an error", s, ia)
		}
	}
}

func TestIAParts(t *testing.T) {
	if ia110.ISD() != 1 || ia110.AS() != 0xff00_0000_0110 {
		t.Errorf("parts of %s = %d, %#x", ia110, ia110.ISD(), ia110.AS())
	}
	for s, wildcard := range map[string]bool{"0-0": true, "1-0": true, "0-1": true, "1-1": false, "1-ff00:0:110": false} {
		ia := mustIA(s)
		if ia.IsWildcard() != wildcard || ia.IsZero() != (s == "0-0") {
			t.Errorf("%s: wildcard %v, zero %v", ia, ia.IsWildcard(), ia.IsZero())
		}
	}
}

func TestParseAddr(t *testing.T) {
	tests := []struct {
		in   string
		want Addr
		out  string
	}{
		{"1-ff00:0:110,192.0.2.1:8000", Addr{IA: ia110, Host: v4a, Port: 8000}, ""},
		{"[1-ff00:0:110,192.0.2.1]:8000", Addr{IA: ia110, Host: v4a, Port: 8000}, "1-ff00:0:110,192.0.2.1:8000"},
		{"1-ff00:0:110,[2001:db8::1]:65535", Addr{IA: ia110, Host: v6a, Port: 65535}, ""},
		{"[1-ff00:0:110,2001:db8::1]:1", Addr{IA: ia110, Host: v6a, Port: 1}, "1-ff00:0:110,[2001:db8::1]:1"},
		{"1-ff00:0:110,[::ffff:192.0.2.1]:8000", Addr{IA: ia110, Host: v4a, Port: 8000}, "1-ff00:0:110,192.0.2.1:8000"},
		{"1-559,127.0.0.1:1", Addr{IA: mustIA("1-559"), Host: netip.MustParseAddr("127.0.0.1"), Port: 1}, ""},
	}
	for _, tt := range tests {
		if tt.out == "" {
			tt.out = tt.in
		}
		got, err := ParseAddr(tt.in)
		if err != nil || got != tt.want || got.String() != tt.out {
			t.Errorf("ParseAddr(%q) = %s, %v; want %s", tt.in, got, err, tt.out)
		}
	}
}

func TestParseAddrRefuses(t *testing.T) {
	for _, s := range []string{
		"", ":", ",", "1-ff00:0:110", "1-ff00:0:110,192.0.2.1", "1-ff00:0:110,192.0.2.1:", "192.0.2.1:8000",
		"1-ff00:0:110,192.0.2.1:0", "1-ff00:0:110,192.0.2.1:65536", "1-ff00:0:110,192.0.2.1:080", "1-ff00:0:110,192.0.2.1:+80",
		"1-ff00:0:110,192.0.2.1:http", "1-ff00:0:110,[192.0.2.1]:80", "1-ff00:0:110,2001:db8::1:80", "1-ff00:0:110,[2001:db8::1]",
		"1-ff00:0:110,[fe80::1%eth0]:80", "[1-ff00:0:110,fe80::1%eth0]:80", "[1-ff00:0:110,[fe80::1]]:80", "[1-ff00:0:110,192.0.2.1:80",
		"1-ff00:0:110,192.0.2.1]:80", "[1-ff00:0:110],192.0.2.1:80", "[[1-ff00:0:110,192.0.2.1]]:80", "1-ff00:0:110 192.0.2.1:80",
		"0-0,192.0.2.1:80", "1-0,192.0.2.1:80", "0-ff00:0:110,192.0.2.1:80", "1-ff00:0:110,0.0.0.0:80", "1-ff00:0:110,[::]:80",
		"1-ff00:0:110,[::ffff:0.0.0.0]:80", "1-ff00:0:110,CS:80", "1-ff00:0:110,example.org:80", "1-ff00:0:110,192.0.2.01:80",
		" 1-ff00:0:110,192.0.2.1:80", "1-ff00:0:110, 192.0.2.1:80", "1-ff00:0:110,192.0.2.1:80 ", "1-ff00:0:110,,192.0.2.1:80",
	} {
		if a, err := ParseAddr(s); err == nil {
			t.Errorf("ParseAddr(%q) = %s, want an error", s, a)
		} else if !strings.Contains(err.Error(), "want one like 1-ff00:0:110,10.0.0.1:8000") {
			t.Errorf("ParseAddr(%q): %v: does not say what is wanted", s, err)
		}
	}
}

func TestAddrWithoutHost(t *testing.T) {
	if got, want := (Addr{IA: ia110}).String(), "1-ff00:0:110,invalid:0"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestOriginHasNoPath(t *testing.T) {
	a := Addr{IA: ia110, Host: v4a, Port: 1, Path: mustPath(randomPath(newRand(1), 2))}
	if got, want := a.Origin(), (Addr{IA: ia110, Host: v4a, Port: 1}); got != want || a.Path == nil {
		t.Errorf("Origin() = %+v, want %+v", got, want)
	}
}

func FuzzParseAddr(f *testing.F) {
	for _, s := range []string{
		"1-ff00:0:110,10.0.0.1:8000", "[1-ff00:0:110,10.0.0.1]:8000", "1-64,[fd00::1]:8000", "[1-64,fd00::1]:8000",
		"0-0,[::]:0", "1-1,fe80::1%x:1", "[1-1,[::1]]:1",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if ia, err := ParseIA(s); err == nil {
			theirs, err := addr.ParseIA(s)
			if err != nil || uint64(theirs) != uint64(ia) || theirs.String() != ia.String() {
				t.Errorf("ParseIA(%q) = %s, reference %s, %v", s, ia, theirs, err)
			}
		}
		a, err := ParseAddr(s)
		if err != nil {
			if a != (Addr{}) {
				t.Errorf("ParseAddr(%q) = %s besides an error", s, a)
			}
			return
		}
		if a.IA.IsWildcard() || !a.Host.IsValid() || a.Host.Zone() != "" || a.Host.Is4In6() || a.Host.IsUnspecified() || a.Port == 0 {
			t.Errorf("ParseAddr(%q) = %s", s, a)
		}
		again, err := ParseAddr(a.String())
		if err != nil || again != a {
			t.Errorf("ParseAddr(%q) = %s, %v; want %s", a.String(), again, err, a)
		}
		bracketed := addr.FormatAddrPort(addr.Addr{IA: addr.IA(a.IA), Host: addr.HostIP(a.Host)}, a.Port)
		if again, err := ParseAddr(bracketed); err != nil || again != a {
			t.Errorf("ParseAddr(%q) = %s, %v; want %s", bracketed, again, err, a)
		}
	})
}
