package scion

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
)

// A Carrier moves datagrams between UDP addresses, as a socket does.
type Carrier interface {
	// Run receives until ctx ends and hands batches to deliver, one after the
	// other. The slices are parallel; they and the bytes are lent until deliver
	// returns. A nil packet is a hint that from[i] may be unreachable. IPv4
	// addresses are not in IPv6-mapped form.
	Run(ctx context.Context, deliver func(from []netip.AddrPort, packets [][]byte) error) error
	// WritePackets sends packets[i] to to[i] and returns how many were sent. It
	// never blocks, and is safe for concurrent use. The error is for a carrier
	// that will not send again.
	WritePackets(to []netip.AddrPort, packets [][]byte) (n int, err error)
}

// DirectConfig configures a Direct.
type DirectConfig struct {
	// Carrier is the socket of the host: the address it is bound to is the
	// host's SCION address.
	Carrier Carrier
	// IA is the AS that the host is in.
	IA IA
	// Routers are the border routers of the AS. SetRouters replaces them.
	Routers *Routers
	// ASHosts are the hosts of the AS with which packets are exchanged without a
	// router between. If nil, none.
	ASHosts []netip.Prefix
	// Logger is told of changes of the routers. If nil, nothing is logged.
	Logger *slog.Logger
}

// A Direct is the Underlay of a host in an AS with border routers: a packet
// goes to the router that owns the interface by which it leaves the AS. Within
// the AS it goes to its destination itself, but only to an opened host. What
// comes from anywhere else than these is dropped.
type Direct struct {
	cfg      DirectConfig
	logger   *slog.Logger
	routers  atomic.Pointer[Routers]
	batches  sync.Pool // of *directBatch
	counters directCounters
}

var _ Underlay = (*Direct)(nil)

// directCounters counts what is dropped.
type directCounters struct {
	malformed, pathType, noRouter, closedHost atomic.Uint64 // of our own
	foreign, bad, hints                       atomic.Uint64 // of what came in
}

// A directBatch holds the slices of a call of WritePackets.
type directBatch struct {
	to      []netip.AddrPort
	packets [][]byte
}

// NewDirect makes an underlay over a carrier. Run starts it.
func NewDirect(cfg DirectConfig) *Direct {
	d := &Direct{cfg: cfg, logger: cfg.Logger}
	if d.logger == nil {
		d.logger = slog.New(slog.DiscardHandler)
	}
	d.routers.Store(cfg.Routers)
	d.batches.New = func() any { return new(directBatch) }
	return d
}

// SetRouters replaces the routers. It may be called at any time.
func (d *Direct) SetRouters(r *Routers) {
	d.routers.Store(r)
	d.logger.Debug("routers changed", "routers", r.Addrs())
}

// Run implements Underlay.
func (d *Direct) Run(ctx context.Context, deliver func(packets [][]byte) error) error {
	var accepted [][]byte
	return d.cfg.Carrier.Run(ctx, func(from []netip.AddrPort, packets [][]byte) error {
		accepted = accepted[:0]
		routers := d.routers.Load()
		for i, b := range packets {
			if d.accept(routers, from[i], b) {
				accepted = append(accepted, b)
			}
		}
		if len(accepted) == 0 {
			return nil
		}
		err := deliver(accepted)
		clear(accepted)
		return err
	})
}

// accept reports whether a datagram may enter.
func (d *Direct) accept(routers *Routers, from netip.AddrPort, b []byte) bool {
	if b == nil { // anybody can forge it, and paths tell when they fall silent
		d.counters.hints.Add(1)
		return false
	}
	if !routers.Has(from) && !OpenHost(d.cfg.ASHosts, from.Addr()) {
		d.counters.foreign.Add(1)
		return false
	}
	p, err := ParsePacket(b)
	if err != nil {
		d.counters.bad.Add(1)
		return false
	}
	if !p.FromUnderlay(d.cfg.IA, from, routers, d.cfg.ASHosts) {
		d.counters.foreign.Add(1)
		return false
	}
	return true
}

// FromUnderlay reports whether a datagram with the packet that came from a UDP
// address may enter a host of the AS ia: routers bring packets on paths, and
// hosts of the AS only their own on the empty path.
func (p Packet) FromUnderlay(ia IA, from netip.AddrPort, routers *Routers, hosts []netip.Prefix) bool {
	if p.PathType() == PathEmpty {
		return p.SrcIA() == ia && p.DstIA() == ia && p.SrcHost() == from.Addr() && OpenHost(hosts, from.Addr())
	}
	return routers.Has(from)
}

