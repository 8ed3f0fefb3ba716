package socks

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// MaxNameLen is the length of the longest host name that is accepted, the
// longest that DNS can carry in its usual form.
const MaxNameLen = 253

// ATYP values of RFC 1928 §5.
const (
	atypIPv4 = 1
	atypName = 3
	atypIPv6 = 4
)

// An Addr is an address as SOCKS5 carries it. It is comparable.
//
//	+------+----------+------+
//	| ATYP |   ADDR   | PORT |
//	+------+----------+------+
//	|  1   | 4        |  2   |  ATYP 1: IPv4
//	|  1   | 16       |  2   |  ATYP 4: IPv6
//	|  1   | 1 + 0-255|  2   |  ATYP 3: length and name
//	+------+----------+------+
type Addr struct {
	// Name is the host name if the address travels as one (ATYP 3), else empty.
	Name string
	// IP is the address unless Name is a name to be resolved: a name that is
	// the text of an IP address has both. It never has a zone.
	IP netip.Addr
	// Port is the port.
	Port uint16
}

// AddrOf returns the Addr of an address and port.
func AddrOf(a netip.AddrPort) Addr { return Addr{IP: a.Addr(), Port: a.Port()} }

// AddrPort returns address and port, invalid if a holds a name to be resolved.
func (a Addr) AddrPort() netip.AddrPort {
	if !a.IP.IsValid() {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(a.IP.Unmap(), a.Port)
}

// Host returns the IP address as text if there is one, else the name.
func (a Addr) Host() string {
	if a.IP.IsValid() {
		return a.IP.Unmap().String()
	}
	return a.Name
}

// String returns HOST:PORT, which can be dialled.
func (a Addr) String() string {
	return net.JoinHostPort(a.Host(), strconv.Itoa(int(a.Port)))
}

// check reports whether a may be a target, and fills in the IP of a name that
// is the text of one. Names that no resolver could mean are refused here, so
// that no later part takes them for something else: an empty one is the own
// host to many dialers, and a NUL ends the string for some.
func (a *Addr) check() error {
	if a.Name == "" {
		if !a.IP.IsValid() {
			return fmt.Errorf("%w: empty name", ErrAddress)
		}
		return nil
	}
	if len(a.Name) > MaxNameLen {
		return fmt.Errorf("%w: name of %d bytes", ErrAddress, len(a.Name))
	}
	for i := range len(a.Name) {
		switch c := a.Name[i]; {
		case c == '%':
			// A scope is meaningful on the host that names it only: a kind of
			// address that cannot be carried.
			return fmt.Errorf("%w: zone", ErrAddressType)
		case c <= ' ', c == 0x7f, c == '/', c == '\\', c == '@', c == '[', c == ']', c == '?', c == '#':
			return fmt.Errorf("%w: byte %#02x in name", ErrAddress, c)
		}
	}
	ip, err := netip.ParseAddr(a.Name)
	if err != nil && strings.Contains(a.Name, ":") {
		return fmt.Errorf("%w: colon in name", ErrAddress)
	}
	a.IP = ip
	return nil
}

// size returns the number of bytes that append appends.
func (a Addr) size() int {
	switch {
	case a.Name != "":
		return 1 + 1 + len(a.Name) + 2
	case a.IP.Is6():
		return 1 + 16 + 2
	}
	return 1 + 4 + 2
}

// append appends ATYP, ADDR and PORT. The zero IP is that of IPv4.
func (a Addr) append(b []byte) []byte {
	switch {
	case a.Name != "":
		b = append(b, atypName, byte(len(a.Name)))
		b = append(b, a.Name...)
	case a.IP.Is6():
		ip := a.IP.As16()
		b = append(append(b, atypIPv6), ip[:]...)
	case a.IP.Is4():
		ip := a.IP.As4()
		b = append(append(b, atypIPv4), ip[:]...)
	default:
		b = append(b, atypIPv4, 0, 0, 0, 0)
	}
	return binary.BigEndian.AppendUint16(b, a.Port)
}
