package scion

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/scionproto/scion/pkg/slayers"
	slayerspath "github.com/scionproto/scion/pkg/slayers/path/scion"
)

type pair struct {
	name     string
	from, to Addr
}

// pairs are addresses of both families on every shape of path.
func pairs() []pair {
	r := newRand(7)
	var all []pair
	for _, shape := range append([][]int{nil}, shapes...) {
		for _, hosts := range [][2]netip.Addr{{v4a, v4b}, {v6a, v6b}, {v4a, v6b}, {v6a, v4b}} {
			from := Addr{IA: ia110, Host: hosts[0], Port: 4001}
			to := Addr{IA: ia110, Host: hosts[1], Port: 4002}
			if shape != nil {
				to.IA, to.Path = ia211, mustPath(randomPath(r, shape...))
			}
			all = append(all, pair{fmt.Sprintf("%v %s", shape, hosts), from, to})
		}
	}
	return all
}

func TestUDPIsTheReferences(t *testing.T) {
	r := newRand(3)
	for _, pair := range pairs() {
		name, from, to := pair.name, pair.from, pair.to
		for _, n := range []int{0, 1, 2, 7, 8, 9, 1200, 1201} {
			payload := randomBytes(r, n)
			want := theirUDP(t, from, to, payload)
			got, err := AppendUDP(nil, from, to, payload)
			if err != nil || !bytes.Equal(got, want) {
				t.Fatalf("%s, %d bytes: %v\n got %x\nwant %x", name, n, err, got, want)
			}
			tmpl, err := newTemplate(from, to)
			if err != nil {
				t.Fatal(err)
			}
			prefix := []byte("before")
			if got := tmpl.appendPacket(prefix, payload); !bytes.Equal(got[len(prefix):], want) {
				t.Fatalf("%s, %d bytes, prepared:\n got %x\nwant %x", name, n, got[len(prefix):], want)
			}
		}
	}
}

func TestChecksumZeroIsSentAsOnes(t *testing.T) {
	from, to := Addr{IA: ia110, Host: v4a, Port: 1}, Addr{IA: ia110, Host: v4b, Port: 2}
	b := theirUDPUnchanged(t, from, to, []byte{0, 0})
	payload := b[len(b)-4 : len(b)-2] // the checksum as payload makes the sum zero
	want := theirUDPUnchanged(t, from, to, payload)
	if sum := want[len(want)-4 : len(want)-2]; !bytes.Equal(sum, []byte{0, 0}) {
		t.Fatalf("reference makes checksum %x, want zero", sum)
	}
	binary.BigEndian.PutUint16(want[len(want)-4:], 0xffff)
	got, err := AppendUDP(nil, from, to, payload)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("got %x, %v; want %x", got, err, want)
	}
	p, _ := ParsePacket(got)
	if !sumHolds(addSum(pseudoSum(p.addresses(), uint8(ProtocolUDP), 10), p.Payload())) {
		t.Error("checksum does not hold")
	}
}

func TestParsePacketReadsTheReferences(t *testing.T) {
	for _, pair := range pairs() {
		name, from, to := pair.name, pair.from, pair.to
		b := theirUDP(t, from, to, []byte("payload"))
		p, err := ParsePacket(append(bytes.Clone(b), "behind it"...))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if p.SrcIA() != from.IA || p.DstIA() != to.IA || p.SrcHost() != from.Host || p.DstHost() != to.Host {
			t.Errorf("%s: addresses %s,%s > %s,%s", name, p.SrcIA(), p.SrcHost(), p.DstIA(), p.DstHost())
		}
		if p.PathType() != to.Path.Type() || !bytes.Equal(p.RawPath(), to.Path.Append(nil)) {
			t.Errorf("%s: path %x of type %d", name, p.RawPath(), p.PathType())
		}
		if p.Len() != len(b) || !bytes.Equal(p.Bytes(), b) || p.Truncated() || p.NextHeader() != ProtocolUDP {
			t.Errorf("%s: %d bytes, want %d", name, p.Len(), len(b))
		}
		if string(p.Payload()[udpLen:]) != "payload" {
			t.Errorf("%s: payload %q", name, p.Payload()[udpLen:])
		}
		if h := headerSize(from.Host, to.Host, to.Path); h != len(b)-udpLen-len("payload") {
			t.Errorf("%s: header size %d", name, h)
		}
	}
}

