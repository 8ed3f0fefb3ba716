package netstack

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"syscall"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// DialTCP connects to target. It fails at once when the far side refuses, by
// RST or by an ICMPv6 error, when ctx ends, and when the stack is closed.
func (s *Stack) DialTCP(ctx context.Context, target netip.AddrPort) (*TCPConn, error) {
	c, err := s.dialTCP(ctx, target)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: net.TCPAddrFromAddrPort(target), Err: err}
	}
	return c, nil
}

func (s *Stack) dialTCP(ctx context.Context, target netip.AddrPort) (*TCPConn, error) {
	remote, err := s.fullAddress(target)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var wq waiter.Queue
	ep, terr := s.ipstack.NewEndpoint(tcp.ProtocolNumber, header.IPv6ProtocolNumber, &wq)
	if terr != nil {
		return nil, errorOf(terr)
	}
	entry, writable := waiter.NewChannelEntry(waiter.WritableEvents | waiter.EventErr | waiter.EventHUp)
	wq.EventRegister(&entry)
	defer wq.EventUnregister(&entry)

	s.ports.bind(ep, s.addr)
	terr = ep.Connect(remote)
	if _, ok := terr.(*tcpip.ErrConnectStarted); !ok && terr != nil {
		ep.Close()
		return nil, s.orClosed(errorOf(terr))
	}
	local, _ := ep.GetLocalAddress()
	t := makeTuple(addrPort(local.Addr.As16(), local.Port), target)
	refused := s.dials.wait(t)
	select {
	case <-writable:
		err = s.orClosed(errorOf(ep.LastError()))
	case err = <-refused:
	case <-ctx.Done():
		err = ctx.Err()
	case <-s.done:
		err = net.ErrClosed
	}
	if err != nil {
		ep.Abort()
		s.dials.forget(t)
		return nil, err
	}
	s.dials.forget(t)
	return newTCPConn(s, &wq, ep, t), nil
}

// orClosed returns net.ErrClosed for whatever error a closed stack gives.
func (s *Stack) orClosed(err error) error {
	if err != nil && s.isClosed() {
		return net.ErrClosed
	}
	return err
}

// fullAddress checks that a target can be sent to at all. What no packet may
// be addressed to is refused as an exit's policy would.
func (s *Stack) fullAddress(target netip.AddrPort) (tcpip.FullAddress, error) {
	a := target.Addr()
	switch {
	case s.isClosed():
		return tcpip.FullAddress{}, net.ErrClosed
	case !a.Is6() || a.Is4In6() || a.Zone() != "":
		return tcpip.FullAddress{}, syscall.EAFNOSUPPORT
	case a.IsUnspecified() || a.IsMulticast():
		return tcpip.FullAddress{}, syscall.EACCES
	}
	return tcpip.FullAddress{NIC: nicID, Addr: tcpip.AddrFrom16(a.As16()), Port: target.Port()}, nil
}

// A dialTable holds the SYNs that wait for an answer, so that a refusal in an
// ICMPv6 error is matched to one by its addresses, ports and sequence number:
// nobody but the far side knows the last.
type dialTable struct {
	mu    sync.Mutex // guards what follows; nothing is called with it
	dials map[tuple]pendingDial
}

type pendingDial struct {
	seq     uint32
	refused chan error // holds one
}

func (d *dialTable) init() { d.dials = make(map[tuple]pendingDial) }

// sent notes a SYN that leaves.
func (d *dialTable) sent(t tuple, seq uint32) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if p, ok := d.dials[t]; ok && p.seq == seq {
		return // sent again
	}
	d.dials[t] = pendingDial{seq: seq, refused: make(chan error, 1)}
}

// wait returns the channel on which a refusal of t comes. It is nil if the SYN
// could not be sent.
func (d *dialTable) wait(t tuple) <-chan error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.dials[t].refused
}

// forget ends the wait for t. No SYN of it may leave any more.
func (d *dialTable) forget(t tuple) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.dials, t)
}

// refused reports whether a SYN with that sequence number waits, and tells who
// waits.
func (d *dialTable) refused(t tuple, seq uint32, err error) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	p, ok := d.dials[t]
	if !ok || p.seq != seq {
		return false
	}
	select {
	case p.refused <- err:
	default:
	}
	return true
}
