package socks

import (
	"encoding/binary"
	"errors"
	"net/netip"
)

// Errors of ParseDatagram. None is answered; they are counted.
var (
	ErrTruncated = errors.New("truncated datagram header")
	ErrReserved  = errors.New("reserved field of datagram header is not zero")
	ErrFragment  = errors.New("fragmented datagram")
)

// MaxHeaderLen is the length of the longest header that AppendHeader makes.
const MaxHeaderLen = 3 + 1 + 1 + 255 + 2

// ParseDatagram reads the header of a datagram of an association (RFC 1928 §7):
//
//	+-----+------+------+----------+----------+---------+
//	| RSV | FRAG | ATYP | DST.ADDR | DST.PORT | payload |
//	+-----+------+------+----------+----------+---------+
//	|  2  |  1   |  1   | variable |    2     |         |
//	+-----+------+------+----------+----------+---------+
//
// The payload is a slice of b and may be empty. Fragments are refused, as the
// RFC permits. It does not allocate unless the target is a name. An IPv4 address
// mapped into IPv6 stays so in target, so that an answer can come from the
// address that the client knows.
func ParseDatagram(b []byte) (target Addr, payload []byte, err error) {
	if len(b) < 4 {
		return Addr{}, nil, ErrTruncated
	}
	if b[0] != 0 || b[1] != 0 {
		return Addr{}, nil, ErrReserved
	}
	if b[2] != 0 {
		return Addr{}, nil, ErrFragment
	}
	atyp, b := b[3], b[4:]
	n := 0
	switch atyp {
	case atypIPv4:
		n = 4
	case atypIPv6:
		n = 16
	case atypName:
		if len(b) < 1 {
			return Addr{}, nil, ErrTruncated
		}
		n, b = int(b[0]), b[1:]
	default:
		return Addr{}, nil, ErrAddressType
	}
	if len(b) < n+2 {
		return Addr{}, nil, ErrTruncated
	}
	if atyp == atypName {
		target.Name = string(b[:n])
	} else {
		target.IP, _ = netip.AddrFromSlice(b[:n])
	}
	target.Port = binary.BigEndian.Uint16(b[n:])
	if target.Port == 0 {
		return Addr{}, nil, ErrAddress
	}
	if err := target.check(); err != nil {
		return Addr{}, nil, err
	}
	return target, b[n+2:], nil
}

// AppendHeader appends the header of a datagram that comes from source. If
// source is what ParseDatagram returned as target, the address travels in the
// form in which the client wrote it, as a name or as either kind of IP address.
func AppendHeader(b []byte, source Addr) []byte {
	return source.append(append(b, 0, 0, 0))
}

// HeaderLen returns the length of the header that AppendHeader appends, so that
// room for it can be left before a payload.
func HeaderLen(source Addr) int { return 3 + source.size() }

// AppendDatagram appends header and payload of a datagram that comes from
// source.
func AppendDatagram(b []byte, source Addr, payload []byte) []byte {
	return append(AppendHeader(b, source), payload...)
}
