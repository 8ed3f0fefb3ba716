package netstack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/net/nettest"
)

var farPort = netip.AddrPortFrom(farAddr, 443)

// acceptAnd returns a handler that accepts every flow and serves it.
func acceptAnd(t testing.TB, serve func(*TCPConn)) func(*TCPFlow) {
	return func(f *TCPFlow) {
		c, err := f.Accept()
		if errors.Is(err, net.ErrClosed) {
			return // the test has ended
		}
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		serve(c)
	}
}

func dial(t testing.TB, p *pair, target netip.AddrPort) *TCPConn {
	t.Helper()
	c, err := p.client.DialTCP(context.Background(), target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestConnBehavesLikeNetConn(t *testing.T) {
	accepted := make(chan *TCPConn)
	p := startPair(t, 1312, Config{TCP: func(f *TCPFlow) {
		c, err := f.Accept()
		if err != nil {
			t.Error(err)
		}
		accepted <- c
	}})
	nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
		near, err := p.client.DialTCP(context.Background(), farPort)
		if err != nil {
			return nil, nil, nil, err
		}
		far := <-accepted
		return near, far, func() {
			near.Close()
			far.Close()
		}, nil
	})
}

func TestHalfClose(t *testing.T) {
	const n = 300_000
	send := func(c *TCPConn) error {
		_, err := io.Copy(struct{ io.Writer }{c}, io.LimitReader(rand.NewChaCha8([32]byte{2}), n))
		return errors.Join(err, c.CloseWrite())
	}
	receive := func(c *TCPConn) error {
		got, err := io.Copy(io.Discard, struct{ io.Reader }{c})
		if err == nil && got != n {
			err = fmt.Errorf("received %d bytes, want %d", got, n)
		}
		return err
	}
	for _, tt := range []struct {
		name         string
		client, exit []func(*TCPConn) error
	}{
		{"client first", []func(*TCPConn) error{send, receive}, []func(*TCPConn) error{receive, send}},
		{"exit first", []func(*TCPConn) error{receive, send}, []func(*TCPConn) error{send, receive}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			far := make(chan error, 1)
			p := startPair(t, 1312, Config{TCP: acceptAnd(t, func(c *TCPConn) {
				var errs []error
				for _, step := range tt.exit {
					errs = append(errs, step(c))
				}
				far <- errors.Join(errs...)
			})})
			c := dial(t, p, farPort)
			for _, step := range tt.client {
				if err := step(c); err != nil {
					t.Error(err)
				}
			}
			if err := <-far; err != nil {
				t.Error(err)
			}
		})
	}
}

func TestTransferOverLoss(t *testing.T) {
	drop := func(seed byte) func([]byte) bool {
		r := rand.New(rand.NewChaCha8([32]byte{seed}))
		return func([]byte) bool { return r.IntN(100) != 0 }
	}
	p := startPair(t, 1312, Config{TCP: acceptAnd(t, func(c *TCPConn) { echo(c) })}, func(p *pair) {
		p.clientLink.filter, p.exitLink.filter = drop(1), drop(2)
	})
	checkEcho(t, dial(t, p, farPort), 2<<20)
}

// TestMTUChangesUnderTransfer changes what fits a frame every few hundred
// packets. Nothing tells TCP of it: what it sends is cut to the new size.
func TestMTUChangesUnderTransfer(t *testing.T) {
	sizes := []int64{1400, 1212, 576, 1300, 9000, 1280}
	var sent int64
	var seen [10000]atomic.Bool
	p := startPair(t, 1400, Config{TCP: acceptAnd(t, func(c *TCPConn) { echo(c) })}, func(p *pair) {
		p.clientLink.filter = func(b []byte) bool {
			seen[len(b)].Store(true)
			sent++
			p.clientLink.mtu.Store(sizes[sent/400%int64(len(sizes))])
			return true
		}
	})
	checkEcho(t, dial(t, p, farPort), 8<<20)
	different := 0
	for _, n := range sizes {
		if seen[n].Load() {
			different++
		}
	}
	if different < 3 {
		t.Errorf("full packets of %d sizes, want most of %v", different, sizes)
	}
	if n := p.clientLink.lost.Load() + p.exitLink.lost.Load(); n != 0 {
		t.Errorf("%d packets lost by the link", n)
	}
}

func TestManyConnections(t *testing.T) {
	p := startPair(t, 1312, Config{TCP: acceptAnd(t, func(c *TCPConn) { echo(c) })})
	var wg sync.WaitGroup
	for range 500 {
		wg.Go(func() {
			c, err := p.client.DialTCP(context.Background(), farPort)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			checkEcho(t, c, 64<<10)
		})
	}
	wg.Wait()
	if n := len(p.client.dials.dials); n != 0 {
		t.Errorf("%d dials remembered after they ended", n)
	}
	if p.exit.flows.count.total != 0 || len(p.exit.flows.waiting) != 0 {
		t.Errorf("%d flows remembered after they were decided", p.exit.flows.count.total)
	}
}

func TestConnsFailWithErrClosedAfterRun(t *testing.T) {
	link, _ := newPair(1312)
	s, err := New(Config{Addr: exitAddr, Link: link})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := s.ListenTCP(80)
	if err != nil {
		t.Fatal(err)
	}
	u, err := s.ListenUDP(0)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	errs := make(chan error, 3)
	go func() { _, err := ln.Accept(); errs <- err }()
	go func() { _, err := u.Read(make([]byte, 1)); errs <- err }()
	go func() { _, err := s.DialTCP(context.Background(), farPort); errs <- err }()
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run = %v", err)
	}
	for range cap(errs) {
		if err := <-errs; !errors.Is(err, net.ErrClosed) {
			t.Errorf("error = %v, want net.ErrClosed", err)
		}
	}
	if _, err := s.DialTCP(context.Background(), farPort); !errors.Is(err, net.ErrClosed) {
		t.Errorf("dial = %v, want net.ErrClosed", err)
	}
	if _, err := s.ListenTCP(1); !errors.Is(err, net.ErrClosed) {
		t.Errorf("listen = %v, want net.ErrClosed", err)
	}
	if _, err := s.ListenUDP(1); !errors.Is(err, net.ErrClosed) {
		t.Errorf("listen UDP = %v, want net.ErrClosed", err)
	}
}

func TestLingerZeroResets(t *testing.T) {
	far := make(chan error, 1)
	p := startPair(t, 1312, Config{TCP: acceptAnd(t, func(c *TCPConn) {
		c.Write([]byte("accepted"))
		_, err := c.Read(make([]byte, 1))
		far <- err
	})})
	c := dial(t, p, farPort)
	if _, err := io.ReadFull(c, make([]byte, len("accepted"))); err != nil {
		t.Fatal(err)
	}
	c.SetLinger(0)
	c.Close()
	if err := <-far; !errors.Is(err, errReset) {
		t.Errorf("read after RST = %v, want ECONNRESET", err)
	}
	if _, err := c.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("write after Close = %v, want net.ErrClosed", err)
	}
}

func TestCloseRead(t *testing.T) {
	p := startPair(t, 1312, Config{TCP: acceptAnd(t, func(c *TCPConn) { io.Copy(io.Discard, c) })})
	c := dial(t, p, farPort)
	if err := c.CloseRead(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("read after CloseRead = %v, want EOF", err)
	}
	if _, err := c.Write([]byte("still")); err != nil {
		t.Errorf("write after CloseRead: %v", err)
	}
}
