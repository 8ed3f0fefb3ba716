package endhost

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"iter"
	"math"
	"slices"
	"time"

	"github.com/snapproxy/snapproxy/scion"
)

// A junction is where segments meet: an AS, or a peering link between two.
type junction struct {
	ia                 scion.IA
	up, down           scion.IA
	upInter, downInter uint16
}

// A part is what a way takes of a segment: all of it, or what lies behind an
// AS, which is at the end of an up segment and at the begin of a down segment.
type part struct {
	*segment
	down bool
	from int        // index of that AS; a shortcut if it is not 0
	peer *peerEntry // the link of that AS that is taken instead of the AS above, or nil
	nth  int        // its index and 1, or 0
}

// parts yields the parts of an up or down segment, and where they lead to from
// the source or lead to the destination from.
func parts(s *segment, down bool) iter.Seq2[junction, part] {
	return func(yield func(junction, part) bool) {
		for i := range s.entries {
			e := &s.entries[i]
			if i < len(s.entries)-1 && !yield(junction{ia: e.ia}, part{segment: s, down: down, from: i}) {
				return
			}
			for n := range e.peers {
				p := &e.peers[n]
				j := junction{up: e.ia, upInter: p.hop.in, down: p.ia, downInter: p.id}
				if down {
					j.up, j.upInter, j.down, j.downInter = j.down, j.downInter, j.up, j.upInter
				}
				if !yield(j, part{segment: s, down: down, from: i, peer: p, nth: n + 1}) {
					return
				}
			}
		}
	}
}

// cost returns how many links the part crosses. A peering link counts with the
// down segment.
func (p part) cost() int {
	n := len(p.entries) - 1 - p.from
	if p.down && p.peer != nil {
		n++
	}
	return n
}

// A way is one to three parts that meet: of an up, a core and a down segment,
// in this order.
type way []part

func (w way) cost() (sum int) {
	for _, p := range w {
		sum += p.cost()
	}
	return sum
}

// compare orders ways by their links, by their parts, and where these are as
// many by hashes, as the reference combinator does (private/path/combinator).
func (w way) compare(v way) int {
	d := cmp.Or(cmp.Compare(w.cost(), v.cost()), cmp.Compare(len(w), len(v)))
	for i := 0; d == 0 && i < len(w); i++ {
		d = cmp.Or(bytes.Compare(w[i].hash[:], v[i].hash[:]), cmp.Compare(w[i].from, v[i].from), cmp.Compare(w[i].nth, v[i].nth))
	}
	return d
}

// ways returns all ways from the source to dst, the best first. Their number is
// at most what work returns.
func (c candidates) ways(dst scion.IA) []way {
	downs := map[junction][]part{}
	for _, s := range c.downs {
		for j, p := range parts(s, true) {
			downs[j] = append(downs[j], p)
		}
	}
	cores := map[junction][]part{}
	for _, s := range c.cores {
		from := junction{ia: s.last()}
		cores[from] = append(cores[from], part{segment: s})
	}
	var all []way
	var onward func(w way, at junction, core bool)
	onward = func(w way, at junction, core bool) {
		if at == (junction{ia: dst}) {
			all = append(all, w)
			return
		}
		w = slices.Clip(w)
		for _, p := range downs[at] {
			all = append(all, append(w, p))
		}
		if core {
			for _, p := range cores[at] {
				onward(append(w, p), junction{ia: p.first()}, false)
			}
		}
	}
	onward(nil, junction{ia: c.src}, true)
	for _, s := range c.ups {
		for j, p := range parts(s, false) {
			onward(way{p}, j, true)
		}
	}
	slices.SortFunc(all, way.compare)
	return all
}

// A joined way is a path and what is known of it.
type joined struct {
	raw        []byte // as scion.NewPath takes it
	interfaces []scion.Interface
	mtu        uint16
	expiry     time.Time
}

