package scion

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/scionproto/scion/pkg/addr"
	"github.com/scionproto/scion/pkg/slayers"
)

func TestSCMPErrorIsTheReferences(t *testing.T) {
	for _, pair := range pairs() {
		name, from, to := pair.name, pair.from, pair.to
		for _, n := range []int{0, 1, 100, 2000} {
			offending := theirUDP(t, Addr{IA: to.IA, Host: to.Host}, from.Origin(), make([]byte, n))
			room := 1232 - headerSize(from.Host, to.Host, to.Path) - 8
			quote := gopacket.Payload(offending[:min(room, len(offending))])
			tests := []struct {
				typ, code uint8
				info      uint32
				layer     gopacket.SerializableLayer
			}{
				{1, 3, 0, &slayers.SCMPDestinationUnreachable{}},
				{2, 0, 1300, &slayers.SCMPPacketTooBig{MTU: 1300}},
				{4, 33, 32, &slayers.SCMPParameterProblem{Pointer: 32}},
			}
			for _, tt := range tests {
				want := theirSCMP(t, from, to, slayers.SCMPType(tt.typ), slayers.SCMPCode(tt.code), tt.layer, quote)
				got, err := AppendSCMPError(nil, SCMPError{Type: tt.typ, Code: tt.code, Info: tt.info, Src: from, Dst: to}, offending)
				if err != nil || !bytes.Equal(got, want) {
					t.Fatalf("%s, type %d, %d bytes: %v\n got %x\nwant %x", name, tt.typ, n, err, got, want)
				}
				if len(got) > 1232 {
					t.Errorf("%s: %d bytes", name, len(got))
				}
				decode(t, got)
			}
		}
	}
}

