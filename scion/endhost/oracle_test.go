package endhost

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/scionproto/scion/pkg/addr"
	"github.com/scionproto/scion/pkg/proto/control_plane"
	cryptopb "github.com/scionproto/scion/pkg/proto/crypto"
	seg "github.com/scionproto/scion/pkg/segment"
	"github.com/scionproto/scion/private/path/combinator"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/snapproxy/snapproxy/scion"
)

// theirs is a segment in the reference's own type.
func theirs(p *PathSegment) *control_plane.PathSegment {
	pb := &control_plane.PathSegment{SegmentInfo: p.Info}
	for _, e := range p.Entries {
		pb.AsEntries = append(pb.AsEntries, &control_plane.ASEntry{
			Signed: &cryptopb.SignedMessage{HeaderAndBody: e.HeaderAndBody, Signature: e.Signature},
		})
	}
	return pb
}

func ofTheirs(pb *control_plane.PathSegment) *PathSegment {
	p := &PathSegment{Info: pb.SegmentInfo}
	for _, e := range pb.AsEntries {
		p.Entries = append(p.Entries, SignedEntry{e.Signed.HeaderAndBody, e.Signed.Signature})
	}
	return p
}

// theirDecode is the reference's decoder, and what we ask for above it.
func theirDecode(p *PathSegment) (*segment, error) {
	s, err := seg.SegmentFromPB(theirs(p))
	if err != nil {
		return nil, err
	}
	made := s.Info.Timestamp.Unix()
	if made < 0 || made > math.MaxUint32 {
		return nil, errTimestamp
	}
	d := &segment{timestamp: uint32(made), id: s.Info.SegmentID, entries: make([]asEntry, len(s.ASEntries))}
	for i, e := range s.ASEntries {
		ours := asEntry{
			ia: scion.IA(e.Local), next: scion.IA(e.Next), mtu: uint32(e.MTU), ingressMTU: uint32(e.HopEntry.IngressMTU),
			hop: ofTheirHop(e.HopEntry.HopField),
		}
		if e.HopEntry.IngressMTU > math.MaxUint16 {
			return nil, errMTU
		}
		for _, p := range e.PeerEntries {
			if p.PeerMTU > math.MaxUint16 {
				return nil, errMTU
			}
			ours.peers = append(ours.peers, peerEntry{ia: scion.IA(p.Peer), id: p.PeerInterface, mtu: uint32(p.PeerMTU), hop: ofTheirHop(p.HopField)})
		}
		if x := e.Extensions.StaticInfo; x != nil && len(x.Latency.Intra) > 0 {
			ours.latency.intra = map[uint64]uint32{}
			for id, v := range x.Latency.Intra {
				ours.latency.intra[uint64(id)] = uint32(v / time.Microsecond)
			}
		}
		if x := e.Extensions.StaticInfo; x != nil && len(x.Latency.Inter) > 0 {
			ours.latency.inter = map[uint64]uint32{}
			for id, v := range x.Latency.Inter {
				ours.latency.inter[uint64(id)] = uint32(v / time.Microsecond)
			}
		}
		d.entries[i] = ours
	}
	return d, nil
}

func ofTheirHop(h seg.HopField) hopField {
	return hopField{in: h.ConsIngress, out: h.ConsEgress, expTime: h.ExpTime, mac: h.MAC}
}

// compareDecoded holds the decoder against the reference.
func compareDecoded(t testing.TB, p *PathSegment) (ok bool) {
	t.Helper()
	want, wantErr := theirDecode(p)
	got, err := decode(p)
	if (err == nil) != (wantErr == nil) {
		t.Fatalf("%x: %v, the reference says %v", p, err, wantErr)
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("%x:\ngot  %+v\nwant %+v", p, got, want)
	}
	return err == nil
}

// theirJoin lets the reference combine candidates.
func theirJoin(c candidates, dst scion.IA) (paths []joined, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("it panics: %v", r)
		}
	}()
	list := func(ours []*segment) (list []*seg.PathSegment) {
		for _, s := range ours {
			list = append(list, theirSegment(s))
		}
		return list
	}
	for _, p := range combinator.Combine(addr.IA(c.src), addr.IA(dst), list(c.ups), list(c.cores), list(c.downs), false) {
		j := joined{raw: p.SCIONPath.Raw, mtu: p.Metadata.MTU, expiry: p.Metadata.Expiry}
		for _, i := range p.Metadata.Interfaces {
			j.interfaces = append(j.interfaces, scion.Interface{IA: scion.IA(i.IA), ID: uint16(i.ID)})
		}
		paths = append(paths, j)
	}
	return paths, nil
}

