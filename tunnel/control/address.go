package control

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// CheckTokenURL returns an error unless a token may be sent to u: over https,
// or over http to the loopback.
func CheckTokenURL(u *url.URL) error {
	switch {
	case u.Scheme == "https":
		return nil
	case u.Scheme == "http" && isLoopback(u.Hostname()):
		return nil
	case u.Scheme == "http":
		return errors.New("a token goes over https, or over http to this machine only")
	}
	return fmt.Errorf("scheme %s (want https)", strconv.Quote(printable(u.Scheme, 20)))
}

// isLoopback reports whether host is an address or a name of the loopback
// (RFC 6761).
func isLoopback(host string) bool {
	if a, err := netip.ParseAddr(host); err == nil {
		return a.Unmap().IsLoopback()
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}

// checkURL returns an error unless u is the base URL of an API.
func checkURL(u *url.URL) error {
	switch {
	case u.Scheme != "http" && u.Scheme != "https" || u.Opaque != "":
		return errors.New("the scheme is neither http nor https")
	case u.User != nil:
		return errors.New("it names a user")
	case u.Hostname() == "":
		return errors.New("it names no host")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return errors.New("it has a query or fragment")
	}
	if port := u.Port(); port != "" || strings.HasSuffix(u.Host, ":") {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return errors.New("the port is not a number from 1 to 65535")
		}
	}
	return nil
}

// parseControl reads where to register: a URL, or a bare ip:port, which means
// http.
func parseControl(s string) (*url.URL, error) {
	if a, err := netip.ParseAddrPort(s); err == nil {
		return &url.URL{Scheme: "http", Host: a.String()}, nil
	}
	u, err := url.Parse(s)
	if err == nil {
		err = checkURL(u)
	} else {
		err = errors.New("it is none")
	}
	if err != nil {
		return nil, fmt.Errorf("URL to register at: %w", err)
	}
	return u, nil
}

// A scope is a part of the Internet, from wide to narrow. A SNAP may name data
// planes of its own scope and wider: one on the Internet that names 127.0.0.1
// or 10.0.0.1 wants us to attack a neighbour.
type scope int

const (
	public scope = iota
	private
	linkLocal
	loopback
)

var shared = netip.MustParsePrefix("100.64.0.0/10") // RFC 6598

func scopeOf(a netip.Addr) scope {
	a = a.Unmap()
	switch {
	case a.IsLoopback():
		return loopback
	case a.IsLinkLocalUnicast():
		return linkLocal
	case a.IsPrivate() || shared.Contains(a):
		return private
	}
	return public
}

// checkDataPlane returns an error if a SNAP of scope by must not name a.
func checkDataPlane(a netip.AddrPort, by scope) error {
	ip := a.Addr()
	switch {
	case ip.Zone() != "" || ip.IsUnspecified() || ip.IsMulticast() || isReserved(ip) || a.Port() == 0:
		return fmt.Errorf("data plane address %s is none of a host", a)
	case scopeOf(ip) > by:
		return fmt.Errorf("data plane address %s is nearer to this machine than the SNAP that names it", a)
	}
	return nil
}

// isReserved reports whether a is in 0.0.0.0/8 (RFC 1122) or 240.0.0.0/4
// (RFC 1112), the broadcast address among them.
func isReserved(a netip.Addr) bool {
	if a = a.Unmap(); !a.Is4() {
		return false
	}
	first := a.As4()[0]
	return first == 0 || first >= 240
}
