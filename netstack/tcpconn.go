package netstack

import (
	"bytes"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/waiter"
)

// A TCPConn is a TCP connection. Its methods may be called concurrently.
// Keepalives are on (60 s, then every 15 s) and there is no Nagle delay.
type TCPConn struct {
	stack         *Stack
	ep            tcpip.Endpoint
	queue         *waiter.Queue
	local, remote *net.TCPAddr

	inEntry, outEntry       waiter.Entry
	readable, writable      chan struct{}
	readTimeout, writeLimit deadline

	readMu sync.Mutex // one reader at a time; guards sink
	sink   tcpip.SliceWriter

	writeMu sync.Mutex // one writer at a time; guards source
	source  bytes.Reader
	sendBuf int  // size of the send buffer
	waited  bool // for room in it, since it last grew
	share   share

	closeOnce sync.Once
	closed    chan struct{}
}

var _ net.Conn = (*TCPConn)(nil)

// newTCPConn makes a connection of an endpoint, which may have ended already
// and forgotten its addresses.
func newTCPConn(s *Stack, wq *waiter.Queue, ep tcpip.Endpoint, t tuple) *TCPConn {
	c := &TCPConn{stack: s, ep: ep, queue: wq, closed: make(chan struct{})}
	c.local, c.remote = net.TCPAddrFromAddrPort(t.local()), net.TCPAddrFromAddrPort(t.remote())
	c.inEntry, c.readable = waiter.NewChannelEntry(waiter.ReadableEvents | waiter.EventHUp | waiter.EventErr)
	c.outEntry, c.writable = waiter.NewChannelEntry(waiter.WritableEvents | waiter.EventHUp | waiter.EventErr)
	wq.EventRegister(&c.inEntry)
	wq.EventRegister(&c.outEntry)
	ep.SocketOptions().SetDelayOption(false)
	s.receiving.add(1)
	c.setSendBuffer(s.shares.first(t.remote().Addr()))
	c.setUserTimeout(userTimeout)
	c.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true})
	return c
}

// Read reads what has arrived, or waits for it. It returns io.EOF after the
// far side's last byte.
func (c *TCPConn) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	c.readMu.Lock()
	defer c.readMu.Unlock()
	for {
		timeout := c.readTimeout.done()
		if err := c.ended(timeout); err != nil {
			return 0, c.opError("read", err)
		}
		c.sink = b
		res, err := c.ep.Read(&c.sink, tcpip.ReadOptions{})
		c.sink = nil
		if err == nil {
			c.ep.ModerateRecvBuf(res.Count)
			return res.Count, nil
		}
		if _, ok := err.(*tcpip.ErrWouldBlock); !ok {
			if _, ok := err.(*tcpip.ErrClosedForReceive); ok && !c.stack.isClosed() {
				return 0, io.EOF
			}
			return 0, c.opError("read", c.own(errorOf(err)))
		}
		if err := c.wait(c.readable, timeout); err != nil {
			return 0, c.opError("read", err)
		}
	}
}

// Write sends b, waiting while too much is unacknowledged.
func (c *TCPConn) Write(b []byte) (int, error) {
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	done := 0
	for {
		timeout := c.writeLimit.done()
		if err := c.ended(timeout); err != nil {
			return done, c.opError("write", err)
		}
		if done == len(b) {
			return done, nil
		}
		c.source.Reset(b[done:])
		n, err := c.ep.Write(&c.source, tcpip.WriteOptions{Atomic: true})
		c.source.Reset(nil)
		done += int(n)
		if err == nil {
			if done == len(b) {
				return done, nil
			}
			continue
		}
		if _, ok := err.(*tcpip.ErrWouldBlock); !ok {
			return done, c.opError("write", c.own(errorOf(err)))
		}
		if c.growSendBuffer() {
			continue
		}
		c.share.waiting.Store(true)
		werr := c.wait(c.writable, timeout)
		c.share.waiting.Store(false)
		if werr != nil {
			return done, c.opError("write", werr)
		}
		c.waited = true
	}
}

// growSendBuffer makes the send buffer, which is full, as large as is this
// connection's share by now, and reports whether it is larger than before.
func (c *TCPConn) growSendBuffer() bool {
	most := c.sendBuf
	if c.waited {
		most *= sendGrowth
	}
	c.waited = false
	size := c.stack.shares.filled(&c.share, c.remote.AddrPort().Addr(), most, c.roundTrip)
	if d := size - c.sendBuf; -c.sendBuf/8 < d && d < c.sendBuf/8 {
		return false
	}
	grows := size > c.sendBuf
	c.setSendBuffer(size)
	return grows
}

// setSendBuffer sets the size of the send buffer, which gVisor then leaves alone.
func (c *TCPConn) setSendBuffer(size int) {
	c.sendBuf = size
	c.ep.SocketOptions().SetSendBufferSize(int64(size), true)
}

