package snaptun

import (
	"encoding/binary"
	"net/netip"
)

// The four messages. Integers are little-endian; the three reserved bytes are
// written as zero and not checked.
//
//	initiation  1 | 0 0 0 | sender 4 | ephemeral 32 | static 32+16 | timestamp 12+16 | mac1 16 | mac2 16
//	response    2 | 0 0 0 | sender 4 | receiver 4 | ephemeral 32 | address 20+16 | mac1 16 | mac2 16
//	cookie      3 | 0 0 0 | receiver 4 | nonce 24 | cookie 16+16
//	data        4 | 0 0 0 | receiver 4 | counter 8 | payload n+16
const (
	typeInitiation = 1
	typeResponse   = 2
	typeCookie     = 3
	typeData       = 4

	initiationSize = 148
	responseSize   = 112
	cookieSize     = 64
	headerSize     = 16
	tagSize        = 16
	macSize        = 16

	// Overhead is what a data message is longer than its payload.
	Overhead = headerSize + tagSize
)

// messageType returns the type of a datagram, or 0 if its type and length do not
// belong together.
func messageType(b []byte) byte {
	if len(b) == 0 {
		return 0
	}
	switch t := b[0]; {
	case t == typeInitiation && len(b) == initiationSize,
		t == typeResponse && len(b) == responseSize,
		t == typeCookie && len(b) == cookieSize,
		t == typeData && len(b) >= Overhead:
		return t
	}
	return 0
}

// receiverIndex returns the receiver index of a response, cookie reply or data
// message.
func receiverIndex(b []byte) uint32 {
	if b[0] == typeResponse {
		return binary.LittleEndian.Uint32(b[8:])
	}
	return binary.LittleEndian.Uint32(b[4:])
}

// senderIndex returns the sender index of an initiation or response.
func senderIndex(b []byte) uint32 { return binary.LittleEndian.Uint32(b[4:]) }

// dataCounter returns the counter of a data message.
func dataCounter(b []byte) uint64 { return binary.LittleEndian.Uint64(b[8:]) }

const sockaddrSize = 20

// sockaddr encodes the address that a response carries. IPv4 stands in the last
// four bytes, not as a mapped address, behind zeros, where putBurst may write;
// the port is big-endian.
//
//	version 4 or 6 | 0 | port 2 | address 16
func sockaddr(a netip.AddrPort) (b [sockaddrSize]byte) {
	ip := a.Addr().Unmap()
	binary.BigEndian.PutUint16(b[2:], a.Port())
	if ip.Is6() {
		b[0] = 6
		ip16 := ip.As16()
		copy(b[4:], ip16[:])
		return b
	}
	b[0] = 4
	if ip.Is4() {
		ip4 := ip.As4()
		copy(b[16:], ip4[:])
	}
	return b
}

// parseSockaddr decodes what sockaddr made. It returns the zero AddrPort for an
// unknown version and for the all-zero address of a responder that tells none.
func parseSockaddr(b [sockaddrSize]byte) netip.AddrPort {
	if b[1] != 0 {
		return netip.AddrPort{}
	}
	port := binary.BigEndian.Uint16(b[2:])
	var ip netip.Addr
	switch b[0] {
	case 4:
		ip = netip.AddrFrom4([4]byte(b[16:]))
	case 6:
		ip = netip.AddrFrom16([16]byte(b[4:])).Unmap()
	}
	if !ip.IsValid() || port == 0 && ip.IsUnspecified() {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(ip, port)
}
