package scion

import (
	"encoding/binary"
	"errors"
)

var (
	errNoPortField = errors.New("nothing in the packet names a port")
	errForeign     = errors.New("quotes a packet that its source did not get")
)

// DeliveryPort returns the port that a packet is for at its destination host:
// of a UDP datagram the destination port, of an SCMP request or reply the
// identifier, of an SCMP error the port that sent the UDP datagram it quotes.
// Nothing else is for a port, and nothing with an extension header.
func (p Packet) DeliveryPort() (uint16, error) {
	b := p.Payload()
	switch {
	case p.NextHeader() == ProtocolUDP && len(b) >= udpLen:
		return binary.BigEndian.Uint16(b[2:]), nil
	case p.NextHeader() == ProtocolSCMP && hasIdentifier(b):
		return binary.BigEndian.Uint16(b[4:]), nil
	case p.NextHeader() == ProtocolSCMP:
		if q, ok := p.Quote(); ok && q.NextHeader() == ProtocolUDP {
			return q.SourcePort()
		}
	}
	return 0, errNoPortField
}

// SourcePort returns the port that a packet says it is from at its source host:
// of a UDP datagram the source port, of an SCMP request or reply the identifier
// (a host that is reached by its port alone answers only what names that port),
// of an SCMP error the port that the packet it quotes was for. An SCMP error
// has none if that packet was for another host than the error's source.
func (p Packet) SourcePort() (uint16, error) {
	b := p.Payload()
	switch {
	case p.NextHeader() == ProtocolUDP && len(b) >= udpLen:
		return binary.BigEndian.Uint16(b), nil
	case p.NextHeader() == ProtocolSCMP && hasIdentifier(b):
		return binary.BigEndian.Uint16(b[4:]), nil
	case p.NextHeader() == ProtocolSCMP:
		q, ok := p.Quote()
		if !ok || q.isSCMPError() {
			break
		}
		if q.DstIA() != p.SrcIA() || q.DstHost() != p.SrcHost() || !q.DstHost().IsValid() {
			return 0, errForeign
		}
		return q.DeliveryPort()
	}
	return 0, errNoPortField
}

// hasIdentifier reports whether an SCMP message is an echo or traceroute
// request or reply.
func hasIdentifier(b []byte) bool {
	return len(b) >= scmpEchoLen && b[0] >= scmpEchoRequest && b[0] <= scmpTracerouteReply
}
