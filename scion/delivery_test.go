package scion

import (
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/scionproto/scion/pkg/slayers"
)

func TestPortsOfAPacket(t *testing.T) { // snap.md §5.3
	a := Addr{IA: ia110, Host: v4a, Port: 1000}
	b := Addr{IA: ia110, Host: v4b, Port: 2000}
	other := Addr{IA: ia110, Host: v6b, Port: 3000}
	abroad := Addr{IA: ia211, Host: v4b, Port: 2000}
	udp := func(from, to Addr) gopacket.Payload { return theirUDP(t, from, to, []byte("payload")) }
	echo := &slayers.SCMPEcho{Identifier: 1000, SeqNumber: 7}
	trace := &slayers.SCMPTraceroute{Identifier: 1000, Sequence: 7}
	unreachable := &slayers.SCMPDestinationUnreachable{}
	scmp := func(typ slayers.SCMPType, rest ...gopacket.SerializableLayer) []byte {
		return theirSCMP(t, b, a, typ, 0, rest...) // from b to a
	}
	const none = -1
	tests := []struct {
		name             string
		packet           []byte
		delivery, source int
	}{
		{"UDP", udp(b, a), 1000, 2000},
		{"echo request", scmp(128, echo), 1000, 1000},
		{"echo reply", scmp(129, echo), 1000, 1000},
		{"traceroute request", scmp(130, trace), 1000, 1000},
		{"traceroute reply", scmp(131, trace), 1000, 1000},
		{"error about UDP", scmp(1, unreachable, udp(a, b)), 1000, 2000},
		{"error about truncated UDP", scmp(1, unreachable, udp(a, b)[:44]), 1000, 2000},
		{"error about UDP without ports", scmp(1, unreachable, udp(a, b)[:40]), none, none},
		{"error about UDP to another host", scmp(1, unreachable, udp(a, other)), 1000, none},
		{"error about UDP to another AS", scmp(1, unreachable, udp(a, abroad)), 1000, none},
		{"error about an echo request", scmp(1, unreachable, gopacket.Payload(theirSCMP(t, a, b, 128, 0, echo))), none, 1000},
		{"error about an error", scmp(1, unreachable, gopacket.Payload(theirSCMP(t, a, b, 1, 0, unreachable, udp(b, a)))), none, none},
		{"error about nonsense", scmp(1, unreachable, gopacket.Payload("nonsense")), none, none},
		{"unknown error", scmp(100, unreachable, udp(a, b)), none, none},
		{"unknown message", scmp(200, echo), none, none},
		{"TCP", serialize(t, theirHeader(t, b, a, 6), udp(b, a)), none, none},
		{"half a UDP header", serialize(t, theirHeader(t, b, a, 17), gopacket.Payload("1234567")), none, none},
		{"half an echo request", serialize(t, theirHeader(t, b, a, 202), gopacket.Payload("\x80\x00\x00\x00\x00\x01\x00")), none, none},
		{"extension", serialize(t, theirHeader(t, b, a, 201), gopacket.Payload("\x11\x00\x00\x00"), udp(b, a)[36:]), none, none},
	}
	for _, tt := range tests {
		p, err := ParsePacket(tt.packet)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		port := func(port uint16, err error) int {
			if err != nil {
				return none
			}
			return int(port)
		}
		if got := port(p.DeliveryPort()); got != tt.delivery {
			t.Errorf("%s: delivery port %d, want %d", tt.name, got, tt.delivery)
		}
		if got := port(p.SourcePort()); got != tt.source {
			t.Errorf("%s: source port %d, want %d", tt.name, got, tt.source)
		}
	}
}
