package snapproxy

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// tunnelsTo spells the tunnels of a batch, one letter each, whose packets are
// numbered.
func tunnelsTo(s string) (to []netip.AddrPort, packets [][]byte) {
	for i, c := range s {
		to = append(to, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, 1}), uint16(c)))
		packets = append(packets, fmt.Appendf(nil, "%c%d", c, i))
	}
	return to, packets
}

func TestGroupingKeepsOrder(t *testing.T) {
	var g grouping
	for _, tt := range []struct{ to, want string }{
		{"", ""},
		{"aaa", "a0 a1 a2"},
		{"aab", "a0 a1 b2"},
		{"abc", "a0 b1 c2"},
		{"abab", "a0 a2 b1 b3"},
		{"baabcca", "b0 b3 a1 a2 a6 c4 c5"},
	} {
		to, packets := g.sort(tunnelsTo(tt.to))
		var got []string
		for i, p := range packets {
			got = append(got, string(p))
			if to[i].Port() != uint16(p[0]) {
				t.Errorf("%s: packet %s goes to %c", tt.to, p, to[i].Port())
			}
		}
		if got := strings.Join(got, " "); got != tt.want {
			t.Errorf("%s is sorted %q, want %q", tt.to, got, tt.want)
		}
	}
}

// Whatever the batch, nothing is lost and nobody's packets change places.
func TestGroupingOfManyBatches(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var g grouping
	for range 300 {
		letters := make([]byte, rng.IntN(200))
		tunnels := 1 + rng.IntN(20)
		for i := range letters {
			letters[i] = 'a' + byte(rng.IntN(tunnels))
		}
		to, packets := tunnelsTo(string(letters))
		gotTo, got := g.sort(to, packets)
		want := slices.Clone(packets)
		first := map[byte]int{}
		for i, p := range packets {
			if _, ok := first[p[0]]; !ok {
				first[p[0]] = i
			}
		}
		slices.SortStableFunc(want, func(a, b []byte) int { return first[a[0]] - first[b[0]] })
		if !slices.EqualFunc(got, want, func(a, b []byte) bool { return string(a) == string(b) }) {
			t.Fatalf("%s is sorted %q", letters, got)
		}
		for i, p := range got {
			if gotTo[i].Port() != uint16(p[0]) {
				t.Fatalf("packet %s goes to %v", p, gotTo[i])
			}
		}
	}
}

func TestGroupingAllocatesNothing(t *testing.T) {
	var g grouping
	to, packets := tunnelsTo(strings.Repeat("abcdefghij", 20))
	if n := testing.AllocsPerRun(100, func() { g.sort(to, packets) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkGrouping(b *testing.B) {
	var g grouping
	to, packets := tunnelsTo(strings.Repeat("abcdefghij", 3))
	for b.Loop() {
		g.sort(to, packets)
	}
}
