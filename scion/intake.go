package scion

import "encoding/binary"

// An intake takes the batches that a host receives apart, one at a time.
type intake struct {
	host  *Host
	paths replyPaths

	// The datagrams at hand, all for one port.
	port    *Port
	from    []Addr
	packets [][]byte

	replies [][]byte // SCMP echo replies of the batch
	bytes   []byte   // which they are in
}

// maxReplies bounds the echo replies to a batch, in bytes. Memory for them is
// allocated at the first request.
const maxReplies = 64 << 10

func newIntake(h *Host) *intake { return &intake{host: h, paths: newReplyPaths()} }

// receive takes a batch of packets: one call of deliver for each run of
// datagrams to the same port.
func (in *intake) receive(packets [][]byte) error {
	c := &in.host.counters
	local := in.host.local.Load()
	if local == nil {
		c.wrongDestination.Add(uint64(len(packets)))
		return nil
	}
	for _, b := range packets {
		p, err := ParsePacket(b)
		if err != nil || p.Truncated() {
			c.malformed.Add(1)
			continue
		}
		in.open(local, p)
	}
	in.flush()
	if len(in.replies) > 0 {
		n, _ := in.host.cfg.Underlay.WritePackets(in.replies) // not sent is lost
		c.echoed.Add(uint64(n))
		clear(in.replies)
		in.replies, in.bytes = in.replies[:0], in.bytes[:0]
	}
	return nil
}

// open looks into a packet.
func (in *intake) open(local *Addr, p Packet) {
	c := &in.host.counters
	next, upper, ok := p.Upper()
	if !ok {
		c.extension.Add(1)
		return
	}
	// A SNAP reports errors with ISD-AS 0-0 on both sides.
	ownIA := p.DstIA() == local.IA || p.DstIA().IsZero() && p.isSCMPError()
	if !ownIA || p.DstHost() != local.Host {
		c.wrongDestination.Add(1)
		return
	}
	switch p.PathType() {
	case PathEmpty, PathSCION:
	default:
		c.pathType.Add(1)
		return
	}
	switch next {
	case ProtocolUDP:
		in.openUDP(local, p, upper)
	case ProtocolSCMP:
		in.openSCMP(local, p, upper)
	default:
		c.protocol.Add(1)
	}
}

func (in *intake) openUDP(local *Addr, p Packet, udp []byte) {
	c := &in.host.counters
	length := 0
	if len(udp) >= udpLen {
		length = int(binary.BigEndian.Uint16(udp[4:]))
	}
	from, ok := in.source(local, p)
	if !ok || length < udpLen || length > len(udp) {
		c.malformed.Add(1)
		return
	}
	udp = udp[:length:length]
	if !sumAccepted(pseudoSum(p.addresses(), uint8(ProtocolUDP), length), udp, udpChecksumAt) {
		c.checksum.Add(1)
		return
	}
	from.Port = binary.BigEndian.Uint16(udp)
	in.add(in.host.port(local, binary.BigEndian.Uint16(udp[2:])), from, udp[udpLen:])
}

// source returns the address that answers go to, without its port. It is not
// ok if none can get there: another AS cannot be reached on the empty path.
func (in *intake) source(local *Addr, p Packet) (Addr, bool) {
	from := Addr{IA: p.SrcIA(), Host: p.SrcHost()}
	if !from.Host.IsValid() || from.Host.Is4In6() || from.IA.IsWildcard() {
		return Addr{}, false
	}
	if p.PathType() == PathEmpty {
		return from, from.IA == local.IA
	}
	from.Path = in.paths.reverse(p.RawPath())
	return from, true
}

// add puts a datagram with those to the same port.
func (in *intake) add(port *Port, from Addr, payload []byte) {
	if port == nil {
		in.host.counters.noPort.Add(1)
		return
	}
	if in.port != port {
		in.flush()
		in.port = port
	}
	in.from = append(in.from, from)
	in.packets = append(in.packets, payload)
}

// flush hands the datagrams at hand to their port.
func (in *intake) flush() {
	if in.port == nil {
		return
	}
	in.port.receive(in.from, in.packets)
	clear(in.packets)
	in.port, in.from, in.packets = nil, in.from[:0], in.packets[:0]
}

func (in *intake) openSCMP(local *Addr, p Packet, scmp []byte) {
	c := &in.host.counters
	if len(scmp) < scmpLen {
		c.malformed.Add(1)
		return
	}
	if !sumAccepted(pseudoSum(p.addresses(), uint8(ProtocolSCMP), len(scmp)), scmp, scmpChecksumAt) {
		c.checksum.Add(1)
		return
	}
	switch typ := scmp[0]; typ {
	case scmpEchoRequest:
		in.echo(local, p, scmp)
	case scmpEchoReply:
		in.echoReply(local, p, scmp)
	case scmpUnreachable, scmpPacketTooBig, scmpParameterProblem, scmpInterfaceDown, scmpConnectivityDown:
		in.report(local, p, scmp)
	default:
		c.scmp.Add(1)
	}
}

// echo answers an SCMP echo request.
func (in *intake) echo(local *Addr, p Packet, scmp []byte) {
	c := &in.host.counters
	to, ok := in.source(local, p)
	if !ok || len(scmp) < scmpEchoLen {
		c.malformed.Add(1)
		return
	}
	if in.bytes == nil {
		in.bytes = make([]byte, 0, maxReplies)
	}
	start := len(in.bytes)
	if start+headerSize(local.Host, to.Host, to.Path)+len(scmp) > cap(in.bytes) {
		c.echoFlood.Add(1)
		return
	}
	b, err := appendHeader(in.bytes, *local, to, ProtocolSCMP, len(scmp))
	if err != nil {
		c.malformed.Add(1)
		return
	}
	reply := len(b)
	b = append(b, scmp...)
	b[reply] = scmpEchoReply
	b[reply+1] = 0
	setSCMPChecksum(b[start+addrOffset:reply-to.Path.Len()], b[reply:])
	in.bytes = b
	in.replies = append(in.replies, b[start:len(b):len(b)])
}
