package scion

import "hash/maphash"

var hopSeed = maphash.MakeSeed()

// hash is the same for a path and for what becomes of it under way, where the
// current fields move on, segment identifiers are chained and router alerts
// are taken off. It covers the MACs, so that only who has seen the path can
// name it; the seed is the process's own.
func (p *Path) hash() uint64 {
	if p == nil {
		return 0
	}
	return hashHops([]byte(p.raw))
}

// hashHops is the hash of raw, a valid path of type SCION.
func hashHops(raw []byte) uint64 {
	m := mustParseMeta(raw)
	var h maphash.Hash
	h.SetSeed(hopSeed)
	for i, n := range m.segLen[:m.segments] {
		info := m.info(raw, i)
		h.WriteByte(byte(n))
		h.WriteByte(info[0] & (infoConsDir | infoPeer))
		h.Write(info[4:])
	}
	for i := range m.hops {
		h.Write(m.hop(raw, i)[1:])
	}
	return h.Sum64()
}
