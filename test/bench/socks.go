//go:build linux

package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"
)

// dialPatience bounds a connection through a proxy up to its reply.
const dialPatience = 15 * time.Second

// dialSOCKS connects to an IPv4 target through a SOCKS5 proxy (RFC 1928).
func dialSOCKS(ctx context.Context, proxy string, target netip.AddrPort) (*net.TCPConn, error) {
	d := net.Dialer{Timeout: dialPatience}
	conn, err := d.DialContext(ctx, "tcp4", proxy)
	if err != nil {
		return nil, err
	}
	c := conn.(*net.TCPConn)
	c.SetDeadline(time.Now().Add(dialPatience))
	if err := converse(c, target); err != nil {
		c.SetLinger(0)
		c.Close()
		return nil, fmt.Errorf("proxy %s: %w", proxy, err)
	}
	c.SetDeadline(time.Time{})
	return c, nil
}

func converse(c io.ReadWriter, target netip.AddrPort) error {
	if _, err := c.Write([]byte{5, 1, 0}); err != nil {
		return err
	}
	var b [22]byte
	if _, err := io.ReadFull(c, b[:2]); err != nil {
		return err
	}
	if b[0] != 5 || b[1] != 0 {
		return errors.New("it wants authentication")
	}
	ip := target.Addr().As4()
	ask := append([]byte{5, 1, 0, 1}, ip[:]...)
	if _, err := c.Write(binary.BigEndian.AppendUint16(ask, target.Port())); err != nil {
		return err
	}
	if _, err := io.ReadFull(c, b[:4]); err != nil {
		return err
	}
	if b[1] != 0 {
		return fmt.Errorf("reply %d", b[1])
	}
	rest := 4 + 2
	if b[3] == 4 {
		rest = 16 + 2 // bound to an IPv6 address
	}
	_, err := io.ReadFull(c, b[:rest])
	return err
}

// serveSOCKS is the front of the peers: SOCKS5 without authentication, CONNECT
// to IPv4 targets, and a copy each way, as in wireproxy.
func serveSOCKS(l net.Listener, dial func(ctx context.Context, target netip.AddrPort) (net.Conn, error)) error {
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			target, err := readSOCKS(c)
			if err != nil {
				return
			}
			ctx, cancel := context.WithTimeout(context.Background(), dialPatience)
			defer cancel()
			far, err := dial(ctx, target)
			if err != nil {
				c.Write([]byte{5, 5, 0, 1, 0, 0, 0, 0, 0, 0})
				return
			}
			defer far.Close()
			if _, err := c.Write([]byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0}); err == nil {
				relay(c, far)
			}
		}()
	}
}

func readSOCKS(c net.Conn) (netip.AddrPort, error) {
	var b [257]byte
	if _, err := io.ReadFull(c, b[:2]); err != nil {
		return netip.AddrPort{}, err
	}
	if _, err := io.ReadFull(c, b[2:2+int(b[1])]); err != nil {
		return netip.AddrPort{}, err
	}
	if _, err := c.Write([]byte{5, 0}); err != nil {
		return netip.AddrPort{}, err
	}
	if _, err := io.ReadFull(c, b[:10]); err != nil {
		return netip.AddrPort{}, err
	}
	if b[1] != 1 || b[3] != 1 {
		return netip.AddrPort{}, errors.New("not CONNECT to an IPv4 address")
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), binary.BigEndian.Uint16(b[8:])), nil
}

// relay copies both ways until both have ended, or one has failed.
func relay(a, b net.Conn) {
	done := make(chan struct{}, 2)
	pipe := func(to, from net.Conn) {
		if _, err := io.Copy(to, from); err != nil {
			if c, ok := to.(*net.TCPConn); ok {
				c.SetLinger(0)
			}
			to.Close()
			from.Close()
		} else if c, ok := to.(interface{ CloseWrite() error }); ok {
			c.CloseWrite()
		}
		done <- struct{}{}
	}
	go pipe(a, b)
	go pipe(b, a)
	<-done
	<-done
}

// forward carries what is accepted to a target.
func forward(l net.Listener, target string) error {
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			far, err := net.DialTimeout("tcp", target, dialPatience)
			if err != nil {
				return
			}
			defer far.Close()
			relay(c, far)
		}()
	}
}
