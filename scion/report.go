package scion

import (
	"fmt"
	"net/netip"
)

// A Report is an SCMP error about a datagram that this host sent: the packet
// that it quotes has the host's own address and an open port as source, and an
// address and path that the port has sent to lately. Routers quote what they
// forward, so only who is on the path can know all that; a receiver that has
// secrets in its datagrams can hold Payload against them as well.
type Report struct {
	Type, Code uint8
	// IA and Host are who reports. PocketSCION reports from host 0.0.0.0. A SNAP
	// reports about what it does not forward with IA 0-0.
	IA   IA
	Host netip.Addr
	// Ingress and Egress are the interfaces of IA that do not work: type 5 has
	// an Egress, type 6 both, the way through the AS from one to the other.
	Ingress, Egress uint16
	// MTU is the size in bytes that the packet exceeds (type 2).
	MTU int
	// To is the destination of the quoted packet with the path that it was sent
	// on, the very pointer.
	To Addr
	// Port is the source port of the quoted packet, Payload as much of its
	// UDP payload as is quoted. It is lent.
	Port    uint16
	Payload []byte
}

// Codes of Parameter Problem that condemn a path: invalid path, unknown ingress
// and egress interface, invalid MAC, expired, invalid change of segments.
const (
	scmpInvalidPath   = 48
	scmpUnknownEgress = 50
	scmpExpiredHop    = 52
	scmpSegmentChange = 53
)

// String describes the report in words, without the addresses.
func (r Report) String() string {
	switch r.Type {
	case scmpUnreachable:
		return "destination unreachable: " + word(unreachableWords, r.Code)
	case scmpPacketTooBig:
		return fmt.Sprintf("packet too big for %d bytes", r.MTU)
	case scmpParameterProblem:
		return "parameter problem: " + word(problemWords, r.Code)
	case scmpInterfaceDown:
		return fmt.Sprintf("interface %s is down", Interface{r.IA, r.Egress})
	case scmpConnectivityDown:
		return fmt.Sprintf("no connectivity from %s to interface %d", Interface{r.IA, r.Ingress}, r.Egress)
	}
	return fmt.Sprintf("SCMP error %d, code %d", r.Type, r.Code)
}

// The codes are those of docs.scion.org, protocols/scmp.html.
var (
	unreachableWords = map[uint8]string{
		0: "no route", 1: "prohibited", 2: "beyond the scope of the source", 3: "no host",
		4: "no port", 5: "source address refused", 6: "route rejected",
	}
	problemWords = map[uint8]string{
		0: "erroneous header", 1: "unknown next header", 16: "invalid common header", 17: "unknown version",
		18: "flow ID required", 19: "invalid packet size", 20: "unknown path type", 21: "unknown address format",
		32: "invalid address header", 33: "invalid source address", 34: "invalid destination address",
		35: "non-local delivery", 48: "invalid path", 49: "unknown ingress interface", 50: "unknown egress interface",
		51: "invalid hop field MAC", 52: "path expired", 53: "invalid change of segments",
	}
)

func word(words map[uint8]string, code uint8) string {
	if w, ok := words[code]; ok {
		return w
	}
	return fmt.Sprintf("code %d", code)
}
