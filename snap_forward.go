package snapproxy

import (
	"net/netip"

	"github.com/snapproxy/snapproxy/scion"
	"github.com/snapproxy/snapproxy/tunnel/snaptun"
)

// A forwarder holds the slices of one batch out of tunnels. It belongs to the
// goroutine that receives.
type forwarder struct {
	snap     *SNAP
	resident *resident // whose packets these are; nil: they came out of tunnels

	// The tunnel that the packet at hand came out of, and its SCION address.
	origin netip.AddrPort
	self   netip.AddrPort
	port   *snapPort // nil: the SNAP stands alone, or there was none to have

	// The tunnel that was looked up last.
	asked  netip.AddrPort
	found  *snapPort // if the SNAP has ports
	stands bool      // else

	// What goes into tunnels.
	to      []netip.AddrPort
	packets [][]byte
	errs    []byte // SCMP errors
	groups  grouping

	// What goes to the resident of the SNAP.
	house *resident // nil: there is none
	home  [][]byte

	// What goes to the network, in runs from the same port.
	runs       []snapRun
	outTo      []netip.AddrPort
	outPackets [][]byte
}

// A snapRun is how many of the packets to the network leave from a port.
type snapRun struct {
	port *snapPort
	n    int
}

// forward takes a batch of packets out of tunnels and puts those that pass
// into the tunnels that their destinations name, or sends them on their paths.
func (f *forwarder) forward(from []*snaptun.Peer[netip.AddrPort], packets [][]byte) error {
	f.begin()
	for i, b := range packets {
		if origin := from[i].Origin(); i == 0 || origin != f.origin {
			f.enter(origin)
		}
		if !f.self.IsValid() {
			f.snap.counters.noPort.Add(1)
			continue
		}
		f.route(b)
	}
	_, err := f.flush()
	return err
}

// begin begins a batch.
func (f *forwarder) begin() {
	f.to, f.packets, f.errs = f.to[:0], f.packets[:0], f.errs[:0]
	f.runs, f.outTo, f.outPackets = f.runs[:0], f.outTo[:0], f.outPackets[:0]
	f.asked, f.found, f.port = netip.AddrPort{}, nil, nil
	f.house, f.home = f.snap.resident.Load(), f.home[:0]
}

// flush sends what came of the batch. It returns how many packets got away to
// tunnels and to the network.
func (f *forwarder) flush() (n int, err error) {
	begin := 0
	for _, r := range f.runs {
		end := begin + r.n
		n += f.snap.network.send(r.port, f.outTo[begin:end], f.outPackets[begin:end])
		begin = end
	}
	if len(f.packets) > 0 {
		sent, err := f.snap.listener.WritePackets(f.groups.sort(f.to, f.packets))
		n += sent
		if err != nil {
			return n, err
		}
	}
	switch {
	case len(f.home) == 0:
	case f.resident != nil: // it may be in a call
		f.resident.takeLater(f.home)
	default:
		f.house.take(f.home)
	}
	return n, nil
}

// enter turns to the packets of a tunnel.
func (f *forwarder) enter(origin netip.AddrPort) {
	f.origin, f.self = origin, origin
	if n := f.snap.network; n != nil {
		f.self = netip.AddrPort{}
		if f.port = n.ports.of(origin); f.port != nil {
			f.self = f.port.addr
		}
	} else if f.house != nil && origin == f.house.port.addr {
		f.self = netip.AddrPort{}
	}
}

// SCMP codes and pointers of what a SNAP refuses; the codes of snap.md §5.1.
const (
	scmpUnreachable, scmpParameterProblem = 1, 4

	codeNoRoute            = 0
	codeAddressUnreachable = 3
	codeMalformed          = 16
	codePathType           = 20
	codeSource             = 33
	codeDestination        = 34

	pathTypePointer = 8
	dstIAPointer    = 12
)

// route decides what becomes of the packet b.
func (f *forwarder) route(b []byte) {
	s := f.snap
	p, err := scion.ParsePacket(b)
	if err != nil || p.Truncated() {
		s.counters.malformed.Add(1)
		f.refuse(b, scmpParameterProblem, codeMalformed, 0)
		return
	}
	if !f.ownSource(p) {
		s.counters.spoofed.Add(1)
		f.refuse(b, scmpParameterProblem, codeSource, uint32(p.SrcHostOffset()))
		return
	}
	switch typ := p.PathType(); {
	case typ != scion.PathEmpty && typ != scion.PathSCION:
		s.counters.pathType.Add(1)
		f.refuse(b, scmpParameterProblem, codePathType, pathTypePointer)
	case typ == scion.PathEmpty && p.DstIA() == s.cfg.IA:
		f.within(p)
	case typ == scion.PathEmpty || s.network == nil:
		s.counters.noRoute.Add(1)
		f.refuse(b, scmpUnreachable, codeNoRoute, 0)
	case p.DstIA() == s.cfg.IA: // a router would say the same
		s.counters.noRoute.Add(1)
		f.refuse(b, scmpParameterProblem, codeDestination, dstIAPointer)
	default:
		f.leave(p)
	}
}