// WritePackets implements Underlay. What has no way out is dropped and counted.
func (d *Direct) WritePackets(packets [][]byte) (n int, err error) {
	batch := d.batches.Get().(*directBatch)
	defer func() {
		clear(batch.packets)
		batch.to, batch.packets = batch.to[:0], batch.packets[:0]
		d.batches.Put(batch)
	}()
	routers := d.routers.Load()
	for _, b := range packets {
		p, err := ParsePacket(b)
		if err != nil || p.Truncated() {
			d.counters.malformed.Add(1)
			continue
		}
		if to, ok := d.nextHop(routers, p); ok {
			batch.to = append(batch.to, to)
			batch.packets = append(batch.packets, p.Bytes())
		}
	}
	if len(batch.packets) == 0 {
		return 0, nil
	}
	return d.cfg.Carrier.WritePackets(batch.to, batch.packets)
}

// nextHop returns where a packet of ours goes first.
func (d *Direct) nextHop(routers *Routers, p Packet) (netip.AddrPort, bool) {
	switch p.PathType() {
	case PathEmpty:
		port, err := p.HostPort()
		to := netip.AddrPortFrom(p.DstHost(), port)
		if err != nil || port == 0 || p.DstIA() != d.cfg.IA || !OpenHost(d.cfg.ASHosts, to.Addr()) {
			d.counters.closedHost.Add(1)
			return netip.AddrPort{}, false
		}
		return to, true
	case PathSCION:
		id, _ := p.Egress()
		to, ok := routers.Owner(id)
		if !ok {
			d.counters.noRouter.Add(1)
		}
		return to, ok
	}
	d.counters.pathType.Add(1)
	return netip.AddrPort{}, false
}

// dispatcherPort is where hosts without a SNAP take what is for no port of a
// program.
const dispatcherPort = 30041

// HostPort returns the UDP port to which a packet is sent at its destination
// host, if that is an ordinary one and not behind a SNAP: as DeliveryPort, but
// SCMP requests go to the host itself, on port 30041.
func (p Packet) HostPort() (uint16, error) {
	port, err := p.DeliveryPort()
	if typ, _, ok := p.SCMP(); err == nil && ok && (typ == scmpEchoRequest || typ == scmpTracerouteRequest) {
		return dispatcherPort, nil
	}
	return port, err
}

// UnknownEgress returns code and pointer of the Parameter Problem that says of a
// packet with a path of type SCION that nobody knows the interface by which it
// leaves, as routers say it: the interface is that of ingress or egress in the
// direction in which the segment was made.
func (p Packet) UnknownEgress() (code uint8, pointer uint32) {
	raw := p.RawPath()
	m := mustParseMeta(raw)
	hop := m.currHF
	i, last := m.segment(hop)
	if last && m.info(raw, i)[0]&infoPeer == 0 && hop+1 < m.hops { // a crossing of segments
		hop++
		i, _ = m.segment(hop)
	}
	code = scmpUnknownIngress
	if m.info(raw, i)[0]&infoConsDir != 0 {
		code = scmpUnknownEgress
	}
	return code, uint32(p.pathOffset() + metaLen + m.segments*infoLen + hop*hopLen)
}

const (
	scmpTracerouteRequest = 130
	scmpUnknownIngress    = 49
)

// OpenHost reports whether a host of the AS is in one of the prefixes that were
// opened. What is no address of one host is in none, nor is one in IPv4-mapped
// form, and the machine itself (127.0.0.0/8, ::1) only in one of its own.
func OpenHost(opened []netip.Prefix, a netip.Addr) bool {
	for _, p := range opened {
		if p.Contains(a) && (!a.IsLoopback() || p.Addr().IsLoopback()) {
			return checkHost(a) == nil
		}
	}
	return false
}

// Counters returns how many packets were dropped, by reason. The names are
// stable.
func (d *Direct) Counters() map[string]uint64 {
	c := &d.counters
	return map[string]uint64{
		"malformed":   c.malformed.Load(),
		"path_type":   c.pathType.Load(),
		"no_router":   c.noRouter.Load(),
		"closed_host": c.closedHost.Load(),
		"foreign":     c.foreign.Load(),
		"bad":         c.bad.Load(),
		"hints":       c.hints.Load(),
	}
}
