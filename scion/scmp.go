package scion

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Types of SCMP messages. Those below 128 are errors.
const (
	scmpUnreachable      = 1
	scmpPacketTooBig     = 2
	scmpParameterProblem = 4
	scmpInterfaceDown    = 5
	scmpConnectivityDown = 6
	scmpEchoRequest      = 128
	scmpEchoReply        = 129
	scmpTracerouteReply  = 131
)

const (
	scmpLen     = 4 // type, code, checksum
	scmpEchoLen = 8 // and identifier, sequence number
	// maxSCMPError is the largest packet with an SCMP error: it should pass
	// where 1280 bytes do, inside a tunnel.
	maxSCMPError = 1232
)

// ErrSCMPOfSCMP is returned when an SCMP error would answer an SCMP error,
// which could go on for ever.
var ErrSCMPOfSCMP = errors.New("an SCMP error does not answer an SCMP error")

var errSCMPType = errors.New("not an SCMP error with a field of 4 bytes")

// An SCMPError is an SCMP error message.
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|     Type      |     Code      |           Checksum            |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|           reserved            |        MTU or Pointer         |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|   the offending packet, as much as fits in 1232 bytes of all  |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
type SCMPError struct {
	Type, Code uint8
	// Info is the MTU that a packet exceeds (type 2) or the offset of the byte
	// that is wrong (type 4); otherwise it is zero.
	Info uint32
	// Src and Dst are who sends the message and who gets it, on the path of
	// Dst. Their ports do not count.
	Src, Dst Addr
}

// AppendSCMPError appends a SCION packet with an SCMP error of type 1, 2 or 4
// that quotes the packet offending, which need not be well-formed. It returns
// ErrSCMPOfSCMP if that is an SCMP error.
func AppendSCMPError(b []byte, e SCMPError, offending []byte) ([]byte, error) {
	start := len(b)
	switch e.Type {
	case scmpUnreachable, scmpPacketTooBig, scmpParameterProblem:
	default:
		return b, fmt.Errorf("append SCMP error of type %d: %w", e.Type, errSCMPType)
	}
	if p, err := ParsePacket(offending); err == nil {
		if p.isSCMPError() {
			return b, ErrSCMPOfSCMP
		}
		offending = p.Bytes()
	}
	room := maxSCMPError - headerSize(e.Src.Host, e.Dst.Host, e.Dst.Path) - quoteOffset(e.Type)
	offending = offending[:max(0, min(room, len(offending)))]
	length := quoteOffset(e.Type) + len(offending)
	b, err := appendHeader(b, e.Src, e.Dst, ProtocolSCMP, length)
	if err != nil {
		return b[:start], fmt.Errorf("append SCMP error: %w", err)
	}
	scmp := len(b)
	b = append(b, e.Type, e.Code, 0, 0)
	b = binary.BigEndian.AppendUint32(b, e.Info)
	b = append(b, offending...)
	addresses := b[start+addrOffset : scmp-e.Dst.Path.Len()]
	setSCMPChecksum(addresses, b[scmp:])
	return b, nil
}

// setSCMPChecksum sets the checksum of an SCMP message.
func setSCMPChecksum(addresses, scmp []byte) {
	scmp[2], scmp[3] = 0, 0
	sum := addSum(pseudoSum(addresses, uint8(ProtocolSCMP), len(scmp)), scmp)
	binary.BigEndian.PutUint16(scmp[2:], ^foldSum(sum))
}

// SCMP returns type and code of an SCMP message; types below 128 are errors.
// It is not ok if the packet holds none.
func (p Packet) SCMP() (typ, code uint8, ok bool) {
	next, b, ok := p.Upper()
	if !ok || next != ProtocolSCMP || len(b) < scmpLen {
		return 0, 0, false
	}
	return b[0], b[1], true
}

func (p Packet) isSCMPError() bool {
	typ, _, ok := p.SCMP()
	return ok && typ < scmpEchoRequest
}

// Quote returns the packet that an SCMP error is about, usually truncated. It
// is not ok if p is none, or if not even the header that it quotes is whole.
func (p Packet) Quote() (Packet, bool) {
	next, b, ok := p.Upper()
	if !ok || next != ProtocolSCMP || len(b) < scmpLen {
		return Packet{}, false
	}
	offset := quoteOffset(b[0])
	if offset == 0 || len(b) < offset {
		return Packet{}, false
	}
	q, err := ParsePacket(b[offset:])
	return q, err == nil
}

// quoteOffset is where in an SCMP error of a type the quoted packet begins, or
// zero if that is unknown.
func quoteOffset(typ uint8) int {
	switch typ {
	case scmpUnreachable, scmpPacketTooBig, scmpParameterProblem:
		return scmpLen + 4
	case scmpInterfaceDown: // ISD-AS, interface
		return scmpLen + 16
	case scmpConnectivityDown: // ISD-AS, ingress, egress
		return scmpLen + 24
	}
	return 0
}
