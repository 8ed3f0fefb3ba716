package snapproxy

import "net/netip"

// A grouping puts the packets of a batch that go to one tunnel together, so that
// they leave as one burst. Their order stays. The zero value is ready; it belongs
// to one goroutine.
type grouping struct {
	groups map[netip.AddrPort]int // of tunnels that the batch goes to
	of     []int                  // the group of each packet
	place  []int                  // of the next packet of each group

	to      []netip.AddrPort
	packets [][]byte
}

// maxGroups bounds the memory that is kept for groups.
const maxGroups = 1 << 12

// sort returns the packets in groups, whose order is that of their first packets.
// What it returns is valid until the next call.
func (g *grouping) sort(to []netip.AddrPort, packets [][]byte) ([]netip.AddrPort, [][]byte) {
	runs := 1
	for i := 1; i < len(to); i++ {
		if to[i] != to[i-1] {
			runs++
		}
	}
	if runs <= 2 { // nobody comes again
		return to, packets
	}
	if len(g.groups) > maxGroups || g.groups == nil {
		g.groups = make(map[netip.AddrPort]int)
	}
	clear(g.groups)
	g.of, g.place = g.of[:0], g.place[:0]
	for i, a := range to {
		if i > 0 && a == to[i-1] {
			g.of = append(g.of, g.of[i-1])
		} else {
			n, ok := g.groups[a]
			if !ok {
				n = len(g.place)
				g.groups[a] = n
				g.place = append(g.place, 0)
			}
			g.of = append(g.of, n)
		}
		g.place[g.of[i]]++
	}
	if len(g.place) == runs {
		return to, packets
	}
	begin := 0
	for n, size := range g.place {
		g.place[n] = begin
		begin += size
	}
	g.to, g.packets = append(g.to[:0], to...), append(g.packets[:0], packets...)
	for i, n := range g.of {
		at := g.place[n]
		g.place[n]++
		g.to[at], g.packets[at] = to[i], packets[i]
	}
	return g.to, g.packets
}
