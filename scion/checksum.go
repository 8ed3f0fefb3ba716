package scion

import (
	"encoding/binary"
	"math/bits"
)

// addSum adds b, taken as big-endian 16-bit words, to the one's complement sum
// s. Only the last part that is added may have an odd length. Words of 64 bits
// serve as well, because 2^16, 2^32 and 2^48 are all 1 modulo 2^16-1.
func addSum(s uint64, b []byte) uint64 {
	var carry uint64
	for len(b) >= 32 {
		s, carry = bits.Add64(s, binary.BigEndian.Uint64(b), 0)
		s, carry = bits.Add64(s, binary.BigEndian.Uint64(b[8:]), carry)
		s, carry = bits.Add64(s, binary.BigEndian.Uint64(b[16:]), carry)
		s, carry = bits.Add64(s, binary.BigEndian.Uint64(b[24:]), carry)
		s, carry = bits.Add64(s, 0, carry)
		s += carry
		b = b[32:]
	}
	for len(b) >= 8 {
		s, carry = bits.Add64(s, binary.BigEndian.Uint64(b), 0)
		s += carry
		b = b[8:]
	}
	if len(b) > 0 {
		var last [8]byte
		copy(last[:], b)
		s, carry = bits.Add64(s, binary.BigEndian.Uint64(last[:]), 0)
		s += carry
	}
	return s
}

// foldSum brings a sum down to 16 bits.
func foldSum(s uint64) uint16 {
	s = s>>32 + s&0xffffffff
	s = s>>32 + s&0xffffffff
	s = s>>16 + s&0xffff
	s = s>>16 + s&0xffff
	return uint16(s)
}

// pseudoSum begins the checksum of an upper-layer header: addresses is the
// address part of the SCION header, length that of upper-layer header and data.
func pseudoSum(addresses []byte, protocol uint8, length int) uint64 {
	return addSum(uint64(length)+uint64(protocol), addresses)
}

// udpChecksum makes the checksum field of a UDP header out of a sum. As over
// IP, zero is sent as its other representation, because zero means none.
func udpChecksum(s uint64) uint16 {
	if c := ^foldSum(s); c != 0 {
		return c
	}
	return 0xffff
}

// sumHolds reports whether a sum that includes a checksum field is right.
func sumHolds(s uint64) bool { return foldSum(s) == 0xffff }

// sumAccepted reports whether the checksum at offset at of an upper-layer header
// and what follows it is right, or is that of the pseudo-header alone, which is
// what the Rust SCION SDK 0.8.6 writes into UDP and SCMP (its
// with_pseudoheader leaves the data out). It verifies none itself. Nothing here
// trusts a checksum: what matters is authenticated by what the packet carries.
func sumAccepted(pseudo uint64, b []byte, at int) bool {
	return binary.BigEndian.Uint16(b[at:]) == ^foldSum(pseudo) || sumHolds(addSum(pseudo, b))
}

// Where the checksum stands in an upper-layer header.
const (
	udpChecksumAt  = 6
	scmpChecksumAt = 2
)
