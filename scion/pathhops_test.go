package scion

import (
	"bytes"
	"testing"
	"time"

	"github.com/scionproto/scion/pkg/slayers/path"
	slayerspath "github.com/scionproto/scion/pkg/slayers/path/scion"
)

// The examples have the interfaces 11>12 13>14 … in the order of travel.

type hop struct{ in, out uint16 } // as constructed

// pathOf is a path of segments: whether in construction direction, and hops in
// the order of travel.
func pathOf(peer bool, segments ...[]hop) *Path {
	d := &slayerspath.Decoded{}
	d.NumINF = len(segments)
	for i, s := range segments {
		d.NumHops += len(s)
		d.PathMeta.SegLen[i] = uint8(len(s))
		consDir := i == len(segments)-1 && len(segments) > 1
		d.InfoFields = append(d.InfoFields, path.InfoField{ConsDir: consDir, Peer: peer, SegID: uint16(i), Timestamp: uint32(1000 * i)})
		for _, h := range s {
			d.HopFields = append(d.HopFields, path.HopField{ConsIngress: h.in, ConsEgress: h.out, ExpTime: 63})
		}
	}
	raw := make([]byte, d.Len())
	if err := d.SerializeTo(raw); err != nil {
		panic(err)
	}
	return mustPath(raw)
}

var travelled = []struct {
	name   string
	path   *Path
	egress []uint16 // at each hop field
	ids    []uint16
}{
	{"up", pathOf(false, []hop{{11, 0}, {13, 12}, {0, 14}}), []uint16{11, 13, 0}, []uint16{11, 12, 13, 14}},
	{"up and down", pathOf(false, []hop{{11, 0}, {0, 12}}, []hop{{0, 13}, {14, 0}}), []uint16{11, 13, 13, 0}, []uint16{11, 12, 13, 14}},
	{"up, core and down", pathOf(false, []hop{{11, 0}, {0, 12}}, []hop{{13, 0}, {0, 14}}, []hop{{0, 15}, {16, 0}}),
		[]uint16{11, 13, 13, 15, 15, 0}, []uint16{11, 12, 13, 14, 15, 16}},
	{"shortcut", pathOf(false, []hop{{11, 0}, {99, 12}}, []hop{{98, 13}, {14, 0}}), []uint16{11, 13, 13, 0}, []uint16{11, 12, 13, 14}},
	{"peering", pathOf(true, []hop{{11, 0}, {13, 12}}, []hop{{14, 15}, {16, 0}}), []uint16{11, 13, 15, 0}, []uint16{11, 12, 13, 14, 15, 16}},
	{"from a core AS", pathOf(false, []hop{{99, 0}}, []hop{{0, 11}, {12, 0}}), []uint16{11, 11, 0}, []uint16{11, 12}},
}

func TestHopsAreInTheOrderOfTravel(t *testing.T) {
	for _, tt := range travelled {
		var ids [2 * maxHops]uint16
		if n := tt.path.crossed(&ids); !equalIDs(ids[:n], tt.ids) {
			t.Errorf("%s: crosses %v, want %v", tt.name, ids[:n], tt.ids)
		}
		back := bytes.Clone(appendReversedPath(nil, []byte(tt.path.raw)))
		if n := mustPath(back).crossed(&ids); n != len(tt.ids) {
			t.Errorf("%s: back over %v", tt.name, ids[:n])
		} else {
			for i, id := range ids[:n] {
				if id != tt.ids[n-1-i] {
					t.Errorf("%s: back over %v", tt.name, ids[:n])
				}
			}
		}
		for i, want := range tt.egress {
			raw := tt.path.Append(nil)
			m := mustParseMeta(raw)
			segment, _ := m.segment(i)
			raw[0] = byte(segment)<<6 | byte(i)
			if got := mustPath(raw).Egress(); got != want {
				t.Errorf("%s: egress at hop field %d is %d, want %d", tt.name, i, got, want)
			}
			b, err := AppendUDP(nil, Addr{IA: ia110, Host: v4a}, Addr{IA: ia211, Host: v6b, Path: mustPath(raw)}, nil)
			if err != nil {
				t.Fatal(err)
			}
			p, err := ParsePacket(b)
			if got, ok := p.Egress(); err != nil || got != want || ok != (want != 0) {
				t.Errorf("%s: egress of a packet at hop field %d is %d, %v, want %d", tt.name, i, got, ok, want)
			}
		}
	}
	var none *Path
	if none.Egress() != 0 || !none.Expiry().IsZero() || !none.SameHops(nil) || none.SameHops(travelled[0].path) || travelled[0].path.SameHops(none) {
		t.Error("the empty path has hops")
	}
	b, _ := AppendUDP(nil, Addr{IA: ia110, Host: v4a}, peerB, nil)
	p, _ := ParsePacket(b)
	if _, ok := p.Egress(); ok {
		t.Error("a packet on the empty path has an egress")
	}
	b[8] = byte(PathOneHop)
	if _, ok := p.Egress(); ok {
		t.Error("a packet on a one-hop path has an egress")
	}
}