func TestSCMPErrorOfASNAP(t *testing.T) { // snap.md §5.1
	gateway, client := netip.MustParseAddr("203.0.113.1"), v4a
	offending, _ := AppendUDP(nil, Addr{IA: ia110, Host: v4b, Port: 1}, Addr{IA: ia110, Host: v4a, Port: 2}, make([]byte, 1400))
	p, _ := ParsePacket(offending)
	got, err := AppendSCMPError([]byte("x"), SCMPError{
		Type: 4, Code: 33, Info: uint32(p.SrcHostOffset()), Src: Addr{Host: gateway}, Dst: Addr{Host: client},
	}, offending)
	if err != nil || len(got) != 1+1232 {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	want := append([]byte{
		0, 0, 0, 0, 202, 9, 0x04, 0xac, 0, 0, 0, 0,
		0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
		192, 0, 2, 1, 203, 0, 113, 1,
		4, 33, got[1+38], got[1+39], 0, 0, 0, 32,
	}, offending[:1188]...)
	if !bytes.Equal(got[1:], want) {
		t.Errorf("got %x\nwant %x", got[1:], want)
	}
}

func TestSCMPErrorQuotesWhatIsMalformed(t *testing.T) {
	e := SCMPError{Type: 4, Code: 16, Src: Addr{IA: ia110, Host: v4a}, Dst: Addr{IA: ia110, Host: v4b}}
	b, err := AppendSCMPError(nil, e, []byte("nonsense"))
	if err != nil {
		t.Fatal(err)
	}
	p, err := ParsePacket(b)
	if err != nil || !bytes.HasSuffix(p.Payload(), []byte("nonsense")) {
		t.Errorf("payload %q, %v", p.Payload(), err)
	}
	if _, ok := p.Quote(); ok {
		t.Error("nonsense is a packet")
	}
}

func TestNoSCMPErrorAnswersAnother(t *testing.T) {
	e := SCMPError{Type: 1, Src: Addr{IA: ia110, Host: v4a}, Dst: Addr{IA: ia110, Host: v4b}}
	first, err := AppendSCMPError(nil, e, []byte("nonsense"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := AppendSCMPError([]byte("before"), e, first)
	if !errors.Is(err, ErrSCMPOfSCMP) || string(b) != "before" {
		t.Errorf("got %d bytes, %v; want ErrSCMPOfSCMP", len(b), err)
	}
	echo := theirSCMP(t, e.Dst, e.Src, slayers.SCMPTypeEchoRequest, 0, &slayers.SCMPEcho{})
	if _, err := AppendSCMPError(nil, e, echo); err != nil {
		t.Errorf("of an echo request: %v", err)
	}
	for _, typ := range []uint8{0, 3, 5, 6, 128, 255} {
		if _, err := AppendSCMPError(nil, SCMPError{Type: typ, Src: e.Src, Dst: e.Dst}, echo); err == nil {
			t.Errorf("type %d: no error", typ)
		}
	}
}

func TestQuote(t *testing.T) {
	from, to := Addr{IA: ia110, Host: v4a, Port: 1}, Addr{IA: ia211, Host: v6a, Port: 2, Path: mustPath(randomPath(newRand(1), 2, 3))}
	sent, _ := AppendUDP(nil, from, to, make([]byte, 1300))
	router := Addr{IA: ia211, Host: v4b}
	tests := []struct {
		typ    slayers.SCMPType
		layers []gopacket.SerializableLayer
	}{
		{slayers.SCMPTypeDestinationUnreachable, []gopacket.SerializableLayer{&slayers.SCMPDestinationUnreachable{}}},
		{slayers.SCMPTypePacketTooBig, []gopacket.SerializableLayer{&slayers.SCMPPacketTooBig{MTU: 1300}}},
		{slayers.SCMPTypeParameterProblem, []gopacket.SerializableLayer{&slayers.SCMPParameterProblem{Pointer: 3}}},
		{slayers.SCMPTypeExternalInterfaceDown, []gopacket.SerializableLayer{&slayers.SCMPExternalInterfaceDown{IA: addr.IA(ia211), IfID: 5}}},
		{slayers.SCMPTypeInternalConnectivityDown, []gopacket.SerializableLayer{&slayers.SCMPInternalConnectivityDown{Ingress: 5, Egress: 6}}},
	}
	for _, tt := range tests {
		for _, n := range []int{len(sent), 200, 130} {
			b := theirSCMP(t, router, from, tt.typ, 2, append(tt.layers, gopacket.Payload(sent[:n]))...)
			p, err := ParsePacket(b)
			if err != nil {
				t.Fatal(err)
			}
			typ, code, ok := p.SCMP()
			if !ok || typ != uint8(tt.typ) || code != 2 {
				t.Errorf("%v: SCMP() = %d, %d, %v", tt.typ, typ, code, ok)
			}
			q, ok := p.Quote()
			if !ok || q.SrcHost() != v4a || q.DstHost() != v6a || q.DstIA() != ia211 || q.Len() != n || q.Truncated() != (n < len(sent)) {
				t.Errorf("%v: quote of %d bytes, %v", tt.typ, q.Len(), ok)
			}
			if port, err := p.DeliveryPort(); n > 130 && (err != nil || port != 1) {
				t.Errorf("%v: delivery port %d, %v", tt.typ, port, err)
			}
		}
		b := theirSCMP(t, router, from, tt.typ, 0, append(tt.layers, gopacket.Payload(sent[:120]))...)
		p, _ := ParsePacket(b)
		if _, ok := p.Quote(); ok {
			t.Errorf("%v: half a header is a quote", tt.typ)
		}
	}
	p, _ := ParsePacket(theirSCMP(t, router, from, 77, 0, gopacket.Payload(sent)))
	if _, ok := p.Quote(); ok {
		t.Error("quote of an unknown type")
	}
}

// FuzzSCMP lets a host look at SCMP messages, and holds what is quoted and
// answered against the reference.
func FuzzSCMP(f *testing.F) {
	local, peer := Addr{IA: ia110, Host: v4a, Port: 1}, Addr{IA: ia110, Host: v4b, Port: 2}
	far := Addr{IA: ia211, Host: v6b, Path: mustPath(randomPath(newRand(1), 2, 1, 2))}
	known := map[Addr]bool{peer: true, far: true}
	sent, _ := AppendUDP(nil, local, peer, []byte("payload"))
	abroad, _ := AppendUDP(nil, local, far, []byte("payload"))
	header, _ := appendHeader(nil, local, far, ProtocolSCMP, 17)
	echo := append(header, 128, 0, 0, 0, 0, 1, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	f.Add([]byte{129, 0, 0, 0, 0, 1, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Add([]byte{128, 0, 0, 0, 0, 1, 0, 1, 'x'})
	f.Add([]byte{130, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	for typ := range byte(8) {
		head := append([]byte{typ, 0, 0, 0}, make([]byte, max(0, quoteOffset(typ)-4))...)
		for _, quote := range [][]byte{sent, abroad, echo} {
			f.Add(append(bytes.Clone(head), quote...))
			f.Add(append(bytes.Clone(head), underWay(quote)...))
		}
	}
	f.Fuzz(func(t *testing.T, scmp []byte) {
		if len(scmp) > 9000 {
			return
		}
		b, err := appendHeader(nil, peer, local, ProtocolSCMP, len(scmp))
		if err != nil {
			t.Fatal(err)
		}
		header := len(b)
		b = append(b, scmp...)
		if len(scmp) >= scmpLen {
			setSCMPChecksum(b[addrOffset:header], b[header:])
		}
		p, err := ParsePacket(b)
		if err != nil {
			t.Fatal(err)
		}
		exercise(t, p)

		u := &sink{}
		h := NewHost(HostConfig{Underlay: u, Report: func(r Report) {
			q, ok := p.Quote()
			if !ok || !known[r.To] || r.Port != 1 || r.To.Host != q.DstHost() || !bytes.Contains(scmp, r.Payload) || r.String() == "" {
				t.Errorf("report %+v", r)
			}
		}})
		h.SetLocal(local)
		port, err := h.Listen(0)
		if err != nil {
			t.Fatal(err)
		}
		port.WritePackets([]Addr{peer, far}, [][]byte{nil, nil})
		e := h.Echo(func(r EchoReply) {
			if r.To != far || r.Sequence != 7 || (r.Report == nil) != (scmp[0] == scmpEchoReply) {
				t.Errorf("echo reply %+v", r)
			}
		})
		clear(e.cookie[:])
		if err := e.Request(Addr{IA: far.IA, Host: far.Host, Path: far.Path}, 7, 9); err != nil {
			t.Fatal(err)
		}
		u.packets = nil
		port.receiver = &receiver{deliver: func(from []Addr, packets [][]byte) error {
			for i := range from {
				q, ok := p.Quote()
				if !ok || packets[i] != nil || scmp[0] != scmpUnreachable || from[i].Host != q.DstHost() || q.SrcHost() != v4a {
					t.Errorf("nil packet of %s", from[i])
				}
			}
			return nil
		}}
		if err := newIntake(h).receive([][]byte{b}); err != nil {
			t.Fatal(err)
		}
		for _, reply := range u.packets {
			echo := theirLayer[*slayers.SCMPEcho](t, decode(t, reply))
			if scmp[0] != 128 || echo.Identifier != binary.BigEndian.Uint16(scmp[4:]) || !bytes.Equal(echo.Payload, scmp[8:]) {
				t.Errorf("answered %x with %x", scmp, reply)
			}
		}
	})
}

// A sink is an underlay that keeps copies of what is sent.
type sink struct {
	Underlay
	packets [][]byte
	batches int
}

func (s *sink) WritePackets(packets [][]byte) (int, error) {
	s.batches++
	for _, b := range packets {
		s.packets = append(s.packets, bytes.Clone(b))
	}
	return len(packets), nil
}
