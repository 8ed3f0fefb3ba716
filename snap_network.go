package snapproxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/snapproxy/snapproxy/scion"
	"github.com/snapproxy/snapproxy/tunnel"
)

// A snapNetwork is the side of a SNAP towards the routers and hosts of its AS.
type snapNetwork struct {
	snap    *SNAP
	routers *scion.Routers
	ports   *snapPorts
	tunnels snapTunnels
	echo    *tunnel.UDP // nil: somebody else answers SCMP echo requests
	batches sync.Pool   // of *snapBatch

	in, out                              atomic.Uint64 // packets from and to the network
	hints, foreign, malformed, misplaced atomic.Uint64 // what was not let in
}

// A snapBatch holds the slices of one batch from the network.
type snapBatch struct {
	to      []netip.AddrPort
	packets [][]byte
}

// newSNAPNetwork makes the network side of a SNAP that has a topology.
func newSNAPNetwork(s *SNAP) (*snapNetwork, error) {
	t := s.cfg.Topology
	if !s.cfg.IA.IsZero() && s.cfg.IA != t.IA {
		return nil, fmt.Errorf("the topology is that of %s, not of %s", t.IA, s.cfg.IA)
	}
	s.cfg.IA = t.IA
	n := &snapNetwork{snap: s, routers: t.RouterTable()}
	n.batches.New = func() any { return new(snapBatch) }
	host, err := n.hostAddr()
	if err != nil {
		return nil, err
	}
	if err := n.checkFamily(host); err != nil {
		return nil, err
	}
	n.ports = newSNAPPorts(host, s.logger)
	n.ports.min, n.ports.max = t.MinPort, t.MaxPort
	n.ports.serve = n.serve
	n.ports.stands = n.tunnels.has
	if err := n.ports.check(); err != nil {
		return nil, err
	}
	n.listenEcho()
	return n, nil
}

// hostAddr returns the host address of the tunnels.
func (n *snapNetwork) hostAddr() (netip.Addr, error) {
	cfg := &n.snap.cfg
	host := cfg.UnderlayAddr.Unmap()
	if !host.IsValid() {
		host = cfg.Listen.Addr().Unmap()
	}
	switch addrs := n.routers.Addrs(); {
	case host.Zone() != "" || host.IsMulticast():
		return netip.Addr{}, fmt.Errorf("%s is no address for SCION hosts", host)
	case !host.IsUnspecified():
		return host, nil
	case len(addrs) == 0:
		return netip.Addr{}, errors.New("the topology has no router towards which to choose an address: which one do tunnels have?")
	default:
		return sourceTowards(addrs[0])
	}
}

// checkFamily holds that routers can be reached from the host address of the
// tunnels.
func (n *snapNetwork) checkFamily(host netip.Addr) error {
	reached := 0
	for _, r := range n.routers.Addrs() {
		if r.Addr().Is4() == host.Is4() {
			reached++
			continue
		}
		n.snap.logger.Warn("router out of reach: its address is of another family than the tunnels'", "router", r, "tunnels", host)
	}
	if reached == 0 && len(n.routers.Addrs()) > 0 {
		return fmt.Errorf("no router is reached from %s, the address of the tunnels: theirs are of another family", host)
	}
	return nil
}

// sourceTowards returns the address of this machine from which datagrams to a
// router leave.
func sourceTowards(router netip.AddrPort) (netip.Addr, error) {
	// Connecting a UDP socket sends nothing.
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(router))
	if err != nil {
		return netip.Addr{}, fmt.Errorf("find the address towards router %s: %w", router, err)
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap(), nil
}

// echoPort is where routers deliver SCMP echo requests.
const echoPort = 30041

// listenEcho binds the port at which the host of the tunnels is asked for an
// echo, which names no tunnel. If somebody else answers on this machine, another
// SNAP or a dispatcher, we do not.
func (n *snapNetwork) listenEcho() {
	addr := netip.AddrPortFrom(n.ports.host, echoPort)
	udp, err := tunnel.ListenUDP(addr, tunnel.UDPConfig{ReceiveBuffer: portBuffer, SendBuffer: portBuffer})
	if err != nil {
		n.snap.logger.Debug("SCMP echo requests are not answered here", "error", err)
		return
	}
	n.echo = udp
}

// close closes what was bound, if run is not called.
func (n *snapNetwork) close() {
	if n.echo != nil {
		n.echo.Close()
	}
}

