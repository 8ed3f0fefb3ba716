package netstack

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"syscall"
)

// errDecided is returned by the second decision about a flow.
var errDecided = errors.New("flow is already decided")

// A UDPFlow is the first datagram from one address to another. Its handler
// calls either Accept or Refuse; datagrams that come before are kept.
type UDPFlow struct {
	conn  *UDPConn
	quote []byte // the first datagram, for an error to quote
	once  sync.Once
}

// newFlow starts the handler for a datagram that no socket takes.
func (t *udpTable) newFlow(tu tuple, ip, datagram []byte) (reason, bool) {
	s := t.stack
	c := newUDPConn(s, tu)
	c.connected, c.flow = true, true
	t.mu.Lock()
	if t.closed || !t.flows.start(tu) {
		t.mu.Unlock()
		return udpFlowsOverLimit, true
	}
	t.connected[tu] = c
	t.mu.Unlock()
	c.push(datagram[udpHeaderLen:], tu.remote())
	if !s.startHandler() {
		c.Close()
		return udpFlowsOverLimit, true
	}
	s.counters.add(udpFlowsStarted)
	f := &UDPFlow{conn: c, quote: quoteOf(ip, datagram)}
	go func() {
		defer s.handlers.Done()
		defer f.Refuse(syscall.ECONNREFUSED)
		s.cfg.UDP(f)
	}()
	return 0, false
}

// Source returns the client's address.
func (f *UDPFlow) Source() netip.AddrPort { return f.conn.tuple.remote() }

// Target returns the address the client sends to.
func (f *UDPFlow) Target() netip.AddrPort { return f.conn.tuple.local() }

// Accept returns the flow's socket: the first datagram and those after it are
// read from it, and what is written goes to the client in the name of the
// target. The handler closes it.
func (f *UDPFlow) Accept() (*UDPConn, error) {
	err := errDecided
	f.once.Do(func() {
		if err = nil; f.conn.stack.isClosed() {
			f.conn.Close()
			err = net.ErrClosed
		}
	})
	if err != nil {
		return nil, err
	}
	return f.conn, nil
}

// Refuse ends the flow and tells the client why, in an ICMPv6 error from the
// target's address. The next datagram is a new flow.
func (f *UDPFlow) Refuse(err error) {
	f.once.Do(func() {
		s := f.conn.stack
		f.conn.Close()
		s.counters.add(flowsRefused)
		typ, code := icmpOf(err)
		s.sendError(typ, code, f.quote)
	})
}
