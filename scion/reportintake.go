package scion

import (
	"encoding/binary"
	"math"
)

// report takes an SCMP error. What it says is only heard if it quotes a packet
// that this host can have sent: with its own address and an open port as the
// source, and to where the port has sent lately, on that path.
func (in *intake) report(local *Addr, p Packet, scmp []byte) {
	c := &in.host.counters
	q, ok := p.Quote()
	r, sound := p.report(scmp, q)
	if !ok || !sound || q.SrcIA() != local.IA || q.SrcHost() != local.Host || !q.DstHost().IsValid() {
		c.scmp.Add(1)
		return
	}
	switch next, b := q.NextHeader(), q.Payload(); {
	case next == ProtocolUDP && len(b) >= udpLen:
		in.reportUDP(local, r, q, b)
	case next == ProtocolSCMP && len(b) >= scmpEchoLen && b[0] == scmpEchoRequest:
		in.reportEcho(local, r, p, q, b)
	default:
		c.scmp.Add(1)
	}
}

// report reads the SCMP error scmp in p about the packet q. It is not ok if
// that says what cannot be.
func (p Packet) report(scmp []byte, q Packet) (r Report, ok bool) {
	r = Report{Type: scmp[0], Code: scmp[1], IA: p.SrcIA(), Host: p.SrcHost()}
	// A SNAP reports with 0-0 on both sides, and only who is on the path of the
	// tunnel can send that.
	if r.IA.IsZero() != p.DstIA().IsZero() || !r.IA.IsZero() && r.IA.IsWildcard() || len(scmp) < quoteOffset(r.Type) {
		return r, false
	}
	switch r.Type {
	case scmpPacketTooBig:
		r.MTU = int(binary.BigEndian.Uint16(scmp[6:]))
		return r, q.b != nil && q.size() > r.MTU
	case scmpInterfaceDown:
		var id uint64
		id, r.Egress = interfaceID(scmp[12:])
		return r, IA(binary.BigEndian.Uint64(scmp[4:])) == r.IA && id != 0 && id <= math.MaxUint16
	case scmpConnectivityDown:
		var in, out uint64
		in, r.Ingress = interfaceID(scmp[12:])
		out, r.Egress = interfaceID(scmp[20:])
		return r, IA(binary.BigEndian.Uint64(scmp[4:])) == r.IA && max(in, out) <= math.MaxUint16
	}
	return r, true
}

func interfaceID(b []byte) (whole uint64, id uint16) {
	whole = binary.BigEndian.Uint64(b)
	return whole, uint16(whole)
}

// size returns the length of the packet as its header says, whether or not it
// is all there.
func (p Packet) size() int { return p.headerLen + int(binary.BigEndian.Uint16(p.b[6:])) }

// reportUDP takes an error about a UDP datagram.
func (in *intake) reportUDP(local *Addr, r Report, q Packet, udp []byte) {
	c := &in.host.counters
	r.Port = binary.BigEndian.Uint16(udp)
	r.To = Addr{IA: q.DstIA(), Host: q.DstHost(), Port: binary.BigEndian.Uint16(udp[2:])}
	r.Payload = udp[udpLen:]
	port := in.host.port(local, r.Port)
	if port == nil {
		c.noPort.Add(1)
		return
	}
	var ok bool
	if r.To.Path, ok = port.templates.sentOn(local, r.To, q.hops()); !ok {
		c.scmp.Add(1)
		return
	}
	c.reports.Add(1)
	if r.IA.IsZero() {
		c.snapReports.Add(1)
	}
	if report := in.host.cfg.Report; report != nil {
		report(r)
	}
	if r.Type == scmpUnreachable {
		c.unreachable.Add(1)
		in.add(port, r.To.Origin(), nil)
	}
}

// hops returns the hash of the packet's hop fields, as of the path that it was
// sent on.
func (p Packet) hops() uint64 {
	if p.PathType() != PathSCION {
		return 0
	}
	return hashHops(p.RawPath())
}
