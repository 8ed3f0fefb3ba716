package scion

import (
	"encoding/binary"
	"errors"
	"net/netip"
)

const (
	commonLen    = 12
	addrOffset   = commonLen
	hostOffset   = commonLen + 16
	maxHeaderLen = 255 * 4
	maxPayload   = 65535
)

// Protocol is what a next-header field names.
type Protocol uint8

// The protocols that this package reads.
const (
	ProtocolUDP        Protocol = 17
	ProtocolHopByHop   Protocol = 200
	ProtocolEndToEnd   Protocol = 201
	ProtocolSCMP       Protocol = 202
	protocolHopByHop43 Protocol = 43 // as sciparse numbers hop-by-hop
)

// Kinds of host addresses: type in the upper two bits, length in the lower.
const (
	hostIPv4 = 0b0000
	hostIPv6 = 0b0011
)

var (
	errShort        = errors.New("shorter than the header")
	errVersion      = errors.New("not version 0")
	errHeaderLength = errors.New("header length differs from its parts")
)

// A Packet is a view of a SCION packet: it reads the bytes that ParsePacket was
// given when it is asked, and is valid as long as they are.
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|Version| TrafficClass  |                FlowID                 |  0
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|    NextHdr    |    HdrLen     |          PayloadLen           |  4
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|    PathType   |DT |DL |ST |SL |              RSV              |  8
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|            DstISD             |                               | 12
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+             DstAS             +
//	|                                                               |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|            SrcISD             |                               | 20
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+             SrcAS             +
//	|                                                               |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|           DstHost, 4 (DL+1) bytes, then SrcHost               | 28
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|           path, to 4 HdrLen, then PayloadLen bytes            |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
type Packet struct {
	b         []byte // header and payload, nothing behind them
	headerLen int
	truncated bool
}

// ParsePacket returns a view of the packet in b. It holds the header against
// itself: lengths, hosts, and the path if it is empty or of type SCION. What
// follows the payload is cut off. A payload that is not all there is accepted,
// as packets quoted in SCMP errors have one: see [Packet.Truncated].
func ParsePacket(b []byte) (Packet, error) {
	if len(b) < hostOffset {
		return Packet{}, errShort
	}
	if b[0]>>4 != 0 {
		return Packet{}, errVersion
	}
	headerLen := int(b[5]) * 4
	pathOffset := hostOffset + hostLen(b[9]>>4) + hostLen(b[9])
	if headerLen < pathOffset {
		return Packet{}, errHeaderLength
	}
	if len(b) < headerLen {
		return Packet{}, errShort
	}
	switch PathType(b[8]) {
	case PathEmpty:
		if headerLen != pathOffset {
			return Packet{}, errHeaderLength
		}
	case PathSCION:
		if _, err := parsePathMeta(b[pathOffset:headerLen]); err != nil {
			return Packet{}, err
		}
	}
	end := headerLen + int(binary.BigEndian.Uint16(b[6:]))
	if len(b) < end {
		return Packet{b: b, headerLen: headerLen, truncated: true}, nil
	}
	return Packet{b: b[:end:end], headerLen: headerLen}, nil
}

// hostLen is the length of a host address of a kind, in the lower four bits.
func hostLen(kind byte) int { return 4 * (int(kind&3) + 1) }

// host reads a host address of a kind; it is not valid if that is no IP.
func host(kind byte, b []byte) netip.Addr {
	switch kind & 0xf {
	case hostIPv4:
		return netip.AddrFrom4([4]byte(b))
	case hostIPv6:
		return netip.AddrFrom16([16]byte(b))
	}
	return netip.Addr{}
}

// Len returns the length of header and payload, as far as they are there.
func (p Packet) Len() int { return len(p.b) }

// Bytes returns header and payload.
func (p Packet) Bytes() []byte { return p.b }

// Truncated reports whether a part of the payload is missing.
func (p Packet) Truncated() bool { return p.truncated }

// DstIA returns the destination's ISD-AS.
func (p Packet) DstIA() IA { return IA(binary.BigEndian.Uint64(p.b[addrOffset:])) }

// SrcIA returns the source's ISD-AS.
func (p Packet) SrcIA() IA { return IA(binary.BigEndian.Uint64(p.b[addrOffset+8:])) }

// DstHost returns the destination host. It is not valid if it is no IP address
// but a service. An IPv6 address is returned as it is, even if mapped.
func (p Packet) DstHost() netip.Addr { return host(p.b[9]>>4, p.b[hostOffset:]) }

// SrcHost returns the source host, as DstHost does.
func (p Packet) SrcHost() netip.Addr { return host(p.b[9], p.b[p.SrcHostOffset():]) }

// SrcHostOffset returns where in the packet the source host begins, which SCMP
// errors about it point to.
func (p Packet) SrcHostOffset() int { return hostOffset + hostLen(p.b[9]>>4) }

// addresses returns the address part of the header.
func (p Packet) addresses() []byte { return p.b[addrOffset:p.pathOffset()] }

func (p Packet) pathOffset() int { return p.SrcHostOffset() + hostLen(p.b[9]) }

// PathType returns the type of the path, which may be one that is not known.
func (p Packet) PathType() PathType { return PathType(p.b[8]) }

// RawPath returns the bytes of the path.
func (p Packet) RawPath() []byte { return p.b[p.pathOffset():p.headerLen] }

// NextHeader returns the protocol of what follows the SCION header.
func (p Packet) NextHeader() Protocol { return Protocol(p.b[4]) }

// Payload returns what follows the SCION header, as far as it is there.
func (p Packet) Payload() []byte { return p.b[p.headerLen:] }

// Upper returns what follows the extension headers, and its protocol. There
// may be one hop-by-hop header and then one end-to-end header; it is not ok if
// there are others, or if one is cut off.
func (p Packet) Upper() (next Protocol, b []byte, ok bool) {
	next, b = p.NextHeader(), p.Payload()
	if next == ProtocolHopByHop {
		if next, b, ok = cutExtension(b); !ok {
			return 0, nil, false
		}
	}
	if next == ProtocolEndToEnd {
		if next, b, ok = cutExtension(b); !ok {
			return 0, nil, false
		}
	}
	switch next {
	case ProtocolHopByHop, ProtocolEndToEnd, protocolHopByHop43:
		return 0, nil, false
	}
	return next, b, true
}

// cutExtension cuts the extension header that b begins with: next header, and
// length in units of 4 bytes beyond the first.
func cutExtension(b []byte) (next Protocol, rest []byte, ok bool) {
	if len(b) < 4 || len(b) < 4*(int(b[1])+1) {
		return 0, nil, false
	}
	return Protocol(b[0]), b[4*(int(b[1])+1):], true
}