// FuzzParsePacket holds the parser against the reference, both ways.
func FuzzParsePacket(f *testing.F) {
	for _, pair := range pairs() {
		f.Add(theirUDP(f, pair.from, pair.to, []byte("payload")))
		f.Add(theirSCMP(f, pair.from, pair.to, slayers.SCMPTypeEchoRequest, 0, &slayers.SCMPEcho{Identifier: 1}))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ParsePacket(b)
		var theirs slayers.SCION
		theirErr := theirs.DecodeFromBytes(b, gopacket.NilDecodeFeedback)
		if err != nil {
			if theirErr == nil && weShouldAccept(&theirs) {
				t.Fatalf("refused (%v) what the reference accepts: %x", err, b)
			}
			return
		}
		exercise(t, p)
		exerciseHost(t, p)
		switch p.PathType() {
		case PathEmpty, PathSCION:
		default:
			return
		}
		if theirErr != nil {
			t.Fatalf("accepted what the reference refuses: %v: %x", theirErr, b)
		}
		if uint64(p.DstIA()) != uint64(theirs.DstIA) || uint64(p.SrcIA()) != uint64(theirs.SrcIA) ||
			uint8(p.NextHeader()) != uint8(theirs.NextHdr) || uint8(p.PathType()) != uint8(theirs.PathType) {
			t.Errorf("fields differ from the reference's: %x", b)
		}
		if dst, err := theirs.DstAddr(); err == nil && dst.Type() == 1 && dst.IP() != p.DstHost() {
			t.Errorf("destination %s, reference %s", p.DstHost(), dst)
		}
		if src, err := theirs.SrcAddr(); err == nil && src.Type() == 1 && src.IP() != p.SrcHost() {
			t.Errorf("source %s, reference %s", p.SrcHost(), src)
		}
		if !bytes.HasPrefix(theirs.Payload, p.Payload()) || !p.Truncated() && len(p.Payload()) != int(theirs.PayloadLen) {
			t.Errorf("payload of %d bytes, reference %d", len(p.Payload()), theirs.PayloadLen)
		}
	})
}

// weShouldAccept reports whether a packet that the reference accepts is one
// for us, which are stricter about paths.
func weShouldAccept(s *slayers.SCION) bool {
	if s.Version != 0 {
		return false
	}
	raw, ok := s.Path.(*slayerspath.Raw)
	if !ok {
		return s.PathType == 0
	}
	pathLen := int(s.HdrLen)*4 - slayers.CmnHdrLen - s.AddrHdrLen()
	return raw.NumINF > 0 && raw.Len() == pathLen &&
		int(raw.PathMeta.CurrINF) < raw.NumINF && int(raw.PathMeta.CurrHF) < raw.NumHops
}

// exercise calls what a packet offers: nothing may panic.
func exercise(t *testing.T, p Packet) {
	if p.Len() > len(p.b) || len(p.addresses()) < 24 || len(p.RawPath()) > p.Len() {
		t.Error("impossible lengths")
	}
	p.Upper()
	p.SCMP()
	_, _ = p.DeliveryPort()
	_, _ = p.SourcePort()
	if q, ok := p.Quote(); ok && q.Len() >= p.Len() {
		t.Errorf("quoted packet of %d bytes in one of %d", q.Len(), p.Len())
	}
	if p.PathType() == PathSCION {
		back := appendReversedPath(nil, p.RawPath())
		if _, err := NewPath(back); err != nil {
			t.Errorf("reversed path is invalid: %v", err)
		}
	}
}

// exerciseHost gives a packet to the host that it is for.
func exerciseHost(t *testing.T, p Packet) {
	u := &sink{}
	h := NewHost(HostConfig{Underlay: u})
	number, _ := p.DeliveryPort()
	h.SetLocal(Addr{IA: p.DstIA(), Host: p.DstHost(), Port: number})
	port, err := h.Listen(0)
	if err != nil {
		t.Fatal(err)
	}
	got := &collected{}
	port.receiver = got.receiver()
	if err := newIntake(h).receive([][]byte{p.Bytes()}); err != nil {
		t.Fatal(err)
	}
	for _, b := range u.packets {
		decode(t, b)
	}
	c := h.Counters()
	if c.Received != uint64(len(got.datagrams)) || c.Received+c.Echoed > 1 {
		t.Errorf("delivered %v, counters %+v", got.datagrams, c)
	}
	if c.Received+c.Echoed == 0 && c == (Counters{}) {
		t.Errorf("packet neither delivered nor counted: %x", p.Bytes())
	}
}

func TestParsePacketRefuses(t *testing.T) {
	from, to := Addr{IA: ia110, Host: v4a, Port: 1}, Addr{IA: ia211, Host: v4b, Port: 2}
	plain, _ := AppendUDP(nil, from, to, []byte("x"))
	to.Path = mustPath(randomPath(newRand(1), 2))
	routed, _ := AppendUDP(nil, from, to, []byte("x"))
	set := func(b []byte, i int, v byte) []byte {
		b = bytes.Clone(b)
		b[i] = v
		return b
	}
	tests := map[string][]byte{
		"nothing":                   {},
		"half a header":             plain[:20],
		"a header but for a byte":   plain[:35],
		"version 1":                 set(plain, 0, 0x10),
		"header length 0":           set(plain, 5, 0),
		"header length short":       set(plain, 5, 8),
		"header length long":        set(plain, 5, 10),
		"hosts longer":              set(plain, 9, 0x30),
		"empty path that is not":    set(routed, 8, 0),
		"path that is empty":        set(plain, 8, 1),
		"path cut by header length": set(routed, 5, routed[5]-1),
		"path out of the buffer":    routed[:40],
		"hop field outside":         set(routed, 36, 5),
	}
	for name, b := range tests {
		if _, err := ParsePacket(b); err == nil {
			t.Errorf("%s: accepted %x", name, b)
		}
	}
}

