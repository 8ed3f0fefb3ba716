package snapproxy

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/snapproxy/snapproxy/netstack"
)

// exitDialTimeout is shorter than the client's, so that the client hears the
// exit's verdict and not its own impatience.
const exitDialTimeout = 12 * time.Second

// maxFlows bounds the TCP connections of one client's key at a time.
const maxFlows = 8192

// Idle times of UDP flows: questions are answered soon, QUIC pings, and the
// rest is kept a minute.
const (
	udpIdle     = 60 * time.Second
	udpIdleDNS  = 10 * time.Second
	udpIdleQUIC = 30 * time.Second
)

// tcp serves one TCP flow: the target is dialled first, so that the client
// learns of a refusal as one.
func (e *Exit) tcp(f *netstack.TCPFlow) {
	growStack()
	ctx := e.group.ctx
	prefix, _ := f.Source().Addr().Prefix(innerPrefixBits)
	key := prefix.String()
	if !e.limits.takeUser(key) {
		f.Refuse(errTooMany)
		return
	}
	defer e.limits.giveUser(key)
	target := netip.AddrPortFrom(fromInner(f.Target().Addr()), f.Target().Port())
	w := wish{
		target: target.String(),
		accept: func(net.Addr) (net.Conn, error) { return f.Accept() },
		refuse: func(err error) error { f.Refuse(err); return nil },
	}
	begin := time.Now()
	sent, received, err := w.serve(ctx, func(ctx context.Context, _ string) (net.Conn, error) {
		return e.dial(ctx, target)
	})
	if e.logger.Enabled(ctx, slog.LevelDebug) {
		e.logger.Debug("flow ended", "client", f.Source(), "target", target, "sent", sent, "received", received,
			"duration", time.Since(begin), "error", err)
	}
}

// dial connects to a target that policy admits.
func (e *Exit) dial(ctx context.Context, target netip.AddrPort) (net.Conn, error) {
	if err := e.policy.check(target.Addr()); err != nil {
		return nil, err
	}
	if target.Port() == 0 {
		return nil, syscall.ECONNREFUSED
	}
	d := net.Dialer{Timeout: exitDialTimeout, KeepAliveConfig: net.KeepAliveConfig{
		Enable: true, Idle: 60 * time.Second, Interval: 15 * time.Second, Count: -1,
	}}
	c, err := d.DialContext(ctx, "tcp", target.String())
	if err != nil {
		return nil, portable(err)
	}
	return c, nil
}

// udp serves one UDP flow until it is idle. A target that does not answer, or
// refuses, does not end it.
func (e *Exit) udp(f *netstack.UDPFlow) {
	ctx := e.group.ctx
	target := netip.AddrPortFrom(fromInner(f.Target().Addr()), f.Target().Port())
	if err := e.policy.check(target.Addr()); err != nil {
		f.Refuse(err)
		return
	}
	far, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(target))
	if err != nil {
		f.Refuse(portable(err))
		return
	}
	near, err := f.Accept()
	if err != nil {
		far.Close()
		return
	}
	relayDatagrams(ctx, near, far, idleFor(target.Port()))
}

func idleFor(port uint16) time.Duration {
	switch port {
	case 53:
		return udpIdleDNS
	case 443:
		return udpIdleQUIC
	}
	return udpIdle
}

// relayDatagrams copies whole datagrams both ways until neither side has sent
// one for idle or ctx ends, then closes both.
func relayDatagrams(ctx context.Context, a, b net.Conn, idle time.Duration) {
	stop := context.AfterFunc(ctx, func() {
		a.Close()
		b.Close()
	})
	defer stop()
	var last atomic.Int64 // unix nanoseconds of the last datagram of either side
	last.Store(time.Now().UnixNano())
	pipe := func(dst, src net.Conn) {
		defer dst.Close()
		defer src.Close()
		buf := relayBuffers.Get().(*[relayBufferSize]byte)
		defer relayBuffers.Put(buf)
		for {
			src.SetReadDeadline(time.Unix(0, last.Load()).Add(idle))
			n, err := src.Read(buf[:])
			switch {
			case err == nil:
				last.Store(time.Now().UnixNano())
				dst.Write(buf[:n]) // a datagram that cannot be sent is lost, as on any link
			case errors.Is(err, net.ErrClosed):
				return
			case isTimeout(err):
				if time.Since(time.Unix(0, last.Load())) >= idle {
					return
				}
			case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EMSGSIZE):
				// What an ICMP error said about an earlier datagram.
			default:
				return
			}
		}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		pipe(a, b)
	}()
	pipe(b, a)
	<-done
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}
