package scion

import (
	"encoding/binary"
	"math/bits"
)

// addSum adds b, taken as big-endian 16-bit words, to the one's complement sum
// s. Only the last part that is added may have an odd length. Words of 64 bits
// serve as well, because 2^16, 2^32 and 2^48 are all 1 modulo 2^16-1, and so do
// words with their bytes the other way round if the sum is turned round at the
// end (RFC 1071 section 2B). Two sums at a time keep the processor busy.
func addSum(s uint64, b []byte) uint64 {
	var t, u, ct, cu uint64
	for len(b) >= 64 {
		t, ct = bits.Add64(t, binary.LittleEndian.Uint64(b), ct)
		t, ct = bits.Add64(t, binary.LittleEndian.Uint64(b[8:]), ct)
		t, ct = bits.Add64(t, binary.LittleEndian.Uint64(b[16:]), ct)
		t, ct = bits.Add64(t, binary.LittleEndian.Uint64(b[24:]), ct)
		u, cu = bits.Add64(u, binary.LittleEndian.Uint64(b[32:]), cu)
		u, cu = bits.Add64(u, binary.LittleEndian.Uint64(b[40:]), cu)
		u, cu = bits.Add64(u, binary.LittleEndian.Uint64(b[48:]), cu)
		u, cu = bits.Add64(u, binary.LittleEndian.Uint64(b[56:]), cu)
		b = b[64:]
	}
	t, ct = bits.Add64(t, u, ct)
	for len(b) >= 8 {
		t, ct = bits.Add64(t, binary.LittleEndian.Uint64(b), ct)
		b = b[8:]
	}
	if len(b) > 0 {
		var last [8]byte
		copy(last[:], b)
		t, ct = bits.Add64(t, binary.LittleEndian.Uint64(last[:]), ct)
	}
	t = t>>32 + t&0xffffffff + ct + cu
	s, ct = bits.Add64(s, uint64(bits.ReverseBytes16(foldSum(t))), 0)
	return s + ct
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
