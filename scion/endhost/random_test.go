package endhost

import (
	"crypto/sha256"
	"encoding/binary"
	"math/rand/v2"
	"slices"

	"github.com/scionproto/scion/pkg/proto/control_plane"
	cryptopb "github.com/scionproto/scion/pkg/proto/crypto"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/snapproxy/snapproxy/scion"
)

// chain makes a segment over ASes, its interfaces numbered from one on.
func chain(ias []scion.IA, id uint16, interfaces ...uint16) *segment {
	s := &segment{timestamp: 1800000000, id: id}
	for i, ia := range ias {
		e := asEntry{ia: ia, mtu: 1500, hop: hopField{expTime: 63, mac: [6]byte{byte(i), byte(id), 3}}}
		if i > 0 {
			e.hop.in = interfaces[2*i-1]
		}
		if i < len(ias)-1 {
			e.next, e.hop.out = ias[i+1], interfaces[2*i]
		}
		s.entries = append(s.entries, e)
	}
	s.hash = sha256.Sum256(s.appendHops(nil, false))
	return s
}

// randomCandidates makes segments as checked returns them, of a few ASes with
// few interfaces, so that many of them meet, loop, and are the same.
func randomCandidates(r *rand.Rand) (c candidates, dst scion.IA) {
	cores := []scion.IA{as("110"), as("120"), as("130"), as("140")}
	others := []scion.IA{as("111"), as("112"), as("113"), as("121"), as("122"), as("123")}
	c.src, dst = others[0], others[1+r.IntN(5)]
	switch r.IntN(8) {
	case 0:
		c.src = cores[0]
	case 1:
		dst = cores[1]
	}
	some := func(from []scion.IA, most int) []scion.IA {
		list := slices.Clone(from)
		r.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		return list[:r.IntN(most+1)]
	}
	segment := func(ias []scion.IA) *segment {
		interfaces := make([]uint16, 2*len(ias))
		for i := range interfaces {
			interfaces[i] = uint16(1 + r.IntN(2))
		}
		s := chain(ias, uint16(r.IntN(3)), interfaces...)
		s.timestamp += uint32(r.IntN(2) * 3600)
		for i := range s.entries {
			e := &s.entries[i]
			e.mtu = uint32(1400 + r.IntN(3)*50)
			e.ingressMTU = uint32(r.IntN(3) * 700)
			e.hop.expTime = []uint8{63, 63, 0, 255}[r.IntN(4)]
			binary.BigEndian.PutUint32(e.hop.mac[:], r.Uint32())
			for range r.IntN(3) {
				e.peers = append(e.peers, peerEntry{
					ia: others[r.IntN(len(others))], id: uint16(1 + r.IntN(2)), mtu: uint32(r.IntN(2) * 1300),
					hop: hopField{in: uint16(1 + r.IntN(2)), out: e.hop.out, expTime: uint8(62 + r.IntN(2)), mac: [6]byte{byte(r.Uint32())}},
				})
			}
			e.peers = usablePeers(e)
		}
		s.hash = sha256.Sum256(s.appendHops(nil, false))
		return s
	}
	without := func(list []scion.IA, ia scion.IA) []scion.IA {
		return slices.DeleteFunc(slices.Clone(list), func(other scion.IA) bool { return other == ia })
	}
	leaf := func(end scion.IA) []scion.IA { // from a core AS down to end
		head := cores[r.IntN(len(cores))]
		if head == end {
			head = cores[3]
		}
		return slices.Concat([]scion.IA{head}, some(without(others, end), 3), []scion.IA{end})
	}
	for range r.IntN(8) {
		c.ups = append(c.ups, segment(leaf(c.src)))
	}
	for range r.IntN(8) {
		c.downs = append(c.downs, segment(leaf(dst)))
	}
	for range r.IntN(8) {
		if ias := some(cores, 4); len(ias) > 1 {
			c.cores = append(c.cores, segment(ias))
		}
	}
	c.ups, c.cores, c.downs = newest(c.ups), newest(c.cores), newest(c.downs)
	return c, dst
}

