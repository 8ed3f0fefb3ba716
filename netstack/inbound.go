package netstack

import (
	"net/netip"
	"sync"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// inbound is what comes out of the link. Nothing reaches gVisor but TCP, echo
// requests to ourselves and fragments of datagrams.
type inbound struct {
	mu   sync.Mutex // held for one batch; a link has one receiver anyway
	runs coalescer
}

// deliver takes a batch from the link.
func (s *Stack) deliver(packets [][]byte) error {
	s.in.mu.Lock()
	defer s.in.mu.Unlock()
	s.counters.addN(inPackets, len(packets))
	for _, b := range packets {
		if r, drop := s.receive(b); drop {
			s.counters.add(r)
		}
	}
	s.in.runs.runs = s.flights.heard(s.in.runs.runs)
	s.in.runs.flush(s.endpoint, &s.counters)
	return nil
}

// receive takes one packet, or tells why it is dropped.
func (s *Stack) receive(b []byte) (reason, bool) {
	if len(b) < ipv6HeaderLen || b[0]>>4 != 6 {
		return inMalformed, true
	}
	length := int(be16(b[4:]))
	if length == 0 || ipv6HeaderLen+length > len(b) {
		return inMalformed, true
	}
	b = b[:ipv6HeaderLen+length] // some tunnels pad
	if r, drop := s.badAddresses(b); drop {
		return r, true
	}
	payload := b[ipv6HeaderLen:]
	switch b[6] {
	case protoTCP:
		if length < tcpHeaderLen || int(payload[12]>>4)*4 < tcpHeaderLen || int(payload[12]>>4)*4 > length {
			return inMalformed, true
		}
		if payload[13]&flagSYN != 0 && clampMSS(payload, usableMTU(s.cfg.Link.MTU(addrAt(b[8:])))) {
			s.counters.add(mssClamped)
		}
		s.in.runs.add(b)
	case protoUDP:
		return s.udp.receive(b, payload)
	case protoICMP:
		return s.receiveICMP(b, payload)
	case protoFragment:
		if length < fragmentHeaderLen {
			return inMalformed, true
		}
		// Only datagrams come in fragments; the rest would pass unseen.
		if payload[0] != protoUDP {
			return inExtension, true
		}
		s.endpoint.deliver(newPacket(b))
	case protoHopByHop, 43, 51, 59, 60, 135, 139, 140:
		return inExtension, true
	default:
		return inProtocol, true
	}
	return 0, false
}

// badAddresses tells whether the addresses of a packet are such that it is
// dropped.
func (s *Stack) badAddresses(b []byte) (reason, bool) {
	src, dst := addrAt(b[8:]), addrAt(b[24:])
	switch {
	case src == s.cfg.Addr:
		return inSpoofed, true
	case src.IsMulticast() || src.IsUnspecified() || src.IsLoopback() && s.exit: // an exit may open its ::1 to clients
		return inBadSource, true
	case dst.IsMulticast():
		return inMulticast, true
	case dst.IsUnspecified():
		return inBadDestination, true
	case !s.exit && dst != s.cfg.Addr:
		return inNotOurs, true
	}
	return 0, false
}

// receiveICMP answers echo requests and finds whom an error is for. gVisor
// sees the former only.
func (s *Stack) receiveICMP(b, icmp []byte) (reason, bool) {
	if len(icmp) < icmpHeaderLen || !checksumRight(b, protoICMP) {
		return inMalformed, true
	}
	switch t := icmp[0]; {
	case t == icmpEchoRequest:
		if addrAt(b[24:]) != s.cfg.Addr {
			return inEchoForeign, true
		}
		s.endpoint.deliver(newPacket(b))
		return 0, false
	case neighbourOrGroup(t):
		return inNeighbour, true
	case t == icmpUnreachable || t == icmpTimeExceeded || t == icmpTooBig || t == icmpParameter:
		return s.receiveError(b, icmp)
	}
	return inICMPOther, true
}

// receiveError takes an ICMPv6 error. It counts only if it comes from where
// the packet that it quotes was sent to: inside a tunnel nobody else has seen
// that packet. It ends a pending dial or is heard by a connected UDP socket;
// an established TCP connection heeds none.
//
//	+-------------+-----------+-------------+--------+
//	| IPv6 header | type,code | IPv6 header | ports… |
//	+-------------+-----------+-------------+--------+
//	 src = sender              dst = sender   src port = ours
//	 dst = us                  src = us
func (s *Stack) receiveError(b, icmp []byte) (reason, bool) {
	quote := icmp[icmpHeaderLen:]
	if len(quote) < ipv6HeaderLen+8 || quote[0]>>4 != 6 {
		return inMalformed, true
	}
	if [16]byte(quote[24:40]) != [16]byte(b[8:24]) || [16]byte(quote[8:24]) != [16]byte(b[24:40]) {
		return inICMPForged, true
	}
	if icmp[0] == icmpTooBig && be32(icmp[4:]) < 1280 {
		return inTooBigSmall, true
	}
	err := errorOfICMP(icmp[0], icmp[1])
	if err == nil {
		return inICMPUnmatched, true
	}
	transport := quote[ipv6HeaderLen:]
	t := outboundTuple(quote, transport)
	switch quote[6] {
	case protoTCP:
		if s.dials.refused(t, be32(transport[4:]), err) {
			s.counters.add(dialsRefused)
			return 0, false
		}
	case protoUDP:
		if s.udp.refused(t, err) {
			s.counters.add(udpErrors)
			return 0, false
		}
	}
	return inICMPUnmatched, true
}

// newPacket copies b into a packet for gVisor.
func newPacket(b []byte) *stack.PacketBuffer {
	v := buffer.NewView(len(b))
	v.Write(b)
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithView(v)})
	pkt.RXChecksumValidated = true
	return pkt
}

// sendError sends an ICMPv6 error about the packet quote, of which a copy is
// enclosed as far as it fits, in the name of the address it was sent to.
func (s *Stack) sendError(typ, code byte, quote []byte) {
	const room = 1280 - ipv6HeaderLen - icmpHeaderLen // RFC 4443 section 2.4(c)
	quote = quote[:min(len(quote), room)]
	v := buffer.NewViewSize(ipv6HeaderLen + icmpHeaderLen + len(quote))
	b := v.AsSlice()
	putIPv6(b, protoICMP, icmpHeaderLen+len(quote))
	copy(b[8:24], quote[24:40])
	copy(b[24:40], quote[8:24])
	b[40], b[41] = typ, code
	copy(b[48:], quote)
	putChecksum(b, protoICMP, 2)
	s.sendRaw(v)
}

// sendRaw queues a whole packet, which it takes over.
func (s *Stack) sendRaw(v *buffer.View) bool {
	if s.out.push(outItem{raw: v, size: v.Size()}) {
		return true
	}
	v.Release()
	return false
}

// addrPort is the address that the wire has as 16 bytes and a port.
func addrPort(addr [16]byte, port uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom16(addr), port)
}
