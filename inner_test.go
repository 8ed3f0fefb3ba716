package snapproxy

import (
	"net/netip"
	"testing"

	"github.com/snapproxy/snapproxy/tunnel/snaptun"
)

func TestInnerAddress(t *testing.T) {
	key := snaptun.PublicKey{1, 2, 3}
	server, process := innerAddr(key, 0), innerAddr(key, 0xabcd)
	if !netip.MustParsePrefix("fd53:4e41::/32").Contains(server) {
		t.Errorf("%s is outside fd53:4e41::/32", server)
	}
	if p := innerPrefix(key); p.Bits() != 112 || !p.Contains(server) || !p.Contains(process) {
		t.Errorf("%s does not hold %s and %s", p, server, process)
	}
	if b := process.As16(); b[14] != 0xab || b[15] != 0xcd {
		t.Errorf("process of %s is not abcd", process)
	}
	if innerPrefix(snaptun.PublicKey{9}).Contains(server) {
		t.Error("two keys share a prefix")
	}
	for range 1000 {
		if drawProcess() == 0 {
			t.Fatal("drew the server's process")
		}
	}
}

func TestTargetsInsideTheTunnel(t *testing.T) {
	for _, tt := range []struct{ outside, inside string }{
		{"192.0.2.1", "64:ff9b:1::c000:201"},
		{"::ffff:192.0.2.1", "64:ff9b:1::c000:201"},
		{"2001:db8::1", "2001:db8::1"},
	} {
		ip := netip.MustParseAddr(tt.outside)
		in := toInner(ip)
		if in != netip.MustParseAddr(tt.inside) {
			t.Errorf("toInner(%s) = %s, want %s", ip, in, tt.inside)
		}
		if out := fromInner(in); out != ip.Unmap() {
			t.Errorf("fromInner(%s) = %s, want %s", in, out, ip.Unmap())
		}
	}
}
