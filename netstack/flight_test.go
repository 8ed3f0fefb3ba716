package netstack

import (
	"math/rand/v2"
	"slices"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/faketime"
)

const flightRoom = 1000

// newFlight returns a flight at seq with segments of these sizes; -1 is a FIN.
func newFlight(seq uint32, sizes ...int) *flight {
	f := &flight{una: seq, next: seq, hole: seq, repeated: seq}
	for _, n := range sizes {
		f.addSize(n, tcpip.MonotonicTime{})
	}
	return f
}

func (f *flight) addSize(n int, at tcpip.MonotonicTime) {
	pkt := tcpPacket{seq: f.next, payload: make([]byte, max(n, 0)), view: 1 << 16}.item().pkt
	f.add(segmentSent{pkt: pkt, at: at, seq: f.next, size: uint32(max(n, 0)), fin: n < 0})
	pkt.DecRef()
}

// resent returns what a flight sends again, as ranges of bytes since seq.
func (f *flight) resent(seq uint32) (ranges [][2]int) {
	f.again(flightRoom, tcpip.MonotonicTime{}, func(i outItem) bool {
		at := be32(i.pkt.TransportHeader().Slice()[4:]) - seq
		ranges = append(ranges, [2]int{int(at + i.part.from), int(at + i.part.to)})
		i.release()
		return true
	})
	return ranges
}

func TestFlightSentAgain(t *testing.T) {
	const seq = 1<<32 - 5000
	for _, tt := range []struct {
		name  string
		sizes []int
		set   func(f *flight)
		want  [][2]int
	}{
		{"one small segment", []int{300}, nil, [][2]int{{0, 300}}},
		{"a small flight", []int{300, 2000, 10}, nil, [][2]int{{0, 300}, {300, 2300}, {2300, 2310}}},
		{"the rest of a small flight", []int{300, 2000}, func(f *flight) { f.acked(f.una+800, false, f.sent) }, [][2]int{{800, 2300}}},
		{"only a FIN", []int{300, -1}, func(f *flight) { f.acked(f.una+300, false, f.sent) }, [][2]int{{300, 300}}},
		{"how large segments begin", []int{9000, 9000, 9000, 9000, 9000, 500}, nil,
			[][2]int{{45000, 45500}, {36000, 37000}, {27000, 28000}, {18000, 19000}, {9000, 10000}}},
		{"what is behind the sender's probe", []int{9000, 9000, 9000, 9000, 9000}, nil,
			[][2]int{{39000, 40000}, {37000, 38000}, {27000, 28000}, {18000, 19000}, {9000, 10000}}},
		{"one large segment", []int{20500}, nil,
			[][2]int{{20000, 20500}, {18000, 19000}, {16000, 17000}, {14000, 15000}, {12000, 13000}}},
		{"every other of many packets", slices.Repeat([]int{1000}, 20), nil,
			[][2]int{{19000, 20000}, {17000, 18000}, {15000, 16000}, {13000, 14000}, {11000, 12000}}},
		{"the oldest too, the second time", []int{20500}, func(f *flight) { f.tries = 1 },
			[][2]int{{0, 1000}, {20000, 20500}, {18000, 19000}, {16000, 17000}, {14000, 15000}, {12000, 13000}}},
		{"a hole", []int{3000, 9000, 9000}, func(f *flight) { f.acked(f.una+2000, false, f.sent); f.hole = f.una + 1500 },
			[][2]int{{2000, 3000}, {3000, 3500}}},
		{"some of a large hole", []int{3000, 9000, 9000}, func(f *flight) { f.hole = f.una + 20000 },
			[][2]int{{0, 3000}, {3000, 8000}}},
		{"an acknowledgement where a closed window begins", []int{300, 400}, func(f *flight) { f.acked(300+f.una, false, f.sent); f.shut = true },
			[][2]int{{300, 300}, {300, 700}}},
		{"a byte of what a closed window has acknowledged", []int{300, 400}, func(f *flight) { f.acked(f.next, true, f.sent) },
			[][2]int{{699, 700}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFlight(seq, tt.sizes...)
			defer f.release()
			if tt.set != nil {
				tt.set(f)
			}
			if got := f.resent(seq); !slices.Equal(got, tt.want) {
				t.Errorf("sent again %v, want %v", got, tt.want)
			}
		})
	}
}

