package netstack

import (
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
)

const (
	// maxUDPQueue bounds what waits in a socket, in bytes, where a datagram
	// counts datagramOverhead more than its payload.
	maxUDPQueue      = 2 << 20
	datagramOverhead = 256

	// MaxDatagram is the largest payload of a UDP datagram over IPv6.
	MaxDatagram = 65527
)

// A UDPConn is a UDP socket. Datagrams are whole, from 0 to MaxDatagram bytes.
// Its methods may be called concurrently.
type UDPConn struct {
	stack     *Stack
	tuple     tuple // the remote half is zero unless connected
	connected bool
	flow      bool // counted among the flows of an exit

	ready                   chan struct{} // has a token when there is something to read
	readTimeout, writeLimit deadline

	mu     sync.Mutex // guards what follows; never held while calling out
	queue  []datagram
	head   int // first of queue that is not read
	bytes  int
	failed error // by ICMPv6, told once
	done   bool

	closed chan struct{}
}

type datagram struct {
	payload *buffer.View // nil: empty
	from    netip.AddrPort
}

var _ net.Conn = (*UDPConn)(nil)

func newUDPConn(s *Stack, t tuple) *UDPConn {
	return &UDPConn{stack: s, tuple: t, ready: make(chan struct{}, 1), closed: make(chan struct{})}
}

// push queues a copy of payload, or reports that there is no room.
func (c *UDPConn) push(payload []byte, from netip.AddrPort) bool {
	var v *buffer.View
	if len(payload) > 0 {
		v = buffer.NewView(len(payload))
		v.Write(payload)
	}
	c.mu.Lock()
	if c.done || c.bytes >= maxUDPQueue {
		c.mu.Unlock()
		if v != nil {
			v.Release()
		}
		return false
	}
	if c.head == len(c.queue) {
		c.queue, c.head = c.queue[:0], 0
	} else if c.head > 64 && c.head > len(c.queue)/2 {
		n := copy(c.queue, c.queue[c.head:])
		clear(c.queue[n:])
		c.queue, c.head = c.queue[:n], 0
	}
	c.queue = append(c.queue, datagram{v, from})
	c.bytes += len(payload) + datagramOverhead
	c.mu.Unlock()
	c.wake()
	return true
}

// fail makes the next read or write return err.
func (c *UDPConn) fail(err error) {
	c.mu.Lock()
	c.failed = err
	c.mu.Unlock()
	c.wake()
}

func (c *UDPConn) wake() {
	select {
	case c.ready <- struct{}{}:
	default:
	}
}

// pop takes what is next, or reports that there is nothing.
func (c *UDPConn) pop() (d datagram, err error, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failed != nil {
		err, c.failed = c.failed, nil
		return d, err, true
	}
	if c.head == len(c.queue) {
		return d, nil, false
	}
	d = c.queue[c.head]
	c.queue[c.head] = datagram{}
	c.head++
	c.bytes -= datagramOverhead
	if d.payload != nil {
		c.bytes -= d.payload.Size()
	}
	if c.head < len(c.queue) {
		c.wake()
	}
	return d, nil, true
}

// ReadFromUDPAddrPort reads the next datagram. If b is too short for it, what
// fits is returned with io.ErrShortBuffer and the rest is lost.
func (c *UDPConn) ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error) {
	for {
		timeout := c.readTimeout.done()
		if err := c.ended(timeout); err != nil {
			return 0, netip.AddrPort{}, c.opError("read", err)
		}
		d, err, ok := c.pop()
		switch {
		case !ok:
		case err != nil:
			return 0, netip.AddrPort{}, c.opError("read", err)
		case d.payload == nil:
			return 0, d.from, nil
		default:
			n := copy(b, d.payload.AsSlice())
			if n < d.payload.Size() {
				err = io.ErrShortBuffer
			}
			d.payload.Release()
			return n, d.from, err
		}
		select {
		case <-c.ready:
		case <-timeout:
		case <-c.closed:
		case <-c.stack.done:
		}
	}
}