// run runs f and, beside it, what the network needs.
func (n *snapNetwork) run(ctx context.Context, f func(context.Context) error) error {
	defer n.close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	if n.echo != nil {
		wg.Go(func() { n.answerEcho(ctx) })
	}
	err := n.ports.run(ctx, f)
	cancel()
	wg.Wait()
	return err
}

// answerEcho answers SCMP echo requests that may enter.
func (n *snapNetwork) answerEcho(ctx context.Context) {
	cfg := &n.snap.cfg
	host := scion.NewHost(scion.HostConfig{Underlay: scion.NewDirect(scion.DirectConfig{
		Carrier: n.echo, IA: cfg.IA, Routers: n.routers, ASHosts: cfg.ASHosts,
	})})
	host.SetLocal(scion.Addr{IA: cfg.IA, Host: n.ports.host, Port: echoPort})
	if err := host.Run(ctx); err != nil {
		n.snap.logger.Warn("SCMP echo requests are not answered any more", "error", err)
	}
}

// serve puts what arrives on the port of a tunnel or of the resident into it.
func (n *snapNetwork) serve(ctx context.Context, p *snapPort) error {
	return p.udp.Run(ctx, func(from []netip.AddrPort, packets [][]byte) error {
		batch := n.batches.Get().(*snapBatch)
		defer func() {
			clear(batch.packets)
			batch.to, batch.packets = batch.to[:0], batch.packets[:0]
			n.batches.Put(batch)
		}()
		for i, b := range packets {
			if b, ok := n.accept(p, from[i], b); ok {
				batch.to = append(batch.to, p.origin)
				batch.packets = append(batch.packets, b)
			}
		}
		if len(batch.packets) == 0 {
			return nil
		}
		n.in.Add(uint64(len(batch.packets)))
		if p.resident != nil {
			p.resident.take(batch.packets)
			return nil
		}
		_, err := n.snap.listener.WritePackets(batch.to, batch.packets)
		return err
	})
}

// accept returns the packet of a datagram that may enter the tunnel that has
// the port. Nobody is told why another may not: it may come from anywhere.
func (n *snapNetwork) accept(port *snapPort, from netip.AddrPort, b []byte) ([]byte, bool) {
	if b == nil {
		n.hints.Add(1)
		return nil, false
	}
	cfg := &n.snap.cfg
	if !n.routers.Has(from) && !scion.OpenHost(cfg.ASHosts, from.Addr()) {
		n.foreign.Add(1)
		return nil, false
	}
	p, err := scion.ParsePacket(b)
	if err != nil || p.Truncated() {
		n.malformed.Add(1)
		return nil, false
	}
	if !p.FromUnderlay(cfg.IA, from, n.routers, cfg.ASHosts) {
		n.foreign.Add(1)
		return nil, false
	}
	number, err := p.DeliveryPort()
	if err != nil || p.DstIA() != cfg.IA || p.DstHost() != port.addr.Addr() || number != port.addr.Port() {
		n.misplaced.Add(1)
		return nil, false
	}
	return p.Bytes(), true
}

// changed hears of tunnels that come and go.
func (n *snapNetwork) changed(ev tunnel.PeerEvent[netip.AddrPort]) {
	origin, key := ev.Peer.Origin(), ev.Peer.Key()
	switch {
	case ev.Gone:
		n.tunnels.remove(origin)
		n.ports.gone(origin)
	case n.tunnels.add(origin, key):
		n.ports.confirm(origin)
	default:
		n.ports.refuse(origin, errTooManyTunnels)
		n.ports.drop(origin)
	}
}

// send sends packets from the port of a tunnel. What a port that was closed
// meanwhile cannot send is lost.
func (n *snapNetwork) send(p *snapPort, to []netip.AddrPort, packets [][]byte) (sent int) {
	sent, _ = p.udp.WritePackets(to, packets)
	n.out.Add(uint64(sent))
	return sent
}

func (n *snapNetwork) addCounters(c map[string]uint64) {
	c["snap_no_router"] = n.snap.counters.noRouter.Load()
	c["snap_no_port"] = n.snap.counters.noPort.Load()
	c["snap_network_in"] = n.in.Load()
	c["snap_network_out"] = n.out.Load()
	c["snap_network_hints"] = n.hints.Load()
	c["snap_network_foreign"] = n.foreign.Load()
	c["snap_network_malformed"] = n.malformed.Load()
	c["snap_network_misplaced"] = n.misplaced.Load()
	c["snap_ports"] = uint64(n.ports.len())
	c["snap_ports_refused"] = n.ports.refused.Load()
}
