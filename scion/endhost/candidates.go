package endhost

import (
	"cmp"
	"maps"
	"slices"

	"github.com/snapproxy/snapproxy/scion"
)

// maxWork is how many ways, whole and half, may be looked at.
const maxWork = 1 << 15

// candidates are checked segments from which paths are made.
type candidates struct {
	src               scion.IA
	ups, cores, downs []*segment
	refused           refusals
	latencies         latencies // of all of them
}

// newest returns the segments without those that have a newer one of the very
// same hops and peers, in their order.
func newest(list []*segment) []*segment {
	best := map[string]int{}
	for i, s := range list {
		id := string(s.appendHops(nil, true))
		if j, ok := best[id]; !ok || s.expires().After(list[j].expires()) {
			best[id] = i
		}
	}
	var kept []*segment
	for _, i := range slices.Sorted(maps.Values(best)) {
		kept = append(kept, list[i])
	}
	return kept
}

// dropStrayCores drops the core segments that no other segment leads to or
// from. Asked with wildcards, services name all that they have.
func (c *candidates) dropStrayCores(dst scion.IA) {
	begin, end := map[scion.IA]bool{c.src: true}, map[scion.IA]bool{dst: true}
	for _, s := range c.ups {
		begin[s.first()] = true
	}
	for _, s := range c.downs {
		end[s.first()] = true
	}
	c.cores = slices.DeleteFunc(c.cores, func(s *segment) bool {
		return !begin[s.last()] || !end[s.first()]
	})
}

// within returns the candidates, or as many of the shortest of each kind as the
// ways has so much work with. A thousand segments that all meet would
// make many millions of paths.
func (c candidates) within(most int) candidates {
	longest := max(len(c.ups), len(c.cores), len(c.downs))
	for n := longest; n > 0 && c.work(most) > most; n /= 2 {
		c.ups, c.cores, c.downs = shortest(c.ups, n), shortest(c.cores, n), shortest(c.downs, n)
	}
	return c
}

// shortest returns the n shortest segments, of equals those that live longest.
func shortest(list []*segment, n int) []*segment {
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(a, b *segment) int {
		return cmp.Or(cmp.Compare(len(a.entries), len(b.entries)), b.expires().Compare(a.expires()))
	})
	return list[:min(n, len(list))]
}

// work returns how many ways, whole and half, there are to look at, or any number
// above most.
func (c candidates) work(most int) int {
	downs := map[junction]int{}
	for _, s := range c.downs {
		for j := range parts(s, true) {
			downs[j]++
		}
	}
	cores := map[junction][]junction{}
	for _, s := range c.cores {
		from := junction{ia: s.last()}
		cores[from] = append(cores[from], junction{ia: s.first()})
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
		for j := range parts(s, false) {
			if sum > most {
				return sum
			}
			through(j)
		}
	}
	return sum
}
