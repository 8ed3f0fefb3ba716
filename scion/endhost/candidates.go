package endhost

import (
	"cmp"
	"maps"
	"slices"

	"github.com/scionproto/scion/pkg/addr"
	"github.com/scionproto/scion/pkg/segment"

	"github.com/snapproxy/snapproxy/scion"
)

// maxWork is how many paths, whole and half, the combinator may look at.
const maxWork = 1 << 15

// candidates are checked segments from which paths are made.
type candidates struct {
	src               addr.IA
	ups, cores, downs []*segment.PathSegment
	refused           refusals
	latencies         latencies // of all of them
}

// newest returns the segments without those that have a newer one of the very
// same hops and peers, in their order.
func newest(list []*segment.PathSegment) []*segment.PathSegment {
	best := map[string]int{}
	for i, s := range list {
		id := string(s.FullID())
		if j, ok := best[id]; !ok || s.MinExpiry().After(list[j].MinExpiry()) {
			best[id] = i
		}
	}
	var kept []*segment.PathSegment
	for _, i := range slices.Sorted(maps.Values(best)) {
		kept = append(kept, list[i])
	}
	return kept
}

// dropStrayCores drops the core segments that no other segment leads to or
// from. Asked with wildcards, services name all that they have.
func (c *candidates) dropStrayCores(dst scion.IA) {
	begin, end := map[addr.IA]bool{c.src: true}, map[addr.IA]bool{addr.IA(dst): true}
	for _, s := range c.ups {
		begin[s.FirstIA()] = true
	}
	for _, s := range c.downs {
		end[s.FirstIA()] = true
	}
	c.cores = slices.DeleteFunc(c.cores, func(s *segment.PathSegment) bool {
		return !begin[s.LastIA()] || !end[s.FirstIA()]
	})
}

// within returns the candidates, or as many of the shortest of each kind as the
// combinator has so much work with. A thousand segments that all meet would
// make many millions of paths.
func (c candidates) within(most int) candidates {
	longest := max(len(c.ups), len(c.cores), len(c.downs))
	for n := longest; n > 0 && c.work(most) > most; n /= 2 {
		c.ups, c.cores, c.downs = shortest(c.ups, n), shortest(c.cores, n), shortest(c.downs, n)
	}
	return c
}

// shortest returns the n shortest segments, of equals those that live longest.
func shortest(list []*segment.PathSegment, n int) []*segment.PathSegment {
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(a, b *segment.PathSegment) int {
		return cmp.Or(cmp.Compare(len(a.ASEntries), len(b.ASEntries)), b.MinExpiry().Compare(a.MinExpiry()))
	})
	return list[:min(n, len(list))]
}

// A junction is where segments meet: an AS, or a peering link between two.
type junction struct {
	ia                 addr.IA
	up, down           addr.IA
	upInter, downInter uint16
}

// work returns how many paths, whole and half, the combinator looks at, or any
// number above most.
func (c candidates) work(most int) int {
	downs := map[junction]int{}
	for _, s := range c.downs {
		for j := range junctions(s, true) {
			downs[j]++
		}
	}
	cores := map[junction][]junction{}
	for _, s := range c.cores {
		from := junction{ia: s.LastIA()}
		cores[from] = append(cores[from], junction{ia: s.FirstIA()})
	}
	sum := len(c.ups)
	through := func(j junction) {
		sum += 1 + downs[j]
		for _, k := range cores[j] {
			if sum += 1 + downs[k]; sum > most {
				return
			}
		}
	}
	through(junction{ia: c.src})
	for _, s := range c.ups {
		for j := range junctions(s, false) {
			if sum > most {
				return sum
			}
			through(j)
		}
	}
	return sum
}

// junctions yields where an up or down segment can be entered or left.
func junctions(s *segment.PathSegment, down bool) func(yield func(junction) bool) {
	return func(yield func(junction) bool) {
		for i, e := range s.ASEntries {
			if i < len(s.ASEntries)-1 && !yield(junction{ia: e.Local}) {
				return
			}
			for _, p := range e.PeerEntries {
				j := junction{up: e.Local, upInter: p.HopField.ConsIngress, down: p.Peer, downInter: p.PeerInterface}
				if down {
					j.up, j.upInter, j.down, j.downInter = j.down, j.downInter, j.up, j.upInter
				}
				if !yield(j) {
					return
				}
			}
		}
	}
}
