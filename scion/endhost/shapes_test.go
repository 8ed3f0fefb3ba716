package endhost

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/scionproto/scion/pkg/proto/control_plane"
	cryptopb "github.com/scionproto/scion/pkg/proto/crypto"
	"google.golang.org/protobuf/proto"

	"github.com/snapproxy/snapproxy/scion"
)

// drawn reads what a fuzzer has drawn, and zeros when there is no more of it.
type drawn struct{ b []byte }

func (d *drawn) next(n int) int {
	if len(d.b) == 0 {
		return 0
	}
	v := int(d.b[0]) % n
	d.b = d.b[1:]
	return v
}

// segment draws a segment of a few ASes, mostly chained as it should be.
func (d *drawn) segment(now time.Time) *PathSegment {
	ias := []scion.IA{as("111"), as("121"), as("110"), as("120"), as("112"), as("122"), as("210"), 0}
	interfaces := []uint64{1, 2, 3, 0, 65535, 65536}
	mtus := []uint32{1472, 1500, 9000, 0, 1 << 16, 1 << 31}
	info, _ := proto.Marshal(&control_plane.SegmentInformation{
		Timestamp: now.Unix() - int64(d.next(4))*3600,
		SegmentId: uint32(d.next(2)),
	})
	s := &PathSegment{Info: info}
	count := 1 + d.next(6)
	local := ias[d.next(len(ias))]
	var in uint64
	for i := range count {
		next, out := scion.IA(0), uint64(0)
		if i < count-1 || d.next(16) == 15 {
			next, out = ias[d.next(len(ias))], interfaces[d.next(len(interfaces))]
		}
		field := &control_plane.HopField{
			Ingress: in, Egress: out, ExpTime: uint32(63 + d.next(2)*d.next(256)), Mac: make([]byte, 6+d.next(16)/15),
		}
		body := &control_plane.ASEntrySignedBody{
			IsdAs: uint64(local), NextIsdAs: uint64(next), Mtu: mtus[d.next(len(mtus))],
			HopEntry: &control_plane.HopEntry{HopField: field, IngressMtu: mtus[d.next(len(mtus))]},
		}
		for range d.next(3) {
			body.PeerEntries = append(body.PeerEntries, &control_plane.PeerEntry{
				PeerIsdAs: uint64(ias[d.next(len(ias))]), PeerInterface: interfaces[d.next(len(interfaces))],
				PeerMtu:  mtus[d.next(len(mtus))],
				HopField: &control_plane.HopField{Ingress: interfaces[d.next(len(interfaces))], Egress: out, ExpTime: 63, Mac: make([]byte, 6)},
			})
		}
		raw, _ := proto.Marshal(body)
		signed, _ := proto.Marshal(&cryptopb.HeaderAndBody{Body: raw})
		s.Entries = append(s.Entries, SignedEntry{HeaderAndBody: signed})
		local, in = next, interfaces[d.next(3)]
	}
	return s
}

// FuzzCombineShapes draws segments instead of bytes, so that most of them are
// combined.
func FuzzCombineShapes(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		b := make([]byte, 200)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		f.Add(b)
	}
	now := time.Unix(1800000000, 0)
	f.Fuzz(func(t *testing.T, b []byte) {
		d := drawn{b}
		var s Segments
		for range 12 {
			segment := d.segment(now)
			switch d.next(3) {
			case 0:
				s.Up = append(s.Up, segment)
			case 1:
				s.Core = append(s.Core, segment)
			case 2:
				s.Down = append(s.Down, segment)
			}
		}
		checkCombined(t, s, now)
	})
}

// checkCombined combines segments from 111 to 121 and holds what must be true
// whatever they are.
func checkCombined(t *testing.T, s Segments, now time.Time) {
	routes, _, err := combine(as("111"), as("121"), s, now)
	if (err == nil) != (len(routes) > 0) {
		t.Fatalf("%d routes, %v", len(routes), err)
	}
	compareJoined(t, checked(as("111"), as("121"), s, now).within(maxWork), as("121"))
	for _, list := range []segmentList{s.Up, s.Core, s.Down} {
		for _, p := range list {
			compareDecoded(t, p)
		}
	}
	for _, r := range routes {
		if r.Src != as("111") || r.Dst != as("121") || !r.Expiry.After(now) || r.MTU <= 0 || r.Path == nil {
			t.Errorf("route %+v", r)
		}
		if err := checkHops(r); err != nil {
			t.Error(err)
		}
	}
}
