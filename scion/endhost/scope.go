package endhost

import (
	"fmt"
	"net"
	"net/netip"
)

// A Scope is a part of the Internet that an address belongs to. An API may name
// addresses of its own scope and wider: one on the Internet that names
// 127.0.0.1 or 10.0.0.1 wants us to attack a neighbour.
type Scope int

// The scopes, from wide to narrow.
const (
	ScopePublic    Scope = iota
	ScopePrivate         // RFC 1918, RFC 4193, RFC 6598
	ScopeLinkLocal       // RFC 3927, RFC 4291
	ScopeLoopback
)

// String names the scope as an adjective.
func (s Scope) String() string {
	switch s {
	case ScopePublic:
		return "public"
	case ScopePrivate:
		return "private"
	case ScopeLinkLocal:
		return "link-local"
	case ScopeLoopback:
		return "loopback"
	}
	return "unknown"
}

var (
	shared    = netip.MustParsePrefix("100.64.0.0/10") // RFC 6598
	siteLocal = netip.MustParsePrefix("fec0::/10")     // RFC 3879, deprecated
	nat64     = netip.MustParsePrefix("64:ff9b::/96")  // RFC 6052: an IPv4 address beyond a translator
	embedded  = netip.MustParsePrefix("::/96")         // RFC 4291, 2.5.5.1, deprecated
)

// ScopeOf returns the scope of a unicast address.
func ScopeOf(a netip.Addr) Scope {
	a = a.Unmap()
	if nat64.Contains(a) {
		b := a.As16()
		a = netip.AddrFrom4([4]byte(b[12:]))
	}
	switch {
	case a.IsLoopback():
		return ScopeLoopback
	case a.IsLinkLocalUnicast():
		return ScopeLinkLocal
	case a.IsPrivate() || shared.Contains(a) || siteLocal.Contains(a):
		return ScopePrivate
	}
	return ScopePublic
}

// scopeOfHost returns the scope of a host of a URL, and false if it is a name
// that says nothing of it.
func scopeOfHost(host string) (Scope, bool) {
	if isLocalhost(host) {
		return ScopeLoopback, true
	}
	a, err := netip.ParseAddr(host)
	if err != nil {
		return ScopePublic, false
	}
	return ScopeOf(a), true
}

// Permits returns an error if an API of scope s must not name a: if a is no
// unicast address at all, or belongs to a narrower scope.
func (s Scope) Permits(a netip.Addr) error {
	if a.Zone() != "" {
		return fmt.Errorf("address %s has a zone", a)
	}
	a = a.Unmap()
	switch {
	case !a.IsValid() || a.IsUnspecified() || a.IsMulticast() || isReserved(a):
		return fmt.Errorf("%s is no address of a host", a)
	case ScopeOf(a) > s:
		return fmt.Errorf("%s is a %s address, named by a %s API", a, ScopeOf(a), s)
	}
	return nil
}

// isReserved reports whether a is in 0.0.0.0/8 (RFC 1122), 240.0.0.0/4 (RFC
// 1112, the broadcast address among them) or an IPv4 address in IPv6 of a kind
// that is no more.
func isReserved(a netip.Addr) bool {
	if !a.Is4() {
		return embedded.Contains(a) && !a.IsLoopback()
	}
	first := a.As4()[0]
	return first == 0 || first >= 240
}

// scopeOfConn returns the scope of the far end of a TCP connection.
func scopeOfConn(c net.Conn) Scope {
	if tcp, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		return ScopeOf(tcp.AddrPort().Addr())
	}
	return ScopePublic
}
