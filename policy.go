package snapproxy

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
)

// errProhibited is what a target refused by policy gives; it is an EACCES.
var errProhibited = fmt.Errorf("target prohibited by the exit's policy: %w", syscall.EACCES)

// A policy decides which addresses an exit dials. The zero policy admits
// globally reachable addresses that are not the host's own.
type policy struct {
	allow, deny []netip.Prefix
	own         func(netip.Addr) bool // reports whether an address is the host's; nil: never
}

// newPolicy checks and masks the prefixes of an operator.
func newPolicy(allow, deny []netip.Prefix, own func(netip.Addr) bool) (*policy, error) {
	p := &policy{own: own}
	for _, list := range []struct {
		dst *[]netip.Prefix
		src []netip.Prefix
	}{{&p.allow, allow}, {&p.deny, deny}} {
		for _, x := range list.src {
			if !x.IsValid() {
				return nil, errors.New("invalid prefix")
			}
			if a := x.Addr(); a.Is4In6() && x.Bits() >= 96 {
				x = netip.PrefixFrom(a.Unmap(), x.Bits()-96)
			}
			*list.dst = append(*list.dst, x.Masked())
		}
	}
	return p, nil
}

// check returns nil if ip may be dialled, else an error that is EACCES. ip and
// every IPv4 address embedded in it have to pass: a translator on the way
// would reach the embedded one.
func (p *policy) check(ip netip.Addr) error {
	if !ip.IsValid() || ip.Zone() != "" {
		return errProhibited
	}
	for {
		if !p.admits(ip.Unmap()) {
			return errProhibited
		}
		inner, ok := embedded(ip.Unmap())
		if !ok {
			return nil
		}
		ip = inner
	}
}

// admits judges one address without looking inside it: the longest of the
// operator's prefixes wins, a deny at equal length; without one the address
// must be globally reachable and not the host's own.
func (p *policy) admits(ip netip.Addr) bool {
	guard, guarded := find(guardedPrefixes, ip)
	allowed, denied := -1, -1
	catchAll := false
	for _, x := range p.allow {
		if !x.Contains(ip) || guarded && x.Bits() < guard.Bits() {
			continue
		}
		if x.Bits() > allowed {
			allowed, catchAll = x.Bits(), x.Bits() == 0
		}
	}
	for _, x := range p.deny {
		if x.Contains(ip) {
			denied = max(denied, x.Bits())
		}
	}
	switch {
	case denied >= 0 && denied >= allowed:
		return false
	case allowed >= 0 && !catchAll:
		return true
	}
	if allowed < 0 {
		_, reachable := find(reachablePrefixes, ip)
		if _, special := find(specialPrefixes, ip); special && !reachable {
			return false
		}
		if _, global := find(globalPrefixes, ip); !global {
			return false
		}
	}
	return p.own == nil || !p.own(ip)
}

// find returns the first of the prefixes that contains ip.
func find(prefixes []netip.Prefix, ip netip.Addr) (netip.Prefix, bool) {
	for _, x := range prefixes {
		if x.Contains(ip) {
			return x, true
		}
	}
	return netip.Prefix{}, false
}

// embedded returns the IPv4 address that a translator or tunnel on the way
// takes out of an IPv6 address: IPv4-compatible, NAT64 (RFC 6052, the
// well-known prefix, and RFC 8215), 6to4 (RFC 3056), Teredo (RFC 4380) and
// ISATAP (RFC 5214).
func embedded(ip netip.Addr) (netip.Addr, bool) {
	if !ip.Is6() {
		return netip.Addr{}, false
	}
	a := ip.As16()
	switch {
	case netip.MustParsePrefix("64:ff9b::/96").Contains(ip),
		netip.MustParsePrefix("64:ff9b:1::/48").Contains(ip),
		netip.MustParsePrefix("::/96").Contains(ip) && ip != netip.IPv6Unspecified() && ip != netip.IPv6Loopback():
		return netip.AddrFrom4([4]byte(a[12:])), true
	case netip.MustParsePrefix("2002::/16").Contains(ip):
		return netip.AddrFrom4([4]byte(a[2:6])), true
	case netip.MustParsePrefix("2001::/32").Contains(ip):
		return netip.AddrFrom4([4]byte{^a[12], ^a[13], ^a[14], ^a[15]}), true
	case a[8]&^3 == 0 && a[9] == 0 && a[10] == 0x5e && a[11] == 0xfe:
		return netip.AddrFrom4([4]byte(a[12:])), true
	}
	return netip.Addr{}, false
}

// isOwn reports whether ip is an address of this host: a socket connected to
// an own address has that address at both ends. Nothing is sent. (Listing the
// interfaces instead would open a netlink socket.)
func isOwn(ip netip.Addr) bool {
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(ip, 9)))
	if err != nil {
		return false
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap() == ip.Unmap()
}

func prefixes(list ...string) []netip.Prefix {
	p := make([]netip.Prefix, len(list))
	for i, s := range list {
		p[i] = netip.MustParsePrefix(s)
	}
	return p
}

var (
	// guardedPrefixes are opened only by an allowed prefix inside the block:
	// loopback (0.0.0.0 and :: reach it on Linux), link-local and the metadata
	// services of clouds.
	guardedPrefixes = prefixes(
		"127.0.0.0/8", "0.0.0.0/8", "::1/128", "::/128",
		"169.254.0.0/16", "fe80::/10",
		"fd00:ec2::254/128", "fd20:ce::254/128", "100.100.100.200/32", "168.63.129.16/32",
	)
	// globalPrefixes are what can be reached globally at all: all of IPv4 but
	// what follows, and of IPv6 what IANA has given out as unicast.
	globalPrefixes = prefixes("0.0.0.0/0", "2000::/3", "64:ff9b::/96")
	// specialPrefixes are the entries of IANA's special-purpose registries that
	// are not globally reachable, multicast and reserved space, and an address
	// of one cloud's host.
	specialPrefixes = prefixes(
		"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
		"192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15",
		"198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4", "168.63.129.16/32",
		"2001::/23", "2001:db8::/32", "3fff::/20",
	)
	// reachablePrefixes are the parts of special blocks that the registries
	// call globally reachable.
	reachablePrefixes = prefixes(
		"192.0.0.9/32", "192.0.0.10/32",
		"2001:1::1/128", "2001:1::2/128", "2001:1::3/128", "2001:3::/32", "2001:4:112::/48", "2001:20::/28", "2001:30::/28",
	)
)
