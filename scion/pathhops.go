package scion

import (
	"encoding/binary"
	"time"
)

// Flags of an info field.
const (
	infoConsDir = 1
	infoPeer    = 2
)

// hopLifetime is the unit of a hop field's expiry: a 256th of a day.
const hopLifetime = 24 * time.Hour / 256

// Expiry returns when the first of the hop fields expires: the time of its
// segment and (expiry+1) 256ths of a day. The empty path does not expire: its
// time is zero.
func (p *Path) Expiry() time.Time {
	if p == nil {
		return time.Time{}
	}
	raw := []byte(p.raw)
	m := mustParseMeta(raw)
	var first time.Time
	hop := 0
	for i, n := range m.segLen[:m.segments] {
		begun := time.Unix(int64(binary.BigEndian.Uint32(m.info(raw, i)[4:])), 0)
		for ; n > 0; n, hop = n-1, hop+1 {
			t := begun.Add(hopLifetime * time.Duration(int(m.hop(raw, hop)[1])+1))
			if first.IsZero() || t.Before(first) {
				first = t
			}
		}
	}
	return first
}

// Egress returns the interface by which a packet on the path leaves the AS that
// it is in. It is zero on the empty path and in the AS where the path ends.
func (p *Path) Egress() uint16 {
	if p == nil {
		return 0
	}
	raw := []byte(p.raw)
	return mustParseMeta(raw).egress(raw)
}

// Egress returns the interface by which the packet leaves the AS that it is in,
// as the current hop field says. It is not ok if the path is not of type SCION
// or ends in that AS.
func (p Packet) Egress() (uint16, bool) {
	if p.PathType() != PathSCION {
		return 0, false
	}
	raw := p.RawPath()
	id := mustParseMeta(raw).egress(raw)
	return id, id != 0
}

// SameHops reports whether both paths cross the same interfaces in the same
// direction, whatever their segment identifiers, times and MACs.
func (p *Path) SameHops(q *Path) bool {
	if p == q {
		return true
	}
	if p == nil || q == nil {
		return false
	}
	var a, b [2 * maxHops]uint16
	m, n := p.crossed(&a), q.crossed(&b)
	return m == n && a == b
}

// crossed writes the identifiers of the interfaces that the path crosses, in
// order of travel, and returns their number: one of the AS where it begins, one
// of the AS where it ends, two of each between.
func (p *Path) crossed(ids *[2 * maxHops]uint16) int {
	raw := []byte(p.raw)
	m := mustParseMeta(raw)
	n, first := 0, 0
	for i, length := range m.segLen[:m.segments] {
		info := m.info(raw, i)[0]
		last := first + length - 1
		for hop := first; hop <= last; hop++ {
			in, out := direct(info, m.hop(raw, hop))
			// Where one segment is left for another, the AS has two hop fields,
			// except where the link between them is a peering link.
			if hop != 0 && (hop != first || info&infoPeer != 0) {
				ids[n], n = in, n+1
			}
			if hop != m.hops-1 && (hop != last || info&infoPeer != 0) {
				ids[n], n = out, n+1
			}
		}
		first += length
	}
	return n
}

// info returns an info field.
func (m pathMeta) info(raw []byte, i int) []byte { return raw[metaLen+i*infoLen:][:infoLen] }

// hop returns a hop field.
func (m pathMeta) hop(raw []byte, i int) []byte {
	return raw[metaLen+m.segments*infoLen+i*hopLen:][:hopLen]
}

// segment returns the segment that a hop field is in, and whether the hop field
// is the last of it.
func (m pathMeta) segment(hop int) (i int, last bool) {
	for n := m.segLen[0]; hop >= n; n += m.segLen[i] {
		i++
	}
	end := 0
	for _, n := range m.segLen[:i+1] {
		end += n
	}
	return i, hop == end-1
}

// egress returns the interface by which a packet leaves the AS of the current
// hop field, zero if it does not.
func (m pathMeta) egress(raw []byte) uint16 {
	hop := m.currHF
	i, last := m.segment(hop)
	info := m.info(raw, i)[0]
	if last && info&infoPeer == 0 && hop+1 < m.hops { // a crossing of segments
		hop++
		i, _ = m.segment(hop)
		info = m.info(raw, i)[0]
	}
	if hop == m.hops-1 {
		return 0
	}
	_, out := direct(info, m.hop(raw, hop))
	return out
}

// direct returns the interfaces of a hop field in the direction of travel.
func direct(info byte, hop []byte) (in, out uint16) {
	in, out = binary.BigEndian.Uint16(hop[2:]), binary.BigEndian.Uint16(hop[4:])
	if info&infoConsDir == 0 {
		in, out = out, in
	}
	return in, out
}

// mustParseMeta reads the meta header of a path that was found valid.
func mustParseMeta(raw []byte) pathMeta {
	m, err := parsePathMeta(raw)
	if err != nil {
		panic("scion: look into an invalid path: " + err.Error())
	}
	return m
}
