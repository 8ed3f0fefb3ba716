package netstack

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestDialReachesListener(t *testing.T) {
	p := startPair(t, 1312, Config{})
	ln, err := p.exit.ListenTCP(80)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go echoAll(ln)
	c, err := p.client.DialTCP(context.Background(), netip.AddrPortFrom(exitAddr, 80))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	checkEcho(t, c, 5<<20)
	if n := p.clientLink.over.Load() + p.exitLink.over.Load(); n != 0 {
		t.Errorf("%d TCP packets larger than the MTU", n)
	}
}

func TestFlowToAnyTarget(t *testing.T) {
	target := netip.AddrPortFrom(farAddr, 443)
	p := startPair(t, 1312, Config{TCP: func(f *TCPFlow) {
		if f.Target() != target || f.Source().Addr() != clientAddr {
			t.Errorf("flow from %v to %v", f.Source(), f.Target())
		}
		c, err := f.Accept()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		echo(c)
	}})
	c, err := p.client.DialTCP(context.Background(), target)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got := c.RemoteAddr().String(); got != target.String() {
		t.Errorf("RemoteAddr = %s, want %s", got, target)
	}
	checkEcho(t, c, 1<<20)
}

// echoAll serves what a listener accepts until it is closed.
func echoAll(ln net.Listener) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			echo(c)
		}()
	}
}

// echo sends back what it reads, then a FIN.
func echo(c net.Conn) {
	io.Copy(c, c)
	c.(interface{ CloseWrite() error }).CloseWrite()
	io.Copy(io.Discard, c)
}

// checkEcho sends n random bytes, half-closes and expects them back.
func checkEcho(t testing.TB, c *TCPConn, n int64) {
	t.Helper()
	sent := sha256.New()
	done := make(chan error, 1)
	go func() {
		src := io.LimitReader(rand.NewChaCha8([32]byte{1}), n)
		_, err := io.Copy(c, io.TeeReader(src, sent))
		done <- errors.Join(err, c.CloseWrite())
	}()
	received := sha256.New()
	got, err := io.Copy(received, c)
	if err != nil {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if got != n || !bytes.Equal(sent.Sum(nil), received.Sum(nil)) {
		t.Errorf("received %d bytes, want the %d sent", got, n)
	}
}
