package tunnel

import (
	"encoding/binary"
	"errors"
	"sync/atomic"
	"time"
)

// A frame carries a packet or a fragment of one. Integers are big-endian.
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-------------------------------+-------------------------------+
//	|                     stream offset (64 bits)                   |
//	|          bytes of all packets before this one; names it       |
//	+-------------------------------+-+-----------------------------+
//	|  frame offset in the packet   |L|      reserved, ignored      |
//	+-------------------------------+-+-----------------------------+
//	|                 unused, sent as zero, ignored                 |
//	+---------------------------------------------------------------+
//	|                             data                              |
//
// L marks the last frame of a packet. All others of it have the same length of
// at least 256 bytes, and their offsets are multiples of it. Nothing is padded
// (edgetun.md §6).
const (
	frameHeader = 16
	lastFrame   = 0x8000

	minFrameSize = 272
	maxFrameSize = 9000
	minFrameData = 256
	maxFrames    = 256
	maxPacket    = 65535
)

// What can be wrong with a frame; the names are those of the reference.
var (
	errInvalidHeader  = errors.New("invalid_header")
	errOutOfBounds    = errors.New("segment_out_of_bounds")
	errDuplicate      = errors.New("duplicate_segment")
	errTooOld         = errors.New("segment_too_old")
	errInconsistent   = errors.New("inconsistent_frame_size")
	errAlignment      = errors.New("offset_alignment_invalid")
	errFrameTooSmall  = errors.New("frame_too_small")
	errFrameIndex     = errors.New("frame_idx_exceeds_max_frames")
	errLastAlignment  = errors.New("last_frame_offset_alignment_invalid")
	errPacketTooLarge = errors.New("last_packet_size_exceeds_max_packet_size")
)

var frameErrors = []error{
	errInvalidHeader, errOutOfBounds, errDuplicate, errTooOld, errInconsistent,
	errAlignment, errFrameTooSmall, errFrameIndex, errLastAlignment, errPacketTooLarge,
}

// A frame is a part of a packet that is to be sent. In a tunnel without framing
// it is all of it and the header is not sent.
type frame struct {
	stream uint64
	offset int
	last   bool
	data   []byte // lent
}

// append appends the frame as it is sent.
func (f *frame) append(b []byte) []byte {
	flags := uint16(0)
	if f.last {
		flags = lastFrame
	}
	b = binary.BigEndian.AppendUint64(b, f.stream)
	b = binary.BigEndian.AppendUint16(b, uint16(f.offset))
	b = binary.BigEndian.AppendUint16(b, flags)
	b = append(b, 0, 0, 0, 0)
	return append(b, f.data...)
}

// A stream counts the bytes of the packets of one direction. It is safe for
// concurrent use.
type stream struct{ next atomic.Uint64 }

// start sets the offset of the first packet. It grows with the time, because a
// peer that remembers our run before this one refuses packets behind it.
func (s *stream) start(now time.Time) {
	s.next.Store(uint64(max(now.UnixNano(), 0)))
}

// reserve returns the offset of a packet of n bytes.
func (s *stream) reserve(n int) uint64 { return s.next.Add(uint64(n)) - uint64(n) }

// appendFrames cuts a packet into frames of at most size bytes, header included.
// The packet must have 1 to 65,535 bytes.
func (s *stream) appendFrames(dst []frame, packet []byte, size int) []frame {
	size = min(max(size, minFrameSize), maxFrameSize) - frameHeader
	offset := s.reserve(len(packet))
	for at := 0; ; at += size {
		if len(packet)-at <= size {
			return append(dst, frame{stream: offset, offset: at, last: true, data: packet[at:]})
		}
		dst = append(dst, frame{stream: offset, offset: at, data: packet[at : at+size]})
	}
}

// cutToIP cuts off what stands behind an IP packet, because some peers pad.
func cutToIP(b []byte) []byte {
	n := len(b)
	switch {
	case n >= 20 && b[0]>>4 == 4:
		n = int(binary.BigEndian.Uint16(b[2:]))
		if n < 20 {
			return b
		}
	case n >= 40 && b[0]>>4 == 6:
		n = 40 + int(binary.BigEndian.Uint16(b[4:]))
	}
	return b[:min(n, len(b))]
}
