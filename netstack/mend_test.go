package netstack

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/faketime"
)

// ranges returns the holes, since seq.
func (m *mend) ranges(seq uint32) (r [][2]int) {
	for _, h := range m.holes {
		r = append(r, [2]int{int(h.start - seq), int(h.end - seq)})
	}
	return r
}

func TestHoles(t *testing.T) {
	const seq = 1<<32 - 2500
	for _, tt := range []struct {
		name   string
		sacked [][2]int
		ack    int
		want   [][2]int
	}{
		{"one", [][2]int{{1000, 2000}}, 0, [][2]int{{0, 1000}}},
		{"growing behind it", [][2]int{{1000, 2000}, {2000, 3000}, {2000, 5000}}, 0, [][2]int{{0, 1000}}},
		{"two", [][2]int{{1000, 2000}, {3000, 4000}}, 0, [][2]int{{0, 1000}, {2000, 3000}}},
		{"filled from the left", [][2]int{{3000, 4000}, {0, 1000}}, 0, [][2]int{{1000, 3000}}},
		{"filled from the right", [][2]int{{3000, 4000}, {2000, 3000}}, 0, [][2]int{{0, 2000}}},
		{"filled in the middle", [][2]int{{3000, 4000}, {1000, 2000}}, 0, [][2]int{{0, 1000}, {2000, 3000}}},
		{"filled, two and a half", [][2]int{{1000, 2000}, {3000, 4000}, {5000, 6000}, {500, 5500}}, 0, [][2]int{{0, 500}}},
		{"acknowledged", [][2]int{{1000, 2000}, {3000, 4000}}, 2500, [][2]int{{2500, 3000}}},
		{"all acknowledged", [][2]int{{1000, 2000}, {3000, 4000}}, 7000, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var m mend
			m.begin(seq)
			for _, s := range tt.sacked {
				m.sacked(seq+uint32(s[0]), seq+uint32(s[1]), tcpip.MonotonicTime{}, time.Second)
			}
			m.acked(seq+uint32(tt.ack), 0, tcpip.MonotonicTime{}, time.Second)
			if got := m.ranges(seq); !slices.Equal(got, tt.want) {
				t.Errorf("holes %v, want %v", got, tt.want)
			}
		})
	}
}

// FuzzHoles compares the holes with bits of which each stands for a byte.
func FuzzHoles(f *testing.F) {
	f.Add(uint32(0), uint64(1))
	f.Add(uint32(1<<32-300), uint64(2))
	f.Add(uint32(1<<31-300), uint64(3))
	f.Fuzz(func(t *testing.T, seq uint32, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 0))
		clock := faketime.NewManualClock()
		var m mend
		m.begin(seq)
		var has [1000]bool
		una, high := 0, 0
		for range 150 {
			clock.Advance(time.Duration(r.IntN(1000)) * time.Microsecond)
			if r.IntN(4) > 0 {
				start := una + r.IntN(len(has)-una)
				end := min(start+1+r.IntN(60), len(has))
				if start == una {
					continue // acknowledged, not selectively
				}
				if !m.sacked(seq+uint32(start), seq+uint32(end), clock.NowMonotonic(), time.Millisecond) {
					t.Fatal("too many holes")
				}
				for i := start; i < end; i++ {
					has[i] = true
				}
				high = max(high, end)
			} else {
				una = min(una+r.IntN(20), len(has)-1)
				for has[una] && una < len(has)-1 {
					una++
				}
				high = max(high, una)
				for i := range una {
					has[i] = true
				}
				m.acked(seq+uint32(una), 1, clock.NowMonotonic(), time.Millisecond)
			}
			var want [][2]int
			for i := una; i < high; i++ {
				switch n := len(want); {
				case has[i]:
				case n > 0 && want[n-1][1] == i:
					want[n-1][1]++
				default:
					want = append(want, [2]int{i, i + 1})
				}
			}
			if got := m.ranges(seq); !slices.Equal(got, want) {
				t.Fatalf("holes %v, want %v", got, want)
			}
			if m.high != seq+uint32(high) || m.reorder > time.Millisecond {
				t.Fatalf("high %d, want %d; reorder %v", m.high-seq, high, m.reorder)
			}
		}
	})
}

func TestHolesAreBounded(t *testing.T) {
	var m mend
	m.begin(0)
	n := 0
	for m.sacked(uint32(2000*n+1000), uint32(2000*n+2000), tcpip.MonotonicTime{}, time.Second) {
		n++
	}
	if n != maxHoles {
		t.Errorf("%d holes, want %d", n, maxHoles)
	}
}

func TestGauge(t *testing.T) {
	const ms = time.Millisecond
	clock := faketime.NewManualClock()
	for _, tt := range []struct {
		name string
		rtts []time.Duration // of packets, four in a round trip
		want bool
	}{
		{"nothing", nil, false},
		{"steady", []time.Duration{50 * ms, 50 * ms, 51 * ms, 50 * ms, 50 * ms, 50 * ms, 50 * ms, 50 * ms}, false},
		{"jitter", []time.Duration{50 * ms, 80 * ms, 70 * ms, 60 * ms, 90 * ms, 51 * ms, 80 * ms, 80 * ms}, false},
		{"standing", []time.Duration{50 * ms, 50 * ms, 50 * ms, 55 * ms, 65 * ms, 65 * ms, 65 * ms, 66 * ms}, true},
		{"gone", []time.Duration{50 * ms, 65 * ms, 65 * ms, 65 * ms, 65 * ms, 65 * ms, 65 * ms, 66 * ms, 51 * ms}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var g gauge
			for i, d := range tt.rtts {
				g.measured(d, uint32(i), uint32(i/4*4+4), clock.NowMonotonic())
			}
			if got := g.queued(); got != tt.want {
				t.Errorf("queued = %v, want %v", got, tt.want)
			}
		})
	}
	var g gauge
	for i := range 4 {
		g.measured(time.Duration(50+10*i)*ms, uint32(i), uint32(i), clock.NowMonotonic())
		clock.Advance(leastAge + 1)
	}
	if g.least() < 60*ms {
		t.Errorf("least %v after a change of path", g.least())
	}
}