func theirSegment(s *segment) *seg.PathSegment {
	hop := func(h hopField) seg.HopField {
		return seg.HopField{ExpTime: h.expTime, ConsIngress: h.in, ConsEgress: h.out, MAC: h.mac}
	}
	p := &seg.PathSegment{Info: seg.Info{Timestamp: time.Unix(int64(s.timestamp), 0), SegmentID: s.id}}
	for _, e := range s.entries {
		entry := seg.ASEntry{Local: addr.IA(e.ia), Next: addr.IA(e.next), MTU: int(e.mtu)}
		entry.HopEntry = seg.HopEntry{HopField: hop(e.hop), IngressMTU: int(e.ingressMTU)}
		for _, p := range e.peers {
			entry.PeerEntries = append(entry.PeerEntries, seg.PeerEntry{HopField: hop(p.hop), Peer: addr.IA(p.ia), PeerInterface: p.id, PeerMTU: int(p.mtu)})
		}
		p.ASEntries = append(p.ASEntries, entry)
	}
	return p
}

// compareJoined holds the paths of candidates against the reference: the same,
// byte by byte and in the same order. Of segments with the very same hops, which
// differ in their peers, the reference takes one or the other as chance has it;
// then only where the paths lead and how long they live is compared.
func compareJoined(t testing.TB, c candidates, dst scion.IA) (paths int, exact bool) {
	t.Helper()
	want, err := theirJoin(c, dst)
	if err != nil {
		t.Fatal(err)
	}
	got := join(c.ways(dst))
	hashes := map[[sha256.Size]byte]bool{}
	all := slices.Concat(c.ups, c.cores, c.downs)
	for _, s := range all {
		hashes[s.hash] = true
	}
	if exact = len(hashes) == len(all); !exact {
		for _, list := range [][]joined{got, want} {
			for i := range list {
				list[i].raw, list[i].mtu = nil, 0
			}
			slices.SortFunc(list, func(a, b joined) int {
				return cmp.Compare(fmt.Sprint(a.interfaces), fmt.Sprint(b.interfaces))
			})
		}
	}
	same := func(a, b joined) bool {
		return bytes.Equal(a.raw, b.raw) && a.mtu == b.mtu && a.expiry.Equal(b.expiry) && slices.Equal(a.interfaces, b.interfaces)
	}
	if !slices.EqualFunc(got, want, same) {
		t.Fatalf("got %d paths: %v\nwant %d: %v", len(got), got, len(want), want)
	}
	return len(got), exact
}

func TestDecodeAgreesWithTheReference(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	count := [2]int{}
	for range 8000 {
		p := rawSegment(r)
		if compareDecoded(t, p) {
			count[0]++
		}
		if again := p.append(nil); !bytes.Equal(again, marshal(theirs(p))) {
			t.Fatalf("encoded %x", again)
		}
		count[1]++
	}
	if count[0] < count[1]/10 || count[0] > count[1]*9/10 {
		t.Errorf("%d of %d segments are good", count[0], count[1])
	}
	within := func(b []byte, nums ...protowire.Number) []byte {
		for _, n := range slices.Backward(nums) {
			b = appendMessage(nil, n, b)
		}
		return b
	}
	hop := appendMessage(nil, 3, appendMessage(nil, 1, appendMessage(nil, 4, make([]byte, 6))))
	for _, b := range [][]byte{
		nil,
		within([]byte("\xff"), 6, 1, 6),       // a note
		within([]byte("\xff"), 6, 1, 3, 2, 3), // an address of a place
		slices.Concat(within([]byte("\xff"), 6, 3, 2), within([]byte("1.2.3.4:5"), 6, 3, 2)),
		slices.Concat(within([]byte("\xff"), 6, 3, 3), within([]byte("1.2.3.4:5"), 6, 3, 3)),
		slices.Concat(within([]byte("no"), 6, 3, 2), within([]byte("1.2.3.4:5"), 6, 3, 2)),
		slices.Concat(within([]byte("no"), 6, 3, 2), within([]byte("1.2.3.4:5"), 6, 3, 3)),
		within(nil, 6, 3, 2),
		within([]byte("\xff"), 6, 1, 1, 1), within([]byte("\xff"), 6, 1, 2, 2), within([]byte("\xff"), 6, 1, 4), within([]byte("\xff"), 6, 1, 5),
		within([]byte("\xff"), 6, 2), within([]byte("\xff"), 6, 1000), within([]byte("\xff"), 6, 1000, 1000), within([]byte("\xff"), 6, 1000, 1000, 1),
	} {
		body := slices.Concat(appendNumber(nil, 1, uint64(as("110"))), hop, b)
		compareDecoded(t, &PathSegment{Entries: []SignedEntry{{HeaderAndBody: within(body, 2)}}})
		compareDecoded(t, &PathSegment{Entries: []SignedEntry{{HeaderAndBody: slices.Concat(within(body, 2), within([]byte("\xff"), 1))}}})
		compareDecoded(t, &PathSegment{Entries: []SignedEntry{{HeaderAndBody: slices.Concat(within(body, 2), within([]byte("\xff"), 1, 3))}}})
	}
	compareDecoded(t, &PathSegment{})
	compareDecoded(t, &PathSegment{Entries: make([]SignedEntry, 2)})
}

