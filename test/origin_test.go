//go:build unix

package test

import (
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// An origin is a server that the exit reaches.
type origin struct {
	addr     string // HOST:PORT
	accepted atomic.Int64
}

// serveTCP serves each connection to addr with serve, which need not close it.
func serveTCP(t *testing.T, addr string, serve func(*net.TCPConn)) *origin {
	t.Helper()
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	o := &origin{addr: ln.Addr().String()}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			o.accepted.Add(1)
			go func() {
				defer c.Close()
				serve(c.(*net.TCPConn))
			}()
		}
	}()
	return o
}

// echo returns what it gets, and ends its side when the other has.
func echo(c *net.TCPConn) {
	io.Copy(c, c)
	c.CloseWrite()
}

func echoServer(t *testing.T) *origin { t.Helper(); return serveTCP(t, "127.0.0.1:0", echo) }

// handOver serves by handing connections to the test.
func handOver(t *testing.T) (*origin, <-chan *net.TCPConn) {
	t.Helper()
	conns := make(chan *net.TCPConn, 16)
	done := make(chan struct{})
	o := serveTCP(t, "127.0.0.1:0", func(c *net.TCPConn) {
		conns <- c
		<-done
	})
	t.Cleanup(func() { close(done) })
	return o, conns
}

// next is the next connection that was handed over.
func next(t *testing.T, conns <-chan *net.TCPConn) *net.TCPConn {
	t.Helper()
	select {
	case c := <-conns:
		c.SetDeadline(time.Now().Add(patience))
		return c
	case <-time.After(patience):
		t.Fatal("nothing connects to the origin")
		return nil
	}
}

// closedPort is an address of loopback that refuses connections.
func closedPort(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// silentPort is an address of loopback that does not answer connection
// attempts: the queue of its listener is full.
func silentPort(t *testing.T) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	syscall.CloseOnExec(fd)
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	sa, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	addr := netip.AddrPortFrom(netip.AddrFrom4(sa.(*syscall.SockaddrInet4).Addr), uint16(sa.(*syscall.SockaddrInet4).Port)).String()
	for range 8 {
		c, err := net.DialTimeout("tcp", addr, 500*time.Millisecond)
		if err != nil {
			return addr
		}
		t.Cleanup(func() { c.Close() })
	}
	t.Skip("this kernel answers although the queue of a listener is full")
	return ""
}

// A udpOrigin answers datagrams.
type udpOrigin struct {
	*net.UDPConn
	addr     string
	received atomic.Int64
}

// serveUDP answers each datagram with what answer makes of it; nil: nothing.
func serveUDP(t *testing.T, addr string, answer func([]byte) []byte) *udpOrigin {
	t.Helper()
	c, err := net.ListenPacket("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	o := &udpOrigin{UDPConn: c.(*net.UDPConn), addr: c.LocalAddr().String()}
	t.Cleanup(func() { c.Close() })
	go func() {
		buf := make([]byte, 64<<10)
		for {
			n, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			o.received.Add(1)
			if b := answer(buf[:n]); b != nil {
				c.WriteTo(b, from)
			}
		}
	}()
	return o
}

func same(b []byte) []byte { return b }

func udpEcho(t *testing.T) *udpOrigin { t.Helper(); return serveUDP(t, "127.0.0.1:0", same) }