func TestSameHops(t *testing.T) {
	up := travelled[0].path
	core := pathOf(false, []hop{{11, 0}, {0, 12}}, []hop{{0, 13}, {14, 0}})
	other := mustPath(changed(up.Append(nil), func(b []byte) {
		b[0] = 1                             // current hop field
		b[metaLen+3], b[metaLen+7] = 7, 7    // segment identifier, time
		b[len(b)-1], b[len(b)-hopLen] = 8, 3 // MAC, router alerts
		b[len(b)-hopLen+1] = 9               // expiry
	}))
	if !up.SameHops(other) || !other.SameHops(up) || !up.SameHops(core) || hopsKey(up) != hopsKey(other) {
		t.Error("the same hops are others")
	}
	for name, p := range map[string]*Path{
		"back":         up.Reverse(),
		"shorter":      pathOf(false, []hop{{11, 0}, {0, 12}}),
		"an interface": pathOf(false, []hop{{11, 0}, {13, 12}, {0, 15}}),
	} {
		if up.SameHops(p) || hopsKey(up) == hopsKey(p) {
			t.Errorf("%s: the same hops", name)
		}
	}
	if back := up.Reverse().Reverse(); !back.SameHops(up) {
		t.Error("there and back are other hops")
	}
}

func TestHashIsThatOfAPacketUnderWay(t *testing.T) {
	r := newRand(1)
	for _, shape := range shapes {
		a, b := randomPath(r, shape...), randomPath(r, shape...)
		to := Addr{IA: ia211, Host: v4b, Path: mustPath(a)}
		packet, err := AppendUDP(nil, Addr{IA: ia110, Host: v4a}, to, nil)
		if err != nil {
			t.Fatal(err)
		}
		p, _ := ParsePacket(underWay(packet))
		if p.hops() != to.Path.hash() || p.hops() == mustPath(b).hash() {
			t.Errorf("%v: hash of a packet under way", shape)
		}
		mac := mustPath(changed(bytes.Clone(a), func(b []byte) { b[len(b)-1]++ }))
		back := mustPath(a).Reverse()
		if mac.hash() == to.Path.hash() || back.hash() == to.Path.hash() {
			t.Errorf("%v: another path has the same hash", shape)
		}
	}
}

// FuzzPath holds what is said of a path against the reference.
func FuzzPath(f *testing.F) {
	r := newRand(1)
	for _, shape := range shapes {
		f.Add(randomPath(r, shape...))
	}
	for _, tt := range travelled {
		f.Add(tt.path.Append(nil))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		p, err := NewPath(raw)
		if err != nil {
			return
		}
		d := &slayerspath.Decoded{}
		if err := d.DecodeFromBytes(raw); err != nil {
			return // it is stricter about the current fields
		}
		var expiry time.Time
		hop := 0
		for i, info := range d.InfoFields {
			for range d.PathMeta.SegLen[i] {
				e := time.Unix(int64(info.Timestamp), 0).Add(path.ExpTimeToDuration(d.HopFields[hop].ExpTime))
				if expiry.IsZero() || e.Before(expiry) {
					expiry = e
				}
				hop++
			}
		}
		if got := p.Expiry(); !got.Equal(expiry) {
			t.Errorf("expires %v, want %v", got, expiry)
		}
		if d.PathMeta.CurrHF == uint8(d.NumHops-1) && p.Egress() != 0 {
			t.Errorf("egress %d at the end", p.Egress())
		}
		rev := p.Reverse()
		if !rev.Reverse().SameHops(p) || p.hash() != mustPath(underWayPath(raw)).hash() {
			t.Error("reversed twice it is another path")
		}
		var there, back [2 * maxHops]uint16
		n := p.crossed(&there)
		if rev.crossed(&back) != n {
			t.Fatal("there and back are not as long")
		}
		for i := range n {
			if there[i] != back[n-1-i] {
				t.Fatalf("there %v, back %v", there[:n], back[:n])
			}
		}
		// The reference's way of finding the egress, hop field by hop field.
		for {
			info := d.InfoFields[d.PathMeta.CurrINF]
			crosses := d.IsXover() && !info.Peer
			at := *d
			if crosses {
				if err := at.IncPath(); err != nil {
					break
				}
			}
			h := at.HopFields[at.PathMeta.CurrHF]
			want := h.ConsEgress
			if !at.InfoFields[at.PathMeta.CurrINF].ConsDir {
				want = h.ConsIngress
			}
			if int(at.PathMeta.CurrHF) == at.NumHops-1 {
				want = 0
			}
			b := make([]byte, d.Len())
			if err := d.SerializeTo(b); err != nil {
				break
			}
			q, err := NewPath(b)
			if err != nil {
				break
			}
			segment, _ := mustParseMeta(b).segment(int(d.PathMeta.CurrHF))
			if got := q.Egress(); got != want && segment == int(d.PathMeta.CurrINF) {
				t.Fatalf("egress at hop field %d is %d, want %d", d.PathMeta.CurrHF, got, want)
			}
			if d.IncPath() != nil {
				break
			}
		}
	})
}

func underWayPath(raw []byte) []byte {
	b := bytes.Clone(raw)
	m := mustParseMeta(b)
	b[0], b[1] = byte(m.segments-1)<<6|byte(m.hops-1), b[1]&3
	for i := range m.segments {
		m.info(b, i)[2] ^= 0xa5
	}
	return b
}

func equalIDs(a, b []uint16) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}