// join makes paths of ways, in their order. Ways through more than two
// interfaces of an AS are left out, and of those through the very same
// interfaces the one that lives longest is taken.
func join(ways []way) []joined {
	var paths []joined
	var keys []string
	best := map[string]int{}
	for _, w := range ways {
		p := w.join()
		if tangled(p.interfaces) {
			continue
		}
		var b []byte
		for _, i := range p.interfaces {
			b = binary.BigEndian.AppendUint64(b, uint64(i.IA))
			b = binary.BigEndian.AppendUint16(b, i.ID)
		}
		key := string(b)
		if at, again := best[key]; !again || p.expiry.After(paths[at].expiry) {
			best[key] = len(paths)
		}
		paths, keys = append(paths, p), append(keys, key)
	}
	kept := paths[:0]
	for i, p := range paths {
		if best[keys[i]] == i {
			kept = append(kept, p)
		}
	}
	return kept
}

// tangled reports whether there are more than two interfaces of an AS.
func tangled(interfaces []scion.Interface) bool {
	count := map[scion.IA]int{}
	for _, i := range interfaces {
		if count[i.IA]++; count[i.IA] > 2 {
			return true
		}
	}
	return false
}

// join makes the path of a way.
func (w way) join() joined {
	j := joined{mtu: math.MaxUint16, expiry: time.Unix(math.MaxUint32, 0).Add(life(255))}
	var meta uint32
	var infos, hops []byte
	for n, p := range w {
		fields, interfaces := p.hops()
		meta |= uint32(len(fields)) << (12 - 6*n)
		infos = p.appendInfo(infos)
		expTime := uint8(255)
		for _, h := range fields {
			expTime = min(expTime, h.expTime)
			hops = append(hops, 0, h.expTime)
			hops = binary.BigEndian.AppendUint16(hops, h.in)
			hops = binary.BigEndian.AppendUint16(hops, h.out)
			hops = append(hops, h.mac[:]...)
		}
		if expires := p.made().Add(life(expTime)); expires.Before(j.expiry) {
			j.expiry = expires
		}
		j.interfaces = append(j.interfaces, interfaces...)
		j.mtu = min(j.mtu, p.mtu())
	}
	j.raw = slices.Concat(binary.BigEndian.AppendUint32(nil, meta), infos, hops)
	return j
}

// hops returns the hop fields of a part and the interfaces that it crosses, in
// the direction of the way.
func (p part) hops() (fields []hopField, interfaces []scion.Interface) {
	for i := len(p.entries) - 1; i >= p.from; i-- {
		e := &p.entries[i]
		h := e.hop
		if i == p.from && p.peer != nil {
			h = p.peer.hop
		}
		fields = append(fields, h)
		if h.out != 0 {
			interfaces = append(interfaces, scion.Interface{IA: e.ia, ID: h.out})
		}
		if h.in != 0 && (i > p.from || p.peer != nil) { // a shortcut does not cross its AS
			interfaces = append(interfaces, scion.Interface{IA: e.ia, ID: h.in})
		}
	}
	if p.down {
		slices.Reverse(fields)
		slices.Reverse(interfaces)
	}
	return fields, interfaces
}

// mtu returns the least MTU of the ASes and links of a part.
func (p part) mtu() uint16 {
	least := uint32(math.MaxUint16)
	for i := p.from; i < len(p.entries); i++ {
		e := &p.entries[i]
		least = min(least, e.mtu)
		switch {
		case i == p.from && p.peer != nil:
			least = min(least, p.peer.mtu)
		case e.ingressMTU != 0 && (i > p.from || i == 0):
			least = min(least, e.ingressMTU)
		}
	}
	return uint16(least)
}

// appendInfo appends the info field: flags, what the chain of MACs is at where
// the way enters the part, and the timestamp.
func (p part) appendInfo(b []byte) []byte {
	var flags byte
	if p.down {
		flags |= 1
	}
	if p.peer != nil {
		flags |= 2
	}
	// The MAC of a peering hop is chained like that of the hop behind it.
	enters := len(p.entries) - 1
	if p.down {
		enters = p.from
	}
	if p.peer != nil && enters == p.from {
		enters++
	}
	beta := p.id
	for _, e := range p.entries[:enters] {
		beta ^= binary.BigEndian.Uint16(e.hop.mac[:])
	}
	b = append(b, flags, 0)
	b = binary.BigEndian.AppendUint16(b, beta)
	return binary.BigEndian.AppendUint32(b, p.timestamp)
}
