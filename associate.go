package snapproxy

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/snapproxy/snapproxy/socks"
)

const (
	// maxTargets bounds the targets of an association; the one that has been
	// silent longest makes room.
	maxTargets = 256
	// maxDatagram is the largest payload of UDP over IPv4, and so of what a
	// client can be sent.
	maxDatagram = 65507
	// maxWaiting bounds the datagrams that wait for the lookup of their name.
	maxWaiting = 16
	// maxLookups bounds the lookups of an association at a time.
	maxLookups = 64
	// nameLifetime is how long an association keeps the address of a name.
	nameLifetime = 60 * time.Second
)

// An association is a SOCKS UDP association: a socket towards the client, one
// in the tunnel towards all targets.
type association struct {
	client *Client
	near   *net.UDPConn
	far    packetConn
	peerIP netip.Addr // the client's address

	mu      sync.Mutex     // guards what follows
	peer    netip.AddrPort // where the client sends from, once known
	targets map[netip.AddrPort]*assocTarget
	names   map[string]*assocName
	looking int // lookups under way
}

// An assocTarget is an address that datagrams went to.
type assocTarget struct {
	asked socks.Addr // as the client named it, which answers repeat
	last  time.Time  // of the last datagram in either direction
}

// An assocName is a name that datagrams go to. The datagrams that came before
// its address is known wait.
type assocName struct {
	addr    netip.Addr // invalid while it is looked up
	until   time.Time
	waiting []waitingDatagram
}

type waitingDatagram struct {
	asked   socks.Addr
	payload []byte
}

// associate serves a UDP association until its TCP connection or ctx ends.
func (c *Client) associate(ctx context.Context, conn net.Conn, req *socks.Request) {
	if up := c.tunnelUp(); up.Err() != nil {
		req.Refuse(context.Cause(up))
		return
	}
	local, remote := addrPort(conn.LocalAddr()), addrPort(conn.RemoteAddr())
	near, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(local.Addr(), 0)))
	if err != nil {
		req.Refuse(err)
		return
	}
	defer near.Close()
	far, err := c.stack.ListenUDP(0)
	if err != nil {
		req.Refuse(err)
		return
	}
	defer far.Close()
	a := &association{
		client: c, near: near, far: far, peerIP: remote.Addr(),
		targets: make(map[netip.AddrPort]*assocTarget),
		names:   make(map[string]*assocName),
	}
	if req.Addr.Port != 0 {
		a.peer = netip.AddrPortFrom(remote.Addr(), req.Addr.Port)
	}
	stream, err := req.Accept(addrPort(near.LocalAddr()))
	if err != nil {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { a.outbound(ctx, &wg) })
	wg.Go(a.inbound)
	io.Copy(io.Discard, stream)
	cancel()
	near.Close()
	far.Close()
	wg.Wait()
}

// outbound carries datagrams from the client to the targets.
func (a *association) outbound(ctx context.Context, lookups *sync.WaitGroup) {
	buf := make([]byte, 64<<10)
	for {
		n, from, err := a.near.ReadFromUDPAddrPort(buf)
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			continue // an ICMP error about an earlier datagram
		}
		from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		if !a.fromClient(from) {
			a.client.counters.foreignDatagrams.Add(1)
			continue
		}
		target, payload, err := socks.ParseDatagram(buf[:n])
		if err != nil {
			a.client.counters.badDatagrams.Add(1)
			continue
		}
		if ip := target.AddrPort(); ip.IsValid() {
			a.send(ip, target, payload)
			continue
		}
		a.sendByName(ctx, lookups, target, payload)
	}
}

// fromClient reports whether a datagram is the client's: from its address, and
// from the port that it announced or else used first.
func (a *association) fromClient(from netip.AddrPort) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if from.Addr() != a.peerIP {
		return false
	}
	if !a.peer.IsValid() {
		a.peer = from
	}
	return from == a.peer
}

// send sends to a target and remembers how the client named it.
func (a *association) send(to netip.AddrPort, asked socks.Addr, payload []byte) {
	now := time.Now()
	a.mu.Lock()
	t := a.targets[to]
	if t == nil {
		a.makeRoom(now)
		t = new(assocTarget)
		a.targets[to] = t
	}
	t.asked, t.last = asked, now
	a.mu.Unlock()
	// What cannot be sent is lost, as on any link.
	a.far.WriteToUDPAddrPort(payload, netip.AddrPortFrom(toInner(to.Addr()), to.Port()))
}