func TestParsePacketOfOtherKinds(t *testing.T) {
	from, to := Addr{IA: ia110, Host: v4a, Port: 1}, Addr{IA: ia110, Host: v4b, Port: 2}
	b, _ := AppendUDP(nil, from, to, []byte("payload"))

	t.Run("service as source", func(t *testing.T) {
		b := bytes.Clone(b)
		b[9] |= 0b0100
		p, err := ParsePacket(b)
		if err != nil || p.SrcHost().IsValid() || p.DstHost() != v4b || p.SrcHostOffset() != 32 {
			t.Errorf("source %s at %d, %v", p.SrcHost(), p.SrcHostOffset(), err)
		}
	})
	t.Run("unknown path type", func(t *testing.T) {
		b := bytes.Clone(b)
		b[8] = 77
		if p, err := ParsePacket(b); err != nil || p.PathType() != 77 {
			t.Errorf("path type %d, %v", p.PathType(), err)
		}
	})
	t.Run("truncated payload", func(t *testing.T) {
		p, err := ParsePacket(b[:len(b)-1])
		if err != nil || !p.Truncated() || p.Len() != len(b)-1 || string(p.Payload()[udpLen:]) != "payloa" {
			t.Errorf("payload %q, truncated %v, %v", p.Payload(), p.Truncated(), err)
		}
	})
	t.Run("packet in a larger buffer", func(t *testing.T) {
		p, _ := ParsePacket(append(bytes.Clone(b), 1, 2, 3))
		if cap(p.Payload()) != len(p.Payload()) {
			t.Error("payload can grow into what follows")
		}
	})
}

func TestUpperSkipsExtensions(t *testing.T) {
	from, to := Addr{IA: ia110, Host: v4a, Port: 1}, Addr{IA: ia110, Host: v4b, Port: 2}
	packet := func(next Protocol, payload ...byte) Packet {
		b, err := appendHeader(nil, from, to, next, len(payload))
		if err != nil {
			t.Fatal(err)
		}
		p, err := ParsePacket(append(b, payload...))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	tests := []struct {
		name   string
		packet Packet
		next   Protocol
		rest   string
		ok     bool
	}{
		{"none", packet(17, 'x'), 17, "x", true},
		{"hop-by-hop", packet(200, 17, 0, 0, 0, 'x'), 17, "x", true},
		{"end-to-end", packet(201, 17, 1, 0, 0, 1, 2, 3, 4, 'x'), 17, "x", true},
		{"both", packet(200, 201, 0, 0, 0, 202, 0, 0, 0, 'x'), 202, "x", true},
		{"nothing behind", packet(201, 17, 0, 0, 0), 17, "", true},
		{"wrong order", packet(201, 200, 0, 0, 0, 17, 0, 0, 0, 'x'), 0, "", false},
		{"hop-by-hop twice", packet(200, 200, 0, 0, 0, 17, 0, 0, 0, 'x'), 0, "", false},
		{"end-to-end twice", packet(201, 201, 0, 0, 0, 17, 0, 0, 0, 'x'), 0, "", false},
		{"IPv6's number", packet(43, 17, 0, 0, 0, 'x'), 0, "", false},
		{"cut off", packet(200, 17, 1, 0, 0, 0, 0, 0), 0, "", false},
		{"of two bytes", packet(201, 17, 0), 0, "", false},
	}
	for _, tt := range tests {
		next, rest, ok := tt.packet.Upper()
		if next != tt.next || string(rest) != tt.rest || ok != tt.ok {
			t.Errorf("%s: got %d, %q, %v", tt.name, next, rest, ok)
		}
		if tt.packet.NextHeader() != 17 {
			if _, err := tt.packet.DeliveryPort(); err == nil {
				t.Errorf("%s: has a delivery port", tt.name)
			}
		}
	}
}

func TestAppendUDPRefuses(t *testing.T) {
	from, to := Addr{IA: ia110, Host: v4a, Port: 1}, Addr{IA: ia110, Host: v4b, Port: 2}
	before := []byte("before")
	for name, tt := range map[string]struct {
		from, to Addr
		payload  int
	}{
		"no source":      {Addr{}, to, 1},
		"no destination": {from, Addr{}, 1},
		"too long":       {from, to, 65528},
	} {
		b, err := AppendUDP(before, tt.from, tt.to, make([]byte, tt.payload))
		if err == nil || string(b) != "before" {
			t.Errorf("%s: got %d bytes, %v", name, len(b), err)
		}
	}
	b, err := AppendUDP(nil, from, to, make([]byte, 65527))
	if err != nil {
		t.Fatal(err)
	}
	if p, err := ParsePacket(b); err != nil || len(p.Payload()) != 65535 {
		t.Errorf("longest datagram: %v", err)
	}
}