// rawSegment makes an encoded segment with all extensions, most often with a
// fault.
func rawSegment(r *rand.Rand) *PathSegment {
	number := func() uint64 {
		return []uint64{0, 1, 2, 255, 256, 65535, 65536, 1<<31 - 1, 1 << 31, 1<<32 + 1, 1<<64 - 1}[r.IntN(11)]
	}
	rarely := func(odd, usual uint64) uint64 {
		if r.IntN(40) == 0 {
			return odd
		}
		return usual
	}
	text := func() string { return []string{"", "Zürich", "1.2.3.4:5", "[::1]:30252", "x"}[r.IntN(5)] }
	table := func() map[uint64]uint32 {
		return map[uint64]uint32{number(): uint32(number()), number(): uint32(number())}
	}
	ias := []scion.IA{as("110"), as("111"), as("112")}[:1+r.IntN(3)]
	p := &PathSegment{Info: spoil(r, marshal(&control_plane.SegmentInformation{
		Timestamp: int64(rarely(number(), 1800000000)), SegmentId: uint32(rarely(number(), 7)),
	}), 0)}
	for i, ia := range ias {
		hop := func(in, out uint64) *control_plane.HopField {
			return &control_plane.HopField{Ingress: rarely(number(), in), Egress: rarely(number(), out), ExpTime: uint32(rarely(number(), 63)), Mac: make([]byte, rarely(number()%9, 6))}
		}
		body := &control_plane.ASEntrySignedBody{IsdAs: rarely(number(), uint64(ia)), Mtu: uint32(rarely(number(), 1500))}
		var in, out uint64
		if i > 0 {
			in = 4
		}
		if i < len(ias)-1 {
			out, body.NextIsdAs = 5, rarely(0, uint64(ias[i+1]))
		}
		body.HopEntry = &control_plane.HopEntry{HopField: hop(in, out), IngressMtu: uint32(rarely(number(), 1450))}
		for range r.IntN(3) {
			body.PeerEntries = append(body.PeerEntries, &control_plane.PeerEntry{
				PeerIsdAs: rarely(number(), uint64(as("121"))), PeerInterface: rarely(number(), 8), PeerMtu: uint32(rarely(number(), 1400)), HopField: hop(9, out),
			})
		}
		if r.IntN(3) > 0 {
			body.Extensions = &control_plane.PathSegmentExtensions{
				StaticInfo: &control_plane.StaticInfoExtension{
					Latency:      &control_plane.LatencyInfo{Intra: table(), Inter: table()},
					Bandwidth:    &control_plane.BandwidthInfo{Intra: map[uint64]uint64{1: 2}, Inter: map[uint64]uint64{3: 4}},
					Geo:          map[uint64]*control_plane.GeoCoordinates{1: {Latitude: 1.5, Address: text()}, 2: {Address: text()}},
					LinkType:     map[uint64]control_plane.LinkType{1: 2, 3: 9},
					InternalHops: table(), Note: text(),
				},
				HiddenPath: &control_plane.HiddenPathExtension{IsHidden: true},
				Digests:    &control_plane.DigestExtension{Epic: &control_plane.DigestExtension_Digest{Digest: []byte("digest")}},
			}
			if r.IntN(3) == 0 {
				body.Extensions.Discovery = &control_plane.DiscoveryExtension{ControlServiceAddresses: []string{text(), "10.0.0.1:30252"}[:1+r.IntN(2)]}
				if r.IntN(2) == 0 {
					body.Extensions.Discovery.DiscoveryServiceAddresses = []string{text(), text()}
				}
			}
		}
		header := marshal(&cryptopb.Header{SignatureAlgorithm: 1, Timestamp: &timestamppb.Timestamp{Seconds: 1800000000}, VerificationKeyId: []byte("key")})
		signed := appendMessage(appendMessage(nil, 1, spoil(r, header, 2)), 2, spoil(r, marshal(body), 5))
		p.Entries = append(p.Entries, SignedEntry{spoil(r, signed, 0), []byte("signature")[:r.IntN(10)]})
	}
	return p
}

// spoil returns a message, one time in eight with a field more, repeated, cut,
// or with a byte changed; within its messages too, so many levels deep.
func spoil(r *rand.Rand, b []byte, levels int) []byte {
	var out []byte
	for rest := b; len(rest) > 0; {
		num, typ, n := protowire.ConsumeField(rest)
		if n < 0 {
			return b
		}
		f := rest[:n]
		if v, m := protowire.ConsumeBytes(f[protowire.SizeTag(num):]); levels > 0 && typ == protowire.BytesType && m > 0 {
			f = appendMessage(nil, num, spoil(r, v, levels-1))
		}
		switch r.IntN(300) {
		case 0: // twice
			out = append(out, f...)
		case 1: // missing
			f = nil
		case 2: // of another type
			f = protowire.AppendVarint(protowire.AppendTag(nil, num, protowire.VarintType), r.Uint64()>>r.IntN(64))
		case 3:
			f = protowire.AppendBytes(protowire.AppendTag(nil, num, protowire.BytesType), []byte("\xff\x01x")[:r.IntN(4)])
		case 4:
			f = protowire.AppendFixed32(protowire.AppendTag(nil, num, protowire.Fixed32Type), r.Uint32())
		case 5: // unknown, and numbers that cannot be
			out = protowire.AppendVarint(out, (1<<(3+r.IntN(32))|uint64(r.Uint32()))&^7)
			out = append(out, 1)
		case 6: // a group
			out = protowire.AppendTag(out, 77, protowire.StartGroupType)
			out = protowire.AppendTag(out, protowire.Number(77+r.IntN(8)/7), protowire.EndGroupType)
		}
		out, rest = append(out, f...), rest[n:]
	}
	if len(out) > 0 && r.IntN(100) == 0 {
		out[r.IntN(len(out))] ^= byte(1 << r.IntN(8))
	}
	if r.IntN(200) == 0 {
		out = out[:r.IntN(len(out)+1)]
	}
	return out
}
