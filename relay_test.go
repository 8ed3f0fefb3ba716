package snapproxy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"testing"
)

// tcpPair returns the two ends of a TCP connection on loopback.
func tcpPair(t *testing.T) (a, b *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	d, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); d.Close() })
	return c.(*net.TCPConn), d.(*net.TCPConn)
}

// relayed returns the outer ends of two connections that are relayed.
func relayed(t *testing.T, ctx context.Context) (a, b *net.TCPConn, done chan error) {
	a, near := tcpPair(t)
	far, b := tcpPair(t)
	done = make(chan error, 1)
	go func() {
		_, _, err := relay(ctx, near, far)
		done <- err
	}()
	return a, b, done
}

func TestRelayHalfClose(t *testing.T) {
	a, b, done := relayed(t, t.Context())
	want := bytes.Repeat([]byte("question"), 100000)
	go func() {
		a.Write(want)
		a.CloseWrite()
	}()
	got, err := io.ReadAll(b)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	go func() {
		b.Write(want)
		b.CloseWrite()
	}()
	if got, err = io.ReadAll(a); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%d bytes back, %v", len(got), err)
	}
	if err := <-done; err != nil {
		t.Errorf("relay: %v", err)
	}
}

// A reset on one side is a reset on the other, not an end.
func TestRelayPassesResetOn(t *testing.T) {
	a, b, done := relayed(t, t.Context())
	a.Write([]byte("half a"))
	buf := make([]byte, 6)
	if _, err := io.ReadFull(b, buf); err != nil {
		t.Fatal(err)
	}
	a.SetLinger(0)
	a.Close()
	if _, err := b.Read(buf); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("read after the other side's reset: %v, want a reset", err)
	}
	if err := <-done; err == nil {
		t.Error("relay: nil after a reset")
	}
}

func TestRelayEndsWithContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	a, b, done := relayed(t, ctx)
	cancel()
	<-done
	for _, c := range []net.Conn{a, b} {
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("connection lives on")
		}
	}
}

// plainConn hides everything but net.Conn.
type plainConn struct{ net.Conn }

// A side that cannot be half-closed is closed: its peer hears an end rather
// than waiting for ever.
func TestRelayClosesWhatCannotBeHalfClosed(t *testing.T) {
	a, near := tcpPair(t)
	far, b := tcpPair(t)
	go relay(t.Context(), near, plainConn{far})
	a.Write([]byte("x"))
	a.CloseWrite()
	if got, err := io.ReadAll(b); err != nil || string(got) != "x" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestWishRefusesWhatCannotBeDialled(t *testing.T) {
	refused := errors.New("no")
	var got error
	w := wish{
		accept: func(net.Addr) (net.Conn, error) { t.Error("accepted"); return nil, nil },
		refuse: func(err error) error { got = err; return nil },
	}
	_, _, err := w.serve(t.Context(), func(context.Context, string) (net.Conn, error) { return nil, refused })
	if got != refused || err != refused {
		t.Errorf("refused with %v, served with %v", got, err)
	}
}