func FuzzDecode(f *testing.F) {
	r := rand.New(rand.NewPCG(5, 6))
	for range 20 {
		p := rawSegment(r)
		f.Add(p.Info, p.Entries[0].HeaderAndBody, p.Entries[len(p.Entries)-1].HeaderAndBody)
	}
	f.Fuzz(func(t *testing.T, info, first, second []byte) {
		compareDecoded(t, &PathSegment{Info: info, Entries: []SignedEntry{{HeaderAndBody: first}, {HeaderAndBody: second}}})
		compareDecoded(t, &PathSegment{Info: info, Entries: []SignedEntry{{HeaderAndBody: first}}})
	})
}

func TestJoinAgreesWithTheReference(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	paths, exact := 0, 0
	for range 3000 {
		c, dst := randomCandidates(r)
		n, same := compareJoined(t, c, dst)
		paths += n
		if same {
			exact++
		}
	}
	if paths < 10000 || exact < 1000 || exact > 2950 {
		t.Errorf("%d paths, %d of 3000 compared exactly", paths, exact)
	}
}

func FuzzJoin(f *testing.F) {
	f.Add(uint64(1), uint64(2))
	f.Fuzz(func(t *testing.T, a, b uint64) {
		c, dst := randomCandidates(rand.New(rand.NewPCG(a, b)))
		compareJoined(t, c, dst)
	})
}

// The combinator takes the last of several entries of a link.
func TestUsablePeersTakesTheLastWord(t *testing.T) {
	link := func(mtu uint32, id uint16) peerEntry {
		return peerEntry{ia: as("121"), id: id, mtu: mtu, hop: hopField{in: 100, mac: [6]byte{byte(mtu)}}}
	}
	up := chain([]scion.IA{as("110"), as("111")}, 7, 1, 2)
	down := chain([]scion.IA{as("120"), as("121")}, 8, 1, 2)
	down.entries[1].peers = []peerEntry{{ia: as("111"), id: 100, mtu: 1500, hop: hopField{in: 101}}}
	up.entries[1].peers = []peerEntry{link(1300, 101), link(1400, 102), link(1200, 101)}
	c := candidates{src: as("111"), ups: []*segment{up}, downs: []*segment{down}}
	want, err := theirJoin(c, as("121"))
	if err != nil || len(want) != 1 || want[0].mtu != 1200 {
		t.Fatal(want, err)
	}
	up.entries[1].peers = usablePeers(&up.entries[1])
	if n := len(up.entries[1].peers); n != 2 {
		t.Errorf("%d peers", n)
	}
	compareJoined(t, c, as("121"))
	if got := join(c.ways(as("121"))); !bytes.Equal(got[0].raw, want[0].raw) || got[0].mtu != 1200 {
		t.Errorf("got %v, want %v", got, want)
	}
}

func marshal(m proto.Message) []byte {
	b, err := proto.Marshal(m)
	if err != nil {
		panic(errors.Join(errors.New("the test makes no such message"), err))
	}
	return b
}
