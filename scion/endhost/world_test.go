package endhost

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/scionproto/scion/pkg/addr"
	cryptopb "github.com/scionproto/scion/pkg/proto/crypto"
	"github.com/scionproto/scion/pkg/scrypto/signed"
	seg "github.com/scionproto/scion/pkg/segment"
	"github.com/scionproto/scion/pkg/segment/extensions/staticinfo"
	"github.com/scionproto/scion/pkg/segment/iface"
	"github.com/scionproto/scion/pkg/slayers/path"
	spath "github.com/scionproto/scion/pkg/slayers/path/scion"
	"go.uber.org/goleak"

	"github.com/snapproxy/snapproxy/scion"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A world makes segments as the control services of its ASes would: signed,
// and with hop fields that routers accept.
type world struct {
	made    time.Time // timestamp of the segments
	expTime uint8
	latency bool // announce latencies
	peers   map[scion.IA][]seg.PeerEntry
	signer  *ecdsa.PrivateKey
	id      uint16
}

// hopMTU is what the first AS of every segment announces; the others announce
// a byte less each.
const hopMTU = 1500

func newWorld(t testing.TB) *world {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &world{made: time.Now().Truncate(time.Second), expTime: 63, peers: map[scion.IA][]seg.PeerEntry{}, signer: key}
}

// as returns the AS of a short name: 111 is 1-ff00:0:111.
func as(short string) scion.IA {
	ia, err := scion.ParseIA(short[:1] + "-ff00:0:" + short)
	if err != nil {
		panic(err)
	}
	return ia
}

// link makes a peering link.
func (w *world) link(a string, aID uint16, b string, bID uint16) {
	add := func(local, remote scion.IA, in, out uint16) {
		w.peers[local] = append(w.peers[local], seg.PeerEntry{
			Peer: addr.IA(remote), PeerInterface: out, PeerMTU: 1400,
			HopField: seg.HopField{ConsIngress: in},
		})
	}
	add(as(a), as(b), aID, bID)
	add(as(b), as(a), bID, aID)
}

// segment makes a segment like "110 1>2 111 3>4 112", from its core AS on.
func (w *world) segment(t testing.TB, text string) *PathSegment {
	t.Helper()
	words := strings.Fields(text)
	w.id += 4099
	s, err := seg.CreateSegment(w.made, w.id)
	if err != nil {
		t.Fatal(err)
	}
	beta, in := w.id, uint16(0)
	for i := 0; i < len(words); i += 2 {
		local := as(words[i])
		var out, nextIn uint16
		var next scion.IA
		if i+2 < len(words) {
			a, b, _ := strings.Cut(words[i+1], ">")
			out, nextIn, next = number(t, a), number(t, b), as(words[i+2])
		}
		e := seg.ASEntry{Local: addr.IA(local), Next: addr.IA(next), MTU: hopMTU - i/2}
		e.HopEntry.IngressMTU = 1450
		e.HopEntry.HopField = w.hop(local, beta, in, out)
		mac := e.HopEntry.HopField.MAC
		for _, p := range w.peers[local] {
			p.HopField = w.hop(local, beta^binary.BigEndian.Uint16(mac[:]), p.HopField.ConsIngress, out)
			e.PeerEntries = append(e.PeerEntries, p)
		}
		if w.latency {
			e.Extensions.StaticInfo = &staticinfo.Extension{Latency: w.latencies(in, out, e.PeerEntries)}
		}
		if err := s.AddASEntry(context.Background(), e, w); err != nil {
			t.Fatal(err)
		}
		beta ^= binary.BigEndian.Uint16(mac[:])
		in = nextIn
	}
	return ofTheirs(seg.PathSegmentToPB(s))
}

// latencies announces a millisecond across an AS and ten across a link.
func (w *world) latencies(in, out uint16, peers []seg.PeerEntry) staticinfo.LatencyInfo {
	l := staticinfo.LatencyInfo{
		Intra: map[iface.ID]time.Duration{iface.ID(in): time.Millisecond},
		Inter: map[iface.ID]time.Duration{iface.ID(out): 10 * time.Millisecond},
	}
	for _, p := range peers {
		id := iface.ID(p.HopField.ConsIngress)
		l.Intra[id], l.Inter[id] = time.Millisecond, 10*time.Millisecond
	}
	return l
}

