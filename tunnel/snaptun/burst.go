package snaptun

import "encoding/binary"

// A responder of ours says in its response how many bytes of datagrams its
// network takes in at once. Of the twelve bytes that an IPv4 address leaves free,
// which every known reader ignores, the first eight hold
//
//	"burs" | bytes 4, big-endian
//
// IPv6 leaves none free, so with it nothing is said.
const (
	burstTag    = "burs"
	burstOffset = 4
	maxBurst    = 1 << 16
)

// putBurst adds the largest burst to an address, if there is room.
func putBurst(b *[sockaddrSize]byte, burst int) {
	if b[0] == 4 && burst > 0 {
		copy(b[burstOffset:], burstTag)
		binary.BigEndian.PutUint32(b[burstOffset+len(burstTag):], uint32(min(burst, maxBurst)))
	}
}

// parseBurst returns what putBurst added, or 0.
func parseBurst(b [sockaddrSize]byte) int {
	if b[0] != 4 || b[1] != 0 || string(b[burstOffset:burstOffset+len(burstTag)]) != burstTag {
		return 0
	}
	if n := binary.BigEndian.Uint32(b[burstOffset+len(burstTag):]); n <= maxBurst {
		return int(n)
	}
	return 0
}
