package scion

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/scionproto/scion/pkg/addr"
	"github.com/scionproto/scion/pkg/slayers"
	"github.com/scionproto/scion/pkg/slayers/path"
	"github.com/scionproto/scion/pkg/slayers/path/empty"
	slayerspath "github.com/scionproto/scion/pkg/slayers/path/scion"
)

// What follows is the reference implementation, as the tests ask it.

var (
	ia110 = mustIA("1-ff00:0:110")
	ia211 = mustIA("2-ff00:0:211")

	v4a = netip.MustParseAddr("192.0.2.1")
	v4b = netip.MustParseAddr("192.0.2.2")
	v6a = netip.MustParseAddr("2001:db8::1")
	v6b = netip.MustParseAddr("2001:db8::2")
)

func mustIA(s string) IA {
	ia, err := ParseIA(s)
	if err != nil {
		panic(err)
	}
	return ia
}

// randomPath is a valid path of type SCION whose current fields are anywhere.
func randomPath(r *rand.Rand, segments ...int) []byte {
	d := &slayerspath.Decoded{}
	for i, n := range segments {
		d.PathMeta.SegLen[i] = uint8(n)
		d.NumHops += n
		d.InfoFields = append(d.InfoFields, path.InfoField{
			Peer: r.IntN(2) == 0, ConsDir: r.IntN(2) == 0,
			SegID: uint16(r.Uint32()), Timestamp: r.Uint32(),
		})
		for range n {
			h := path.HopField{
				IngressRouterAlert: r.IntN(2) == 0, EgressRouterAlert: r.IntN(2) == 0,
				ExpTime: uint8(r.Uint32()), ConsIngress: uint16(r.Uint32()), ConsEgress: uint16(r.Uint32()),
			}
			for j := range h.Mac {
				h.Mac[j] = byte(r.Uint32())
			}
			d.HopFields = append(d.HopFields, h)
		}
	}
	d.NumINF = len(segments)
	d.PathMeta.CurrINF = uint8(r.IntN(d.NumINF))
	d.PathMeta.CurrHF = uint8(r.IntN(d.NumHops))
	b := make([]byte, d.Len())
	if err := d.SerializeTo(b); err != nil {
		panic(err)
	}
	return b
}

// shapes are segment lengths of paths, from the shortest to the longest.
var shapes = [][]int{{2}, {1}, {63}, {2, 3}, {1, 1}, {32, 32}, {2, 2, 2}, {1, 63}, {3, 3, 3}, {20, 21, 23}, {1, 1, 62}}

func mustPath(raw []byte) *Path {
	p, err := NewPath(raw)
	if err != nil {
		panic(err)
	}
	return p
}

// theirHeader is the reference's header from one address to another.
func theirHeader(t testing.TB, from, to Addr, next slayers.L4ProtocolType) *slayers.SCION {
	t.Helper()
	s := &slayers.SCION{
		NextHdr: next,
		DstIA:   addr.IA(to.IA), SrcIA: addr.IA(from.IA),
		PathType: empty.PathType, Path: empty.Path{},
	}
	if err := s.SetDstAddr(addr.HostIP(to.Host)); err != nil {
		t.Fatal(err)
	}
	if err := s.SetSrcAddr(addr.HostIP(from.Host)); err != nil {
		t.Fatal(err)
	}
	if to.Path != nil {
		raw := &slayerspath.Raw{}
		if err := raw.DecodeFromBytes(to.Path.Append(nil)); err != nil {
			t.Fatal(err)
		}
		s.PathType, s.Path = slayerspath.PathType, raw
	}
	return s
}

// serialize lets the reference put layers into a packet, with lengths and
// checksums of its own.
func serialize(t testing.TB, layers ...gopacket.SerializableLayer) []byte {
	t.Helper()
	buf := gopacket.NewSerializeBuffer()
	opts := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
	if err := gopacket.SerializeLayers(buf, opts, layers...); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// theirUDP is a UDP datagram as the reference makes it, but for a checksum of
// zero, which it sends as it is.
func theirUDP(t testing.TB, from, to Addr, payload []byte) []byte {
	t.Helper()
	b := theirUDPUnchanged(t, from, to, payload)
	if sum := b[len(b)-len(payload)-2:][:2]; sum[0] == 0 && sum[1] == 0 {
		sum[0], sum[1] = 0xff, 0xff
	}
	return b
}

func theirUDPUnchanged(t testing.TB, from, to Addr, payload []byte) []byte {
	t.Helper()
	s := theirHeader(t, from, to, slayers.L4UDP)
	u := &slayers.UDP{SrcPort: from.Port, DstPort: to.Port}
	u.SetNetworkLayerForChecksum(s)
	return serialize(t, s, u, gopacket.Payload(payload))
}

// theirSCMP is an SCMP message as the reference makes it.
func theirSCMP(t testing.TB, from, to Addr, typ slayers.SCMPType, code slayers.SCMPCode, rest ...gopacket.SerializableLayer) []byte {
	t.Helper()
	s := theirHeader(t, from, to, slayers.L4SCMP)
	m := &slayers.SCMP{TypeCode: slayers.CreateSCMPTypeCode(typ, code)}
	m.SetNetworkLayerForChecksum(s)
	return serialize(t, append([]gopacket.SerializableLayer{s, m}, rest...)...)
}

// decode lets the reference read a packet, all of its layers.
func decode(t testing.TB, b []byte) gopacket.Packet {
	t.Helper()
	p := gopacket.NewPacket(b, slayers.LayerTypeSCION, gopacket.Default)
	if e := p.ErrorLayer(); e != nil {
		t.Fatalf("reference refuses the packet: %v", e.Error())
	}
	return p
}

func theirLayer[T gopacket.Layer](t testing.TB, p gopacket.Packet) T {
	t.Helper()
	for _, l := range p.Layers() {
		if l, ok := l.(T); ok {
			return l
		}
	}
	var zero T
	t.Fatalf("no layer %T in %v", zero, p)
	return zero
}

func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0)) }

func randomBytes(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}
