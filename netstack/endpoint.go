package netstack

import (
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// An endpoint is the link as gVisor sees it: it takes TCP super-segments of up
// to 64 KiB, with a checksum of the pseudo header only, and gives packets whose
// checksums are right.
type endpoint struct {
	stack      *Stack
	dispatcher atomic.Pointer[stack.NetworkDispatcher]
}

var (
	_ stack.LinkEndpoint = (*endpoint)(nil)
	_ stack.GSOEndpoint  = (*endpoint)(nil)
)

// WritePackets queues packets for the pump. It never waits, as gVisor would
// make other flows wait with it.
func (e *endpoint) WritePackets(list stack.PacketBufferList) (int, tcpip.Error) {
	n := 0
	for _, pkt := range list.AsSlice() {
		if r, drop := e.stack.outboundDrop(pkt); drop {
			e.stack.counters.add(r)
			n++ // as if the link had lost it
			continue
		}
		if !e.stack.out.push(outItem{pkt: pkt.IncRef(), size: pkt.Size()}) {
			pkt.DecRef()
			if e.stack.isClosed() {
				return n, &tcpip.ErrClosedForSend{}
			}
			e.stack.counters.add(outFull) // as if the link had lost it
		}
		n++
	}
	return n, nil
}

// outboundDrop tells whether pkt must not leave, and notes the sequence number
// of a SYN, by which a refusal of it is known.
func (s *Stack) outboundDrop(pkt *stack.PacketBuffer) (reason, bool) {
	ip := header.IPv6(pkt.NetworkHeader().Slice())
	if len(ip) < ipv6HeaderLen {
		return outMalformed, true
	}
	if ip[24] == 0xff {
		return outMulticast, true
	}
	transport := pkt.TransportHeader().Slice()
	switch pkt.TransportProtocolNumber {
	case header.ICMPv6ProtocolNumber:
		if len(transport) > 0 && neighbourOrGroup(transport[0]) {
			return outNeighbour, true
		}
	case header.TCPProtocolNumber:
		if len(transport) >= tcpHeaderLen && transport[13]&(flagSYN|flagACK) == flagSYN {
			s.dials.sent(outboundTuple(ip, transport), be32(transport[4:]))
		}
	}
	return 0, false
}

// GSOMaxSize is 64 KiB less the headers, which IPv6 does not count in a
// packet's length but the link's MTU does.
func (*endpoint) GSOMaxSize() uint32 { return 1<<16 - 1 }

// SupportedGSO says that the pump cuts segments.
func (*endpoint) SupportedGSO() stack.SupportedGSO { return stack.HostGSOSupported }

// MTU implements stack.LinkEndpoint.
func (*endpoint) MTU() uint32 { return linkMTU }

// SetMTU does nothing: the MTU is the link's affair.
func (*endpoint) SetMTU(uint32) {}

// MaxHeaderLength implements stack.LinkEndpoint.
func (*endpoint) MaxHeaderLength() uint16 { return 0 }

// LinkAddress implements stack.LinkEndpoint.
func (*endpoint) LinkAddress() tcpip.LinkAddress { return "" }

// SetLinkAddress implements stack.LinkEndpoint.
func (*endpoint) SetLinkAddress(tcpip.LinkAddress) {}

// Capabilities says that what comes in was authenticated by the tunnel.
func (*endpoint) Capabilities() stack.LinkEndpointCapabilities {
	return stack.CapabilityRXChecksumOffload
}

// Attach implements stack.LinkEndpoint.
func (e *endpoint) Attach(d stack.NetworkDispatcher) {
	if d == nil {
		e.dispatcher.Store(nil)
		return
	}
	e.dispatcher.Store(&d)
}

// IsAttached implements stack.LinkEndpoint.
func (e *endpoint) IsAttached() bool { return e.dispatcher.Load() != nil }

// deliver hands pkt, which it takes over, to gVisor.
func (e *endpoint) deliver(pkt *stack.PacketBuffer) {
	if d := e.dispatcher.Load(); d != nil {
		(*d).DeliverNetworkPacket(header.IPv6ProtocolNumber, pkt)
	}
	pkt.DecRef()
}

// Wait implements stack.LinkEndpoint.
func (*endpoint) Wait() {}

// ARPHardwareType implements stack.LinkEndpoint.
func (*endpoint) ARPHardwareType() header.ARPHardwareType { return header.ARPHardwareNone }

// AddHeader implements stack.LinkEndpoint.
func (*endpoint) AddHeader(*stack.PacketBuffer) {}

// ParseHeader implements stack.LinkEndpoint.
func (*endpoint) ParseHeader(*stack.PacketBuffer) bool { return true }

// Close implements stack.LinkEndpoint.
func (*endpoint) Close() {}

// SetOnCloseAction implements stack.LinkEndpoint.
func (*endpoint) SetOnCloseAction(func()) {}
