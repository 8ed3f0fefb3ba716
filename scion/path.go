package scion

import (
	"encoding/binary"
	"errors"
)

// PathType is the type of a data-plane path. A packet may carry one that is
// named here only to tell it from the others.
type PathType uint8

// The path types.
const (
	PathEmpty  PathType = 0
	PathSCION  PathType = 1
	PathOneHop PathType = 2
	PathEPIC   PathType = 3
)

const (
	metaLen     = 4
	infoLen     = 8
	hopLen      = 12
	maxSegments = 3
	maxHops     = 64 // the current hop field is a number of 6 bits
)

var (
	errPathLength = errors.New("path length differs from its segment lengths")
	errSegments   = errors.New("impossible segment lengths")
	errCurrent    = errors.New("current hop or info field is outside the path")
)

// A Path is a data-plane path of type SCION as a header carries it. It does not
// change. The nil *Path is the empty path, which stays inside an AS.
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	| C |  CurrHF   |    RSV    |  Seg0Len  |  Seg1Len  |  Seg2Len  |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	| 1 to 3 info fields, 8 bytes: r r r r r r P C, RSV, SegID, time |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	| 1 to 64 hop fields, 12 bytes: flags, expiry, in, out, MAC      |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
type Path struct {
	raw string
}

// NewPath returns the path of type SCION that raw holds, which is copied.
func NewPath(raw []byte) (*Path, error) {
	if _, err := parsePathMeta(raw); err != nil {
		return nil, err
	}
	return &Path{raw: string(raw)}, nil
}

// Type returns the type of the path.
func (p *Path) Type() PathType {
	if p == nil {
		return PathEmpty
	}
	return PathSCION
}

// Len returns how many bytes of a header the path takes.
func (p *Path) Len() int {
	if p == nil {
		return 0
	}
	return len(p.raw)
}

// Append appends the path to b as a header carries it.
func (p *Path) Append(b []byte) []byte {
	if p == nil {
		return b
	}
	return append(b, p.raw...)
}

// Reverse returns the path back from where p is at the moment.
func (p *Path) Reverse() *Path {
	if p == nil {
		return nil
	}
	raw := []byte(p.raw)
	return &Path{raw: string(appendReversedPath(nil, raw))}
}

// pathMeta is what the first four bytes of a path say.
type pathMeta struct {
	currINF, currHF int
	segLen          [maxSegments]int
	segments, hops  int
}

// parsePathMeta reads the meta header of a path of type SCION and holds the
// whole of raw against it.
func parsePathMeta(raw []byte) (pathMeta, error) {
	if len(raw) < metaLen {
		return pathMeta{}, errPathLength
	}
	line := binary.BigEndian.Uint32(raw)
	m := pathMeta{
		currINF: int(line >> 30),
		currHF:  int(line >> 24 & 0x3f),
		segLen:  [maxSegments]int{int(line >> 12 & 0x3f), int(line >> 6 & 0x3f), int(line & 0x3f)},
	}
	for i, n := range m.segLen {
		if n == 0 {
			continue
		}
		if i != m.segments {
			return pathMeta{}, errSegments
		}
		m.segments++
		m.hops += n
	}
	switch {
	case m.segments == 0 || m.hops > maxHops:
		return pathMeta{}, errSegments
	case len(raw) != metaLen+m.segments*infoLen+m.hops*hopLen:
		return pathMeta{}, errPathLength
	case m.currINF >= m.segments || m.currHF >= m.hops:
		return pathMeta{}, errCurrent
	}
	return m, nil
}

// appendReversedPath appends the reversal of raw, a valid path of type SCION,
// to b: segments and hops in the opposite order, each segment read in the
// opposite direction, and the current fields counted from the other end.
// Reserved bits become zero.
func appendReversedPath(b, raw []byte) []byte {
	m, err := parsePathMeta(raw)
	if err != nil {
		panic("scion: reverse an invalid path: " + err.Error())
	}
	line := uint32(m.segments-1-m.currINF)<<30 | uint32(m.hops-1-m.currHF)<<24
	for i := range m.segments {
		line |= uint32(m.segLen[m.segments-1-i]) << (12 - 6*i)
	}
	b = binary.BigEndian.AppendUint32(b, line)
	const peer, consDir = 2, 1
	for i := m.segments - 1; i >= 0; i-- {
		info := raw[metaLen+i*infoLen:][:infoLen]
		b = append(b, info[0]&(peer|consDir)^consDir, 0)
		b = append(b, info[2:]...)
	}
	const alerts = 3
	hops := raw[metaLen+m.segments*infoLen:]
	for i := m.hops - 1; i >= 0; i-- {
		hop := hops[i*hopLen:][:hopLen]
		b = append(b, hop[0]&alerts)
		b = append(b, hop[1:]...)
	}
	return b
}