// within takes a packet to its destination in the AS: another tunnel, or a host
// that is open to tunnels. Nothing else of what this machine can reach is.
func (f *forwarder) within(p scion.Packet) {
	s := f.snap
	number, err := p.DeliveryPort()
	to := netip.AddrPortFrom(p.DstHost(), number)
	if err != nil || to == s.Addr() {
		s.counters.undeliverable.Add(1)
		return
	}
	if f.house != nil && to == f.house.port.addr {
		f.home = append(f.home, p.Bytes())
		return
	}
	if origin, ok := f.tunnel(to); ok {
		f.to = append(f.to, origin)
		f.packets = append(f.packets, p.Bytes())
		return
	}
	if n := s.network; n != nil && f.found == nil && scion.OpenHost(s.cfg.ASHosts, to.Addr()) {
		if number, err = p.HostPort(); err == nil && number != 0 {
			f.send(p, netip.AddrPortFrom(to.Addr(), number))
			return
		}
	}
	s.counters.undeliverable.Add(1)
	f.refuse(p.Bytes(), scmpUnreachable, codeAddressUnreachable, 0)
}

// tunnel returns the origin of the tunnel that has a SCION address.
func (f *forwarder) tunnel(a netip.AddrPort) (origin netip.AddrPort, ok bool) {
	s := f.snap
	if s.network == nil {
		if a != f.asked {
			f.asked, f.stands = a, s.listener.Peer(a) != nil
		}
		return a, f.stands
	}
	if a != f.asked {
		f.asked, f.found = a, s.network.ports.at(a)
	}
	p := f.found
	if p == nil {
		return netip.AddrPort{}, false
	}
	// Between the first packet of a tunnel and word of it there is a moment.
	return p.origin, p.confirmed.Load() || s.listener.Peer(p.origin) != nil
}

// leave takes a packet to the router by which it leaves the AS.
func (f *forwarder) leave(p scion.Packet) {
	s := f.snap
	id, ok := p.Egress()
	if !ok { // the path ends here
		s.counters.noRoute.Add(1)
		f.refuse(p.Bytes(), scmpUnreachable, codeNoRoute, 0)
		return
	}
	router, ok := s.network.routers.Owner(id)
	if !ok {
		s.counters.noRouter.Add(1)
		code, pointer := p.UnknownEgress()
		f.refuse(p.Bytes(), scmpParameterProblem, code, pointer)
		return
	}
	f.send(p, router)
}

// send puts a packet with those that leave from the port of its tunnel, so that
// what a router answers finds the way.
func (f *forwarder) send(p scion.Packet, to netip.AddrPort) {
	f.outTo = append(f.outTo, to)
	f.outPackets = append(f.outPackets, p.Bytes())
	if n := len(f.runs); n > 0 && f.runs[n-1].port == f.port {
		f.runs[n-1].n++
		return
	}
	f.runs = append(f.runs, snapRun{f.port, 1})
}

// ownSource reports whether a packet's source is the tunnel it came out of:
// ISD-AS, host and port, for SCMP errors the destination of what they quote.
func (f *forwarder) ownSource(p scion.Packet) bool {
	if p.SrcIA() != f.snap.cfg.IA || p.SrcHost() != f.self.Addr() {
		return false
	}
	port, err := p.SourcePort()
	return err == nil && port == f.self.Port()
}

// refuse answers a packet with an SCMP error through its own tunnel, unless it
// is an SCMP error itself.
func (f *forwarder) refuse(b []byte, typ, code uint8, info uint32) {
	start := len(f.errs)
	errs, err := scion.AppendSCMPError(f.errs, scion.SCMPError{
		Type: typ, Code: code, Info: info,
		Src: scion.Addr{IA: f.snap.cfg.IA, Host: f.snap.host()},
		Dst: scion.Addr{IA: f.snap.cfg.IA, Host: f.self.Addr()},
	}, b)
	if err != nil { // an error that is about an error, above all
		return
	}
	f.errs = errs
	if f.resident != nil {
		f.home = append(f.home, errs[start:len(errs):len(errs)])
		return
	}
	f.to = append(f.to, f.origin)
	f.packets = append(f.packets, errs[start:len(errs):len(errs)])
}

// host is the SNAP's own host address. A wildcard address stands for itself:
// what matters is that it is none of a tunnel's.
func (s *SNAP) host() netip.Addr { return s.Addr().Addr() }