// roundTrip returns the smoothed round trip time, or zero.
func (c *TCPConn) roundTrip() time.Duration {
	var info tcpip.TCPInfoOption
	if err := c.ep.GetSockOpt(&info); err != nil {
		return 0
	}
	return info.RTT
}

// wait waits for an event of the endpoint.
func (c *TCPConn) wait(event, timeout <-chan struct{}) error {
	select {
	case <-event:
		return nil
	case <-timeout:
		return os.ErrDeadlineExceeded
	case <-c.closed:
		return net.ErrClosed
	case <-c.stack.done:
		return net.ErrClosed
	}
}

// ended tells whether nothing may be read or written, and why.
func (c *TCPConn) ended(timeout <-chan struct{}) error {
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

// own returns net.ErrClosed for an error that comes of our own closing.
func (c *TCPConn) own(err error) error {
	if isDone(c.closed) || c.stack.isClosed() {
		return net.ErrClosed
	}
	return err
}

func (c *TCPConn) opError(op string, err error) error {
	return &net.OpError{Op: op, Net: "tcp", Source: c.local, Addr: c.remote, Err: err}
}

// CloseWrite sends a FIN after what was written. Reading goes on.
func (c *TCPConn) CloseWrite() error { return c.shutdown(tcpip.ShutdownWrite) }

// CloseRead makes reads return io.EOF. Writing goes on.
func (c *TCPConn) CloseRead() error { return c.shutdown(tcpip.ShutdownRead) }

func (c *TCPConn) shutdown(flags tcpip.ShutdownFlags) error {
	if isDone(c.closed) || c.stack.isClosed() {
		return c.opError("close", net.ErrClosed)
	}
	if err := c.ep.Shutdown(flags); err != nil {
		return c.opError("close", c.own(errorOf(err)))
	}
	return nil
}

// Close closes the connection. What was written is still sent, for at most a
// minute; if something was received that nobody has read, or after
// SetLinger(0), the far side gets a RST.
func (c *TCPConn) Close() error {
	err := c.opError("close", net.ErrClosed)
	c.closeOnce.Do(func() {
		err = nil
		close(c.closed)
		c.setUserTimeout(orphanTimeout)
		c.queue.EventUnregister(&c.inEntry)
		c.queue.EventUnregister(&c.outEntry)
		c.ep.Close()
		c.stack.shares.end(&c.share)
		c.stack.receiving.add(-1)
		c.readTimeout.stop()
		c.writeLimit.stop()
	})
	return err
}

// SetLinger says what Close does with unsent data: with 0 it is discarded and
// the far side gets a RST; otherwise it is sent in the background.
func (c *TCPConn) SetLinger(sec int) error {
	c.ep.SocketOptions().SetLinger(tcpip.LingerOption{Enabled: sec == 0})
	return nil
}

// SetKeepAliveConfig is as for net.TCPConn; the defaults are 60 s of idleness
// and then a probe every 15 s, nine of them.
func (c *TCPConn) SetKeepAliveConfig(k net.KeepAliveConfig) error {
	idle := tcpip.KeepaliveIdleOption(orDefault(k.Idle, keepaliveIdle))
	interval := tcpip.KeepaliveIntervalOption(orDefault(k.Interval, keepaliveInterval))
	count := k.Count
	if count <= 0 {
		count = keepaliveCount
	}
	for _, o := range []tcpip.SettableSocketOption{&idle, &interval} {
		if err := c.ep.SetSockOpt(o); err != nil {
			return c.opError("set", errorOf(err))
		}
	}
	if err := c.ep.SetSockOptInt(tcpip.KeepaliveCountOption, count); err != nil {
		return c.opError("set", errorOf(err))
	}
	c.ep.SocketOptions().SetKeepAlive(k.Enable)
	return nil
}

func orDefault(d, otherwise time.Duration) time.Duration {
	if d <= 0 {
		return otherwise
	}
	return d
}

func (c *TCPConn) setUserTimeout(d time.Duration) {
	o := tcpip.TCPUserTimeoutOption(d)
	c.ep.SetSockOpt(&o) // an endpoint that is gone already needs none
}

// LocalAddr returns the stack's end, a *net.TCPAddr; for an accepted flow that
// is the address the client asked for.
func (c *TCPConn) LocalAddr() net.Addr { return c.local }

// RemoteAddr returns the far end, a *net.TCPAddr.
func (c *TCPConn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline sets the deadlines of reads and writes, those under way included.
func (c *TCPConn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

// SetReadDeadline sets the deadline of reads.
func (c *TCPConn) SetReadDeadline(t time.Time) error { return c.setDeadline(&c.readTimeout, t) }

// SetWriteDeadline sets the deadline of writes.
func (c *TCPConn) SetWriteDeadline(t time.Time) error { return c.setDeadline(&c.writeLimit, t) }

func (c *TCPConn) setDeadline(d *deadline, t time.Time) error {
	if isDone(c.closed) {
		return c.opError("set", net.ErrClosed)
	}
	d.set(t)
	if isDone(c.closed) {
		d.stop()
	}
	return nil
}