func number(t testing.TB, s string) uint16 {
	v, err := strconv.ParseUint(s, 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	return uint16(v)
}

// hop returns a hop field of an AS.
func (w *world) hop(ia scion.IA, beta, in, out uint16) seg.HopField {
	hop := path.HopField{ExpTime: w.expTime, ConsIngress: in, ConsEgress: out}
	return seg.HopField{
		ExpTime: w.expTime, ConsIngress: in, ConsEgress: out,
		MAC: macOf(ia, path.InfoField{SegID: beta, Timestamp: uint32(w.made.Unix())}, hop),
	}
}

// macOf is the MAC of a hop field, of another hash than AES-CMAC: each AS has
// its own, and nobody else looks.
func macOf(ia scion.IA, info path.InfoField, hop path.HopField) [path.MacLen]byte {
	return path.MAC(hmac.New(sha256.New, []byte(ia.String())), info, hop, nil)
}

// Sign makes world a segment.Signer.
func (w *world) Sign(_ context.Context, msg []byte, associated ...[]byte) (*cryptopb.SignedMessage, error) {
	n := 0
	for _, a := range associated {
		n += len(a)
	}
	header := signed.Header{SignatureAlgorithm: signed.ECDSAWithSHA256, Timestamp: w.made, AssociatedDataLength: n}
	return signed.Sign(header, msg, w.signer, associated...)
}

// segments makes a list of segments.
func (w *world) segments(t testing.TB, texts ...string) segmentList {
	t.Helper()
	var list segmentList
	for _, text := range texts {
		list = append(list, w.segment(t, text))
	}
	return list
}

// travel takes a packet over a route as the routers would, each checking the
// hop fields of its AS, and returns what went wrong.
func travel(r *scion.Route) error {
	var p spath.Decoded
	if err := p.DecodeFromBytes(r.Path.Append(nil)); err != nil {
		return err
	}
	peering := p.InfoFields[0].Peer
	ias := []scion.IA{r.Src}
	for i := 1; i < len(r.Interfaces); i += 2 {
		ias = append(ias, r.Interfaces[i].IA)
	}
	var crossed []scion.Interface
	at, k := 0, 0
	for s, info := range p.InfoFields {
		length := int(p.PathMeta.SegLen[s])
		for i := range length {
			hop := p.HopFields[k]
			isPeer := peering && (s == 0 && i == length-1 || s == 1 && i == 0)
			if i > 0 || s > 0 && peering {
				at++
			}
			if at >= len(ias) {
				return fmt.Errorf("hop field %d is beyond the destination", k)
			}
			if !info.ConsDir && i > 0 && !isPeer {
				info.UpdateSegID(hop.Mac)
			}
			if macOf(ias[at], info, hop) != hop.Mac {
				return fmt.Errorf("%s refuses hop field %d", ias[at], k)
			}
			in, out := hop.ConsIngress, hop.ConsEgress
			if !info.ConsDir {
				in, out = out, in
			}
			if i > 0 || s > 0 && peering {
				crossed = append(crossed, scion.Interface{IA: ias[at], ID: in})
			}
			if i < length-1 || s < p.NumINF-1 && peering {
				crossed = append(crossed, scion.Interface{IA: ias[at], ID: out})
			}
			if info.ConsDir && i < length-1 && !isPeer {
				info.UpdateSegID(hop.Mac)
			}
			k++
		}
	}
	if fmt.Sprint(crossed) != fmt.Sprint(r.Interfaces) {
		return fmt.Errorf("the path crosses %v, the route says %v", crossed, r.Interfaces)
	}
	return nil
}

// shorten writes a route with short names.
func shorten(r *scion.Route) string {
	return strings.NewReplacer("1-ff00:0:", "", "2-ff00:0:", "").Replace(r.String())
}
