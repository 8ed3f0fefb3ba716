package netstack

import (
	"encoding/binary"
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip/checksum"
)

// Sizes and numbers of the headers that are read and made here, by hand-set
// offsets (RFC 8200, 9293, 768, 4443).
const (
	ipv6HeaderLen     = 40
	fragmentHeaderLen = 8
	tcpHeaderLen      = 20
	udpHeaderLen      = 8
	icmpHeaderLen     = 8

	protoHopByHop = 0
	protoTCP      = 6
	protoUDP      = 17
	protoFragment = 44
	protoICMP     = 58

	flagFIN = 1 << 0
	flagSYN = 1 << 1
	flagRST = 1 << 2
	flagPSH = 1 << 3
	flagACK = 1 << 4
	flagCWR = 1 << 7

	// stampKind is how a TCP timestamp begins where it is the first option, as it
	// is in all segments but SYNs (RFC 7323 appendix A).
	stampKind = 0x0101080a
	stampEnd  = tcpHeaderLen + 12

	hopLimit  = 64
	maxPacket = 65535 // of an IP packet on the link
)

func be16(b []byte) uint16       { return binary.BigEndian.Uint16(b) }
func be32(b []byte) uint32       { return binary.BigEndian.Uint32(b) }
func put16(b []byte, v uint16)   { binary.BigEndian.PutUint16(b, v) }
func put32(b []byte, v uint32)   { binary.BigEndian.PutUint32(b, v) }
func addrAt(b []byte) netip.Addr { return netip.AddrFrom16([16]byte(b[:16])) }

// A tuple names a flow: local address and port, remote address and port.
//
//	|       16       | 2  |       16       | 2  |
//	+----------------+----+----------------+----+
//	| local address  |port| remote address |port|
//	+----------------+----+----------------+----+
type tuple [36]byte

// inboundTuple returns the flow of a packet that came in. ports is where the
// transport header, which begins with source and destination port, is.
func inboundTuple(ip, ports []byte) (t tuple) {
	copy(t[0:16], ip[24:40])
	copy(t[16:18], ports[2:4])
	copy(t[18:34], ip[8:24])
	copy(t[34:36], ports[0:2])
	return t
}

// outboundTuple returns the flow of a packet that leaves.
func outboundTuple(ip, ports []byte) (t tuple) {
	copy(t[0:16], ip[8:24])
	copy(t[16:18], ports[0:2])
	copy(t[18:34], ip[24:40])
	copy(t[34:36], ports[2:4])
	return t
}

// makeTuple returns the flow between two addresses.
func makeTuple(local, remote netip.AddrPort) (t tuple) {
	l, r := local.Addr().As16(), remote.Addr().As16()
	copy(t[0:16], l[:])
	put16(t[16:], local.Port())
	copy(t[18:34], r[:])
	put16(t[34:], remote.Port())
	return t
}

func (t *tuple) local() netip.AddrPort  { return netip.AddrPortFrom(addrAt(t[0:]), be16(t[16:])) }
func (t *tuple) remote() netip.AddrPort { return netip.AddrPortFrom(addrAt(t[18:]), be16(t[34:])) }

// putIPv6 writes an IPv6 header for length bytes of protocol, leaving the
// addresses as they are.
func putIPv6(b []byte, protocol byte, length int) {
	put32(b, 6<<28)
	put16(b[4:], uint16(length))
	b[6], b[7] = protocol, hopLimit
}

// pseudoSum is the sum of the pseudo header (RFC 8200 section 8.1) of a packet
// with the addresses in ip and length bytes of protocol.
func pseudoSum(ip []byte, protocol byte, length int) uint16 {
	sum := checksum.Checksum(ip[8:40], uint16(protocol))
	sum = checksum.Combine(sum, uint16(length>>16))
	return checksum.Combine(sum, uint16(length))
}

// putChecksum fills the checksum, which is at offset of the transport part of
// an IPv6 packet without extension headers.
func putChecksum(packet []byte, protocol byte, offset int) {
	transport := packet[ipv6HeaderLen:]
	put16(transport[offset:], 0)
	sum := ^checksum.Checksum(transport, pseudoSum(packet, protocol, len(transport)))
	if sum == 0 && protocol == protoUDP {
		sum = 0xffff // zero means none
	}
	put16(transport[offset:], sum)
}

// checksumRight verifies the checksum of the transport part of an IPv6 packet.
func checksumRight(packet []byte, protocol byte) bool {
	transport := packet[ipv6HeaderLen:]
	return checksum.Checksum(transport, pseudoSum(packet, protocol, len(transport))) == 0xffff
}

// clampMSS lowers the maximum segment size in the TCP header of a SYN to what
// fits mtu, and reports whether it did. The checksum is the caller's affair.
func clampMSS(tcp []byte, mtu int) bool {
	limit := mtu - ipv6HeaderLen - tcpHeaderLen
	end := min(int(tcp[12]>>4)*4, len(tcp))
	for i := tcpHeaderLen; i < end; {
		switch tcp[i] {
		case 0:
			return false
		case 1:
			i++
			continue
		}
		if i+1 >= end || tcp[i+1] < 2 || i+int(tcp[i+1]) > end {
			return false
		}
		if tcp[i] == 2 && tcp[i+1] == 4 {
			if int(be16(tcp[i+2:])) <= limit {
				return false
			}
			put16(tcp[i+2:], uint16(limit))
			return true
		}
		i += int(tcp[i+1])
	}
	return false
}

// sackOption returns the selective acknowledgement in a TCP header, nil if there
// is none. Its sequence numbers, two for each block (RFC 2018 section 3), come
// after two bytes.
func sackOption(tcp []byte) []byte {
	b := tcp[tcpHeaderLen:min(max(int(tcp[12]>>4)*4, tcpHeaderLen), len(tcp))]
	for len(b) > 1 && b[0] != 0 {
		if b[0] == 1 {
			b = b[1:]
			continue
		}
		n := int(b[1])
		if n < 2 || n > len(b) {
			return nil
		}
		if b[0] == 5 {
			return b[:n]
		}
		b = b[n:]
	}
	return nil
}

// hideSACK takes the selective acknowledgement out of a TCP header. The checksum
// is the caller's affair.
func hideSACK(tcp []byte) {
	b := sackOption(tcp)
	for i := range b {
		b[i] = 1 // no operation
	}
}

// usableMTU keeps what a link says within what TCP can work with. A link that
// does not know its path yet may say anything; what does not fit one frame is
// carried in several.
func usableMTU(mtu int) int { return max(576, min(mtu, maxPacket)) }

// neighbourOrGroup reports whether an ICMPv6 type is of those that mean
// something on a shared link only: multicast listeners, neighbours, routers.
func neighbourOrGroup(t byte) bool {
	return t >= 130 && t <= 137 || t >= 141 && t <= 143 || t >= 148 && t <= 153
}
