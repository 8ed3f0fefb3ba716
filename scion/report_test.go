package scion

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/scionproto/scion/pkg/addr"
	"github.com/scionproto/scion/pkg/slayers"
)

func TestEchoIsAnswered(t *testing.T) {
	r := newRand(1)
	for _, shape := range [][]int{nil, {2}, {2, 3, 2}} {
		for _, host := range []netip.Addr{v4b, v6b} {
			h, _, u := newLoneHost(t)
			peer, to := Addr{IA: ia110, Host: host}, h.Local()
			if shape != nil {
				peer.IA, to.Path = ia211, mustPath(randomPath(r, shape...))
			}
			var batch [][]byte
			for i := range uint16(3) {
				batch = append(batch, theirSCMP(t, peer, to, slayers.SCMPTypeEchoRequest, 0,
					&slayers.SCMPEcho{Identifier: 1000, SeqNumber: i}, gopacket.Payload(bytes.Repeat([]byte("data"), int(i)))))
			}
			if err := newIntake(h).receive(batch); err != nil {
				t.Fatal(err)
			}
			peer.Path = to.Path.Reverse()
			for i, got := range u.packets {
				want := theirSCMP(t, h.Local(), peer, slayers.SCMPTypeEchoReply, 0,
					&slayers.SCMPEcho{Identifier: 1000, SeqNumber: uint16(i)}, gopacket.Payload(bytes.Repeat([]byte("data"), i)))
				if !bytes.Equal(got, want) {
					t.Errorf("reply %d\n got %x\nwant %x", i, got, want)
				}
			}
			if c := h.Counters(); c != (Counters{Echoed: 3}) || u.batches != 1 {
				t.Errorf("counters %+v, %d writes", c, u.batches)
			}
		}
	}
}

func TestEchoRepliesAreBounded(t *testing.T) {
	h, _, u := newLoneHost(t)
	big := theirSCMP(t, peerB, h.Local(), slayers.SCMPTypeEchoRequest, 0, &slayers.SCMPEcho{}, gopacket.Payload(make([]byte, 20000)))
	in := newIntake(h)
	for range 2 {
		if err := in.receive([][]byte{big, big, big, big, big}); err != nil {
			t.Fatal(err)
		}
	}
	if c := h.Counters(); c != (Counters{Echoed: 6, EchoFlood: 4}) || u.batches != 2 {
		t.Errorf("counters %+v, %d writes", c, u.batches)
	}
}

func TestSCMPErrorsAreReported(t *testing.T) {
	local := Addr{IA: ia110, Host: v4a, Port: 1000}
	router := Addr{IA: ia211, Host: v6a}
	withPath := func(a Addr) Addr { a.Path = mustPath(randomPath(newRand(1), 2, 2)); return a }
	far := Addr{IA: ia211, Host: v6b, Port: 77}
	sent := theirUDP(t, local, withPath(far), make([]byte, 1000))
	from := func(a Addr) []byte { return theirUDP(t, a, withPath(far), nil) }
	type layers = []gopacket.SerializableLayer
	unreachable := &slayers.SCMPDestinationUnreachable{}
	problem := &slayers.SCMPParameterProblem{Pointer: 32}
	tests := []struct {
		name     string
		src, dst Addr
		typ      slayers.SCMPType
		layers   layers
		quote    []byte
		want     Counters // a report if Unreachable is 1
	}{
		{"unreachable", router, withPath(local), 1, layers{unreachable}, sent, Counters{Unreachable: 1}},
		{"unreachable, quote cut", router, withPath(local), 1, layers{unreachable}, sent[:160], Counters{Unreachable: 1}},
		{"parameter problem", router, withPath(local), 4, layers{problem}, sent, Counters{Unreachable: 1}},
		{"interface down", router, withPath(local), 5, layers{&slayers.SCMPExternalInterfaceDown{IA: addr.IA(ia211)}}, sent, Counters{Unreachable: 1}},
		{"connectivity down", router, withPath(local), 6, layers{&slayers.SCMPInternalConnectivityDown{}}, sent, Counters{Unreachable: 1}},
		{"of a SNAP", Addr{Host: v4b}, Addr{Host: v4a}, 4, layers{problem}, sent, Counters{Unreachable: 1}},                                // snap.md §5.1
		{"of host 0.0.0.0", Addr{IA: ia110, Host: netip.IPv4Unspecified()}, local, 1, layers{unreachable}, sent, Counters{Unreachable: 1}}, // trap 47
		{"packet too big", router, withPath(local), 2, layers{&slayers.SCMPPacketTooBig{MTU: 1300}}, sent, Counters{SCMP: 1}},
		{"unknown error", router, withPath(local), 99, layers{unreachable}, sent, Counters{SCMP: 1}},
		{"about another host's packet", router, withPath(local), 1, layers{unreachable}, from(Addr{IA: ia110, Host: v4b, Port: 1000}), Counters{SCMP: 1}},
		{"about another AS's packet", router, withPath(local), 1, layers{unreachable}, from(Addr{IA: ia211, Host: v4a, Port: 1000}), Counters{SCMP: 1}},
		{"about another port's packet", router, withPath(local), 1, layers{unreachable}, from(Addr{IA: ia110, Host: v4a, Port: 1001}), Counters{NoPort: 1}},
		{"about an SCMP message", router, withPath(local), 1, layers{unreachable}, theirSCMP(t, local, withPath(far), 128, 0, &slayers.SCMPEcho{Identifier: 1000}), Counters{SCMP: 1}},
		{"about nonsense", router, withPath(local), 1, layers{unreachable}, []byte("nonsense"), Counters{SCMP: 1}},
		{"without ports", router, withPath(local), 1, layers{unreachable}, sent[:120], Counters{SCMP: 1}},
		{"to another host", router, Addr{Host: v4b}, 1, layers{unreachable}, sent, Counters{WrongDestination: 1}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h, port, u := newLoneHost(t)
			got := &collected{}
			port.receiver = got.receiver()
			b := theirSCMP(t, tt.src, tt.dst, tt.typ, 0, append(tt.layers, gopacket.Payload(tt.quote))...)
			before, after := theirUDP(t, peerB, local, []byte("before")), theirUDP(t, peerB, local, []byte("after"))
			if err := newIntake(h).receive([][]byte{before, b, after}); err != nil {
				t.Fatal(err)
			}
			want := []datagram{{peerB, "before"}, {far, report}, {peerB, "after"}}
			if tt.want.Unreachable == 0 {
				want = []datagram{want[0], want[2]}
			}
			got.want(t, want...)
			tt.want.Received = uint64(len(want))
			if c := h.Counters(); c != tt.want || u.batches != 0 {
				t.Errorf("counters %+v, want %+v", c, tt.want)
			}
		})
	}
}
