package snapproxy

import (
	"errors"
	"net/netip"
	"syscall"
	"testing"
)

func TestPolicy(t *testing.T) {
	own := netip.MustParseAddr("198.18.0.99")
	isOwn := func(ip netip.Addr) bool { return ip == own || ip.IsLoopback() || ip == netip.MustParseAddr("1.2.3.4") }
	tests := []struct {
		name        string
		allow, deny []netip.Prefix
		admitted    []string
		refused     []string
	}{
		{
			name:     "default",
			admitted: []string{"1.1.1.1", "8.8.8.8", "2606:4700::1111", "192.0.0.9", "2001:4:112::1", "::ffff:8.8.8.8", "64:ff9b::808:808", "192.31.196.1"},
			refused: []string{
				"0.0.0.0", "0.1.2.3", "127.0.0.1", "127.8.9.1", "::", "::1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1",
				"169.254.169.254", "fe80::1", "fd00:ec2::254", "fc00::1", "224.0.0.1", "ff02::1", "240.0.0.1", "255.255.255.255",
				"192.0.2.1", "198.51.100.1", "203.0.113.1", "198.18.0.1", "198.19.255.255", "2001:db8::1", "3fff::1", "2001:2::1", "100::1", "5f00::1",
				"fec0::1", "fd53:4e41::1", "1.2.3.4",
				"::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a00:1", "64:ff9b:1::7f00:1", "2002:7f00:1::1", "2002:a00:1::1",
				"2001:0:0:0:0:0:80ff:fffe", "::127.0.0.1", "2606:4700::5efe:7f00:1", "2606:4700::200:5efe:a00:1",
				"168.63.129.16", "100.100.100.200",
			},
		},
		{
			name:     "allow a range",
			allow:    prefixes("10.0.0.0/8"),
			admitted: []string{"10.1.2.3", "1.1.1.1", "::ffff:10.1.2.3"},
			refused:  []string{"192.168.1.1", "127.0.0.1"},
		},
		{
			name:     "deny inside allow",
			allow:    prefixes("10.0.0.0/8"),
			deny:     prefixes("10.1.0.0/16"),
			admitted: []string{"10.2.0.1"},
			refused:  []string{"10.1.0.1"},
		},
		{
			name:     "allow inside deny",
			allow:    prefixes("10.1.0.0/16", "1.1.1.1/32"),
			deny:     prefixes("10.0.0.0/8", "0.0.0.0/0"),
			admitted: []string{"10.1.0.1", "1.1.1.1"},
			refused:  []string{"10.2.0.1", "8.8.8.8"},
		},
		{
			name:    "deny wins at equal length",
			allow:   prefixes("10.0.0.0/8"),
			deny:    prefixes("10.0.0.0/8"),
			refused: []string{"10.0.0.1"},
		},
		{
			name:     "everything does not open what is guarded",
			allow:    prefixes("0.0.0.0/0", "::/0", "100.64.0.0/10"),
			admitted: []string{"10.0.0.1", "192.168.1.1", "fc00::1", "100.64.0.1"},
			refused:  []string{"127.0.0.1", "0.0.0.0", "::1", "::", "169.254.169.254", "fe80::1", "fd00:ec2::254", "100.100.100.200", "1.2.3.4", "::ffff:127.0.0.1"},
		},
		{
			name:     "a prefix inside the block opens it",
			allow:    prefixes("127.0.0.0/8", "169.254.1.0/24", "::1/128"),
			admitted: []string{"127.0.0.1", "127.1.1.1", "169.254.1.1", "::1", "::ffff:127.0.0.1"},
			refused:  []string{"169.254.169.254", "0.0.0.0", "::"},
		},
		{
			name:     "an allowed prefix opens an own address",
			allow:    prefixes("1.2.3.0/24"),
			admitted: []string{"1.2.3.4"},
		},
		{
			name:     "a mapped prefix means the IPv4 one",
			allow:    prefixes("::ffff:10.0.0.0/104"),
			admitted: []string{"10.0.0.1"},
			refused:  []string{"192.168.0.1"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, err := newPolicy(tt.allow, tt.deny, isOwn)
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range tt.admitted {
				if err := p.check(netip.MustParseAddr(s)); err != nil {
					t.Errorf("check(%s) = %v, want nil", s, err)
				}
			}
			for _, s := range tt.refused {
				if err := p.check(netip.MustParseAddr(s)); !errors.Is(err, syscall.EACCES) {
					t.Errorf("check(%s) = %v, want EACCES", s, err)
				}
			}
		})
	}
}

func TestOwnAddresses(t *testing.T) {
	if !isOwn(netip.MustParseAddr("127.0.0.1")) {
		t.Error("127.0.0.1 is not own")
	}
	if isOwn(netip.MustParseAddr("192.0.2.1")) {
		t.Error("192.0.2.1 is own")
	}
}