func TestHoleIsFilledWhileTheSenderIsWedged(t *testing.T) {
	f := newFlight(0, 60000, 60000)
	defer f.release()
	f.hole = 100000
	var ends []uint32
	for more := true; more; more = f.wedged() {
		f.resent(0)
		ends = append(ends, f.filled)
		f.acked(f.filled, false, f.sent)
		f.hole = 100000
	}
	if want := []uint32{8000, 24000, 56000, 100000}; !slices.Equal(ends, want) {
		t.Errorf("filled up to %v, want %v", ends, want)
	}
	f = newFlight(0, 60000, 60000)
	defer f.release()
	f.hole = 100000
	f.resent(0)
	for range 3 {
		f.add(segmentSent{seq: 0, size: 1000}) // the sender itself
	}
	f.acked(f.filled, false, f.sent)
	f.hole = 100000
	if f.wedged() {
		t.Error("a sender that sends is taken for wedged")
	}
}

// FuzzFlight sends and acknowledges at random. What is sent again must be
// unacknowledged, and everything given back.
func FuzzFlight(f *testing.F) {
	f.Add(uint32(0), uint64(1))
	f.Add(uint32(1<<32-1000), uint64(2))
	f.Add(uint32(1<<31-1000), uint64(3))
	f.Fuzz(func(t *testing.T, seq uint32, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 0))
		clock := faketime.NewManualClock()
		fl := newFlight(seq)
		var una, next int
		for range 200 {
			switch r.IntN(6) {
			case 0, 1, 2:
				n := 1 + r.IntN([]int{10, 1000, 65000}[r.IntN(3)])
				fl.addSize(n, clock.NowMonotonic())
				next += n
			case 3:
				ack := una + r.IntN(next-una+2) - r.IntN(2)
				fl.acked(seq+uint32(ack), false, clock.NowMonotonic())
				if ack <= next {
					una = max(una, ack)
				}
			case 4:
				fl.hole = seq + uint32(una+r.IntN(next-una+1))
			case 5:
				if fl.empty() {
					continue
				}
				packets := 0
				for _, p := range fl.resent(seq) {
					if p[0] < una || p[0] >= p[1] || p[1] > next {
						t.Fatalf("sent %v again, while %d to %d is in flight", p, una, next)
					}
					packets += (p[1] - p[0] + flightRoom - 1) / flightRoom
				}
				if packets == 0 || packets > 3*wholeFlight {
					t.Fatalf("sent %d packets again", packets)
				}
				fl.fill = 0
			}
			if got, want := [2]uint32{fl.una, fl.next}, [2]uint32{seq + uint32(una), seq + uint32(next)}; got != want {
				t.Fatalf("in flight: %d, want %d", got, want)
			}
			if fl.empty() != (una == next) {
				t.Fatalf("empty = %v with %d bytes in flight", fl.empty(), next-una)
			}
		}
		fl.release()
	})
}

func FuzzSACKOption(f *testing.F) {
	f.Add([]byte{1, 1, 8, 10, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 5, 18, 0, 0, 4, 0, 0, 0, 8, 0, 0, 0, 3, 0, 0, 0, 3, 1})
	f.Add([]byte{5, 1, 0, 0})
	f.Add([]byte{5, 40, 0, 0})
	f.Fuzz(func(t *testing.T, options []byte) {
		tcp := append(make([]byte, tcpHeaderLen), options...)
		tcp[12] = byte(min(len(tcp)/4, 15)) << 4
		if b := sackOption(tcp); b != nil && (b[0] != 5 || len(b) < 2 || len(b) != int(b[1])) {
			t.Errorf("option %x", b)
		}
		if start, ok := firstSACK(tcp); ok && !before(0, start) {
			t.Errorf("SACK from %d", start)
		}
	})
}

func TestFirstSACK(t *testing.T) {
	tcp := make([]byte, 60)
	tcp[12] = 15 << 4
	put32(tcp[8:], 1000)
	copy(tcp[20:], []byte{1, 1, 8, 10, 5, 26, 5, 26, 5, 26, 5, 26, 1, 1, 5, 26})
	for i, seq := range []uint32{500, 900, 5000, 6000, 3000, 4000} { // the first is a DSACK
		put32(tcp[36+4*i:], seq)
	}
	if start, ok := firstSACK(tcp); !ok || start != 3000 {
		t.Errorf("firstSACK = %d, %v, want 3000", start, ok)
	}
}

func TestFarSideThatSendsNoSACK(t *testing.T) {
	f := newFlight(0, 60000, 60000)
	defer f.release()
	if f.lacks(0, false, false, f.sent) {
		t.Error("a window update is taken for a sign of loss")
	}
	f.resent(0)
	for _, end := range []uint32{8000, 24000, 56000} {
		if !f.lacks(0, false, end > 8000, f.sent) {
			t.Fatalf("nothing to fill before %d", end)
		}
		if f.resent(0); f.filled != end {
			t.Fatalf("filled up to %d, want %d", f.filled, end)
		}
		f.acked(end, false, f.sent)
	}
	f.acked(90000, false, f.sent) // it had what follows
	if f.lacks(0, false, true, f.sent) {
		t.Error("filled what is not lacking")
	}
}