// makeRoom forgets idle targets and, if that is not enough, the one that has
// been silent longest. It is called with mu held.
func (a *association) makeRoom(now time.Time) {
	if len(a.targets) < maxTargets {
		return
	}
	var oldest netip.AddrPort
	for to, t := range a.targets {
		if now.Sub(t.last) > idleFor(to.Port()) {
			delete(a.targets, to)
		} else if !oldest.IsValid() || t.last.Before(a.targets[oldest].last) {
			oldest = to
		}
	}
	if len(a.targets) >= maxTargets {
		delete(a.targets, oldest)
	}
}

// sendByName sends to a name, at once if its address is known.
func (a *association) sendByName(ctx context.Context, lookups *sync.WaitGroup, asked socks.Addr, payload []byte) {
	a.mu.Lock()
	n := a.names[asked.Name]
	if n != nil && n.addr.IsValid() && time.Now().Before(n.until) {
		to := netip.AddrPortFrom(n.addr, asked.Port)
		a.mu.Unlock()
		a.send(to, asked, payload)
		return
	}
	looking := n != nil && !n.addr.IsValid()
	if !looking && (a.looking >= maxLookups || a.client.tunnelUp().Err() != nil) {
		a.mu.Unlock()
		a.client.counters.unresolvedDatagrams.Add(1)
		return
	}
	if !looking {
		a.looking++
		if len(a.names) >= maxTargets {
			clear(a.names)
		}
		n = new(assocName)
		a.names[asked.Name] = n
	}
	if len(n.waiting) < maxWaiting {
		n.waiting = append(n.waiting, waitingDatagram{asked, append([]byte(nil), payload...)})
	} else {
		a.client.counters.waitingDatagrams.Add(1)
	}
	a.mu.Unlock()
	if !looking {
		lookups.Go(func() {
			a.lookup(ctx, asked.Name, n)
			a.mu.Lock()
			a.looking--
			a.mu.Unlock()
		})
	}
}

// lookup finds the address of a name and sends what waits for it.
func (a *association) lookup(ctx context.Context, name string, n *assocName) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	addrs, err := a.client.resolve(ctx, "udp", name)
	a.mu.Lock()
	waiting := n.waiting
	n.waiting = nil
	if err != nil {
		if a.names[name] == n {
			delete(a.names, name)
		}
		a.mu.Unlock()
		a.client.counters.unresolvedDatagrams.Add(uint64(len(waiting)))
		return
	}
	n.addr, n.until = datagramAddr(addrs), time.Now().Add(nameLifetime)
	a.mu.Unlock()
	for _, w := range waiting {
		a.send(netip.AddrPortFrom(n.addr, w.asked.Port), w.asked, w.payload)
	}
}

// datagramAddr chooses the address of a name for datagrams. Nothing tells
// whether a datagram could leave the exit, so the family that every exit has
// goes first.
func datagramAddr(addrs []netip.Addr) netip.Addr {
	for _, ip := range addrs {
		if ip.Is4() {
			return ip
		}
	}
	return addrs[0]
}

// inbound carries the targets' datagrams to the client. Only targets that the
// client sent to may answer.
func (a *association) inbound() {
	buf := make([]byte, socks.MaxHeaderLen+64<<10)
	for {
		n, from, err := a.far.ReadFromUDPAddrPort(buf[socks.MaxHeaderLen:])
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			continue // an ICMP error: an unreachable target never ends the association
		}
		from = netip.AddrPortFrom(fromInner(from.Addr()), from.Port())
		a.mu.Lock()
		t, peer := a.targets[from], a.peer
		var asked socks.Addr
		if t != nil {
			asked, t.last = t.asked, time.Now()
		}
		a.mu.Unlock()
		header := socks.HeaderLen(asked)
		if t == nil || header+n > maxDatagram {
			a.client.counters.undeliveredDatagrams.Add(1)
			continue
		}
		start := socks.MaxHeaderLen - header
		socks.AppendHeader(buf[start:start], asked)
		a.near.WriteToUDPAddrPort(buf[start:socks.MaxHeaderLen+n], peer)
	}
}
