package snapproxy

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/snapproxy/snapproxy/httpconnect"
	"github.com/snapproxy/snapproxy/socks"
)

const (
	// handshakeTimeout is what a proxy client has until its request is whole.
	handshakeTimeout = 10 * time.Second
	socksVersion     = 5
	// readAhead is what is read ahead of a request and, while the target is
	// dialled, behind it. No SOCKS message is longer.
	readAhead = 1 << 10
)

// errTooMany refuses a stream beyond ClientConfig.MaxPerUser.
var errTooMany = fmt.Errorf("too many connections of one user: %w", syscall.EACCES)

// ServeProxy serves SOCKS5 and HTTP proxy clients, told apart by the first
// byte, on the connections of ln until ctx ends. It closes ln, whose keepalives
// notice dead clients.
func (c *Client) ServeProxy(ctx context.Context, ln net.Listener) error {
	return acceptAll(ctx, ln, c.logger, func(conn net.Conn) {
		defer conn.Close()
		if !c.limits.take() {
			return
		}
		defer c.limits.give()
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		c.serveProxy(ctx, conn)
	})
}

func (c *Client) serveProxy(ctx context.Context, conn net.Conn) {
	stop := context.AfterFunc(ctx, func() { abort(conn) })
	defer stop()
	deadline := time.Now().Add(handshakeTimeout)
	conn.SetDeadline(deadline)
	r := bufio.NewReaderSize(conn, readAhead)
	first, err := r.Peek(1)
	if err != nil {
		return
	}
	if first[0] == socksVersion {
		c.serveSOCKS(ctx, conn, r, time.Until(deadline))
		return
	}
	c.http.ServeConnBefore(ctx, &peekedConn{Conn: conn, r: r}, deadline)
}

// A peekedConn is a connection some of whose bytes have been read ahead.
type peekedConn struct {
	net.Conn
	r *bufio.Reader // nil once its bytes are read
}

func (c *peekedConn) Read(b []byte) (int, error) {
	if c.r != nil {
		if n := c.r.Buffered(); n > 0 {
			return c.r.Read(b[:min(n, len(b))])
		}
		c.r = nil
	}
	return c.Conn.Read(b)
}

// CloseWrite ends the writing side, as closeWrite does.
func (c *peekedConn) CloseWrite() error { return closeWrite(c.Conn) }

// CloseRead ends the reading side where that exists.
func (c *peekedConn) CloseRead() error { closeRead(c.Conn); return nil }

// SetLinger is that of net.TCPConn, so that the connection can be reset.
func (c *peekedConn) SetLinger(sec int) error {
	if l, ok := c.Conn.(interface{ SetLinger(int) error }); ok {
		return l.SetLinger(sec)
	}
	return nil
}

func (c *Client) serveSOCKS(ctx context.Context, conn net.Conn, r *bufio.Reader, timeout time.Duration) {
	req, err := socks.Accept(conn, r, socks.Config{Users: c.cfg.Users, HandshakeTimeout: timeout})
	if err != nil {
		c.logger.Debug("SOCKS handshake", "client", conn.RemoteAddr(), "error", err)
		return
	}
	if !c.limits.takeUser(req.User) {
		req.Refuse(errTooMany)
		return
	}
	defer c.limits.giveUser(req.User)
	if req.Command == socks.Associate {
		c.associate(ctx, conn, req)
		return
	}
	c.serveWish(ctx, req.Context, "socks", req.User, wish{
		target: req.Target(),
		accept: func(local net.Addr) (net.Conn, error) { return req.Accept(addrPort(local)) },
		refuse: req.Refuse,
	})
}

// serveWish serves a wish. asking gives the context of the dial, which ends
// when the asker goes away.
func (c *Client) serveWish(ctx context.Context, asking func(context.Context) (context.Context, context.CancelFunc), kind, user string, w wish) {
	begin := time.Now()
	sent, received, err := w.serve(ctx, func(ctx context.Context, target string) (net.Conn, error) {
		ctx, stop := asking(ctx)
		defer stop()
		return c.dial(ctx, "tcp", target)
	})
	if c.logger.Enabled(ctx, slog.LevelDebug) {
		c.logger.Debug("flow ended", "kind", kind, "user", user, "target", w.target, "sent", sent, "received", received,
			"duration", time.Since(begin), "error", err)
	}
}

func (c *Client) newHTTP() *httpconnect.Server {
	return httpconnect.NewServer(httpconnect.Config{
		Users:  c.cfg.Users,
		Dial:   c.dial,
		Relay:  func(ctx context.Context, client, target net.Conn) { relay(ctx, client, target) },
		Logger: c.logger,
		Connect: func(ctx context.Context, req *httpconnect.Request) {
			if !c.limits.takeUser(req.User) {
				req.Refuse(errTooMany)
				return
			}
			defer c.limits.giveUser(req.User)
			// ctx is that of the asker already.
			c.serveWish(ctx, context.WithCancel, "http", req.User, wish{
				target: req.Target(),
				accept: func(local net.Addr) (net.Conn, error) { return req.Accept(addrPort(local)) },
				refuse: req.Refuse,
			})
		},
	})
}

// Forward carries each connection of ln to target, a HOST:PORT that the exit
// resolves, until ctx ends. It closes ln.
func (c *Client) Forward(ctx context.Context, ln net.Listener, target string) error {
	if _, _, err := net.SplitHostPort(target); err != nil {
		return fmt.Errorf("forward to %q: %w", target, err)
	}
	return acceptAll(ctx, ln, c.logger, func(conn net.Conn) {
		defer conn.Close()
		if !c.limits.take() {
			abort(conn)
			return
		}
		defer c.limits.give()
		stop := context.AfterFunc(ctx, func() { abort(conn) })
		defer stop()
		c.serveWish(ctx, context.WithCancel, "forward", "", wish{
			target: target,
			accept: func(net.Addr) (net.Conn, error) { return conn, nil },
			refuse: func(error) error { abort(conn); return nil },
		})
	})
}

// addrPort returns the address of a, or the zero one if it has none.
func addrPort(a net.Addr) netip.AddrPort {
	switch a := a.(type) {
	case *net.TCPAddr:
		p := a.AddrPort()
		return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
	case *net.UDPAddr:
		p := a.AddrPort()
		return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
	}
	return netip.AddrPort{}
}