// Read reads the next datagram, as ReadFromUDPAddrPort does.
func (c *UDPConn) Read(b []byte) (int, error) {
	n, _, err := c.ReadFromUDPAddrPort(b)
	return n, err
}

// WriteToUDPAddrPort sends b as one datagram. A connected socket sends to its
// remote address only.
func (c *UDPConn) WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error) {
	if c.connected {
		return 0, c.opError("write", net.ErrWriteToConnected)
	}
	if _, err := c.stack.fullAddress(to); err != nil {
		return 0, c.opError("write", err)
	}
	if to.Port() == 0 {
		return 0, c.opError("write", syscall.EINVAL)
	}
	t := makeTuple(c.tuple.local(), to)
	return c.send(b, &t)
}

// Write sends b as one datagram to the remote address of a connected socket.
func (c *UDPConn) Write(b []byte) (int, error) {
	if !c.connected {
		return 0, c.opError("write", syscall.EDESTADDRREQ)
	}
	c.mu.Lock()
	err := c.failed
	c.failed = nil
	c.mu.Unlock()
	if err != nil {
		return 0, c.opError("write", err)
	}
	return c.send(b, &c.tuple)
}

func (c *UDPConn) send(b []byte, t *tuple) (int, error) {
	if err := c.ended(c.writeLimit.done()); err != nil {
		return 0, c.opError("write", err)
	}
	if err := c.stack.sendUDP(t, b); err != nil {
		return 0, c.opError("write", err)
	}
	return len(b), nil
}

func (c *UDPConn) ended(timeout <-chan struct{}) error {
	select {
	case <-c.closed:
		return net.ErrClosed
	case <-c.stack.done:
		return net.ErrClosed
	case <-timeout:
		return os.ErrDeadlineExceeded
	default:
		return nil
	}
}

func (c *UDPConn) opError(op string, err error) error {
	e := &net.OpError{Op: op, Net: "udp", Source: c.LocalAddr(), Err: err}
	if c.connected {
		e.Addr = c.RemoteAddr()
	}
	return e
}

// Close closes the socket.
func (c *UDPConn) Close() error {
	c.mu.Lock()
	if c.done {
		c.mu.Unlock()
		return c.opError("close", net.ErrClosed)
	}
	c.done = true
	close(c.closed)
	for _, d := range c.queue[c.head:] {
		if d.payload != nil {
			d.payload.Release()
		}
	}
	c.queue, c.head, c.bytes = nil, 0, 0
	c.mu.Unlock()
	c.stack.udp.remove(c)
	c.readTimeout.stop()
	c.writeLimit.stop()
	return nil
}

// LocalAddr returns the socket's address, a *net.UDPAddr; for an accepted flow
// that is the address the client asked for.
func (c *UDPConn) LocalAddr() net.Addr { return net.UDPAddrFromAddrPort(c.tuple.local()) }

// RemoteAddr returns the far end, a *net.UDPAddr, or nil if the socket is not
// connected.
func (c *UDPConn) RemoteAddr() net.Addr {
	if !c.connected {
		return nil
	}
	return net.UDPAddrFromAddrPort(c.tuple.remote())
}

// SetDeadline sets both deadlines.
func (c *UDPConn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

// SetReadDeadline sets the deadline of reads, those under way included.
func (c *UDPConn) SetReadDeadline(t time.Time) error { return c.setDeadline(&c.readTimeout, t) }

// SetWriteDeadline sets the deadline after which writes fail.
func (c *UDPConn) SetWriteDeadline(t time.Time) error { return c.setDeadline(&c.writeLimit, t) }

func (c *UDPConn) setDeadline(d *deadline, t time.Time) error {
	if isDone(c.closed) {
		return c.opError("set", net.ErrClosed)
	}
	d.set(t)
	if isDone(c.closed) {
		d.stop()
	}
	return nil
}
