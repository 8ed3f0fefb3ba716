package scion

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// An Addr is the address of a UDP port of a SCION host and the path to it.
// Two of them are equal if their paths are the same pointer: see [Host] for
// when that is so. The zero Addr is none.
type Addr struct {
	IA   IA
	Host netip.Addr // IPv4 or IPv6, neither mapped nor zoned
	Port uint16
	Path *Path // nil: the empty path, inside an AS
}

// ParseAddr parses an address without a path:
//
//	1-ff00:0:110,10.0.0.1:8000
//	1-ff00:0:110,[fd00::1]:8000
//	[1-ff00:0:110,10.0.0.1]:8000
//	[1-ff00:0:110,fd00::1]:8000
//
// What addresses nobody is refused: wildcards, unspecified hosts, port 0; and
// so are zones.
func ParseAddr(s string) (Addr, error) {
	a, err := parseAddr(s)
	if err != nil {
		return Addr{}, fmt.Errorf("parse SCION address %q: %w (want one like 1-ff00:0:110,10.0.0.1:8000)", s, err)
	}
	return a, nil
}

var (
	errNoComma     = errors.New("no comma between ISD-AS and host")
	errNoPort      = errors.New("no port")
	errPort        = errors.New("port is not a decimal number from 1 to 65535")
	errBrackets    = errors.New("misplaced brackets")
	errHost        = errors.New("host is not an IP address")
	errZone        = errors.New("host has a zone")
	errUnspecified = errors.New("host is unspecified")
	errWildcard    = errors.New("ISD-AS is a wildcard")
)

func parseAddr(s string) (Addr, error) {
	colon := strings.LastIndexByte(s, ':')
	if colon < 0 || colon < strings.LastIndexByte(s, ']') {
		return Addr{}, errNoPort
	}
	iaHost, portText := s[:colon], s[colon+1:]
	inner, around := cutBrackets(iaHost)
	if around {
		iaHost = inner
	}
	iaText, hostText, ok := strings.Cut(iaHost, ",")
	if !ok && strings.Contains(portText, ",") {
		return Addr{}, errNoPort // the colon is one of the ISD-AS
	}
	if !ok {
		return Addr{}, errNoComma
	}
	bracketed := around
	if !around {
		hostText, bracketed = cutBrackets(hostText)
	}
	ia, err := parseIA(iaText)
	if err != nil {
		return Addr{}, err
	}
	host, err := netip.ParseAddr(hostText)
	if err != nil {
		return Addr{}, errHost
	}
	port, ok := parseDecimal(portText, 16)
	switch {
	case !around && bracketed != host.Is6():
		return Addr{}, errBrackets
	case host.Zone() != "":
		return Addr{}, errZone
	case host.Unmap().IsUnspecified():
		return Addr{}, errUnspecified
	case ia.IsWildcard():
		return Addr{}, errWildcard
	case !ok || port == 0:
		return Addr{}, errPort
	}
	return Addr{IA: ia, Host: host.Unmap(), Port: uint16(port)}, nil
}

// cutBrackets returns what is between the brackets that s begins and ends with.
func cutBrackets(s string) (inner string, ok bool) {
	if len(s) >= 2 && s[0] == '[' && s[len(s)-1] == ']' {
		return s[1 : len(s)-1], true
	}
	return s, false
}

// String returns the address without its path, as ParseAddr reads it.
func (a Addr) String() string {
	port := strconv.Itoa(int(a.Port))
	switch {
	case !a.Host.IsValid():
		return a.IA.String() + ",invalid:" + port
	case a.Host.Is6():
		return a.IA.String() + ",[" + a.Host.String() + "]:" + port
	}
	return a.IA.String() + "," + a.Host.String() + ":" + port
}

// Origin returns the address without its path.
func (a Addr) Origin() Addr {
	a.Path = nil
	return a
}
