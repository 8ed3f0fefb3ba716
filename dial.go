package snapproxy

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// attemptDelay is how long an attempt has the field for itself before the next
// address is tried beside it (RFC 8305 section 5).
const attemptDelay = 250 * time.Millisecond

// DialContext connects to addr through the exit. network is tcp or udp,
// optionally followed by 4 or 6; addr is HOST:PORT, whose name the exit
// resolves. Errors are as for net.Dial, and tell with errors.Is ECONNREFUSED,
// EHOSTUNREACH, ENETUNREACH, ETIMEDOUT, EACCES (prohibited by the exit's
// policy) and ENETDOWN (a tunnel is down).
func (c *Client) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := c.dial(ctx, network, addr)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Addr: targetAddr{network, addr}, Err: err}
	}
	return conn, nil
}

// targetAddr is a net.Addr of what a caller asked for.
type targetAddr struct{ network, addr string }

func (a targetAddr) Network() string { return a.network }
func (a targetAddr) String() string  { return a.addr }

func (c *Client) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	switch strings.TrimRight(network, "46") {
	case "tcp", "udp":
	default:
		return nil, net.UnknownNetworkError(network)
	}
	host, service, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	port, err := strconv.ParseUint(service, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("port %q: want 0 to 65535", service)
	}
	ctx, stop, err := c.while(ctx)
	if err != nil {
		return nil, err
	}
	defer stop()
	timeout, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	addrs, err := c.resolve(timeout, network, host)
	if err == nil {
		var conn net.Conn
		if conn, err = c.dialAny(timeout, network, addrs, uint16(port)); err == nil {
			return conn, nil
		}
	}
	return nil, cause(ctx, err)
}

// resolve returns the addresses of host in the order in which to try them.
func (c *Client) resolve(ctx context.Context, network, host string) ([]netip.Addr, error) {
	ip, err := netip.ParseAddr(host)
	if err != nil {
		if host == "" || len(host) > 253 || strings.ContainsAny(host, "\x00%") {
			return nil, &net.DNSError{Err: "invalid name", Name: host, IsNotFound: true}
		}
		return c.names.lookup(ctx, network, host)
	}
	ip = ip.Unmap()
	if ip.Zone() != "" {
		return nil, fmt.Errorf("address %s: zones mean nothing at the exit", ip)
	}
	if n := network[len(network)-1]; n == '4' && !ip.Is4() || n == '6' && ip.Is4() {
		return nil, &net.AddrError{Err: "address of another family", Addr: host}
	}
	return []netip.Addr{ip}, nil
}

// dialAny connects to the first of addrs that answers, each a little after the
// one before or as soon as that has failed (RFC 8305). If none does, the error
// is the first one's.
func (c *Client) dialAny(ctx context.Context, network string, addrs []netip.Addr, port uint16) (net.Conn, error) {
	one := func(ctx context.Context, ip netip.Addr) (net.Conn, error) {
		target := netip.AddrPortFrom(toInner(ip), port)
		if network[0] == 'u' {
			return c.stack.DialUDP(target)
		}
		return c.stack.DialTCP(ctx, target)
	}
	if len(addrs) == 1 || network[0] == 'u' {
		return one(ctx, addrs[0])
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		conn net.Conn
		err  error
	}
	results := make(chan result)
	running, next := 0, 0
	start := func() {
		ip := addrs[next]
		next++
		running++
		go func() {
			conn, err := one(ctx, ip)
			results <- result{conn, err}
		}()
	}
	start()
	delay := time.NewTimer(attemptDelay)
	defer delay.Stop()
	var first error
	for running > 0 {
		select {
		case <-delay.C:
			if next < len(addrs) {
				start()
				delay.Reset(attemptDelay)
			}
		case r := <-results:
			running--
			if r.err == nil {
				cancel()
				go func() { // the losers end soon, ctx being cancelled
					for range running {
						if late := <-results; late.err == nil {
							late.conn.Close()
						}
					}
				}()
				return r.conn, nil
			}
			if first == nil {
				first = r.err
			}
			if next < len(addrs) && ctx.Err() == nil {
				start()
				delay.Reset(attemptDelay)
			}
		}
	}
	return nil, first
}
