package socks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestAcceptTellsBoundAddress(t *testing.T) {
	tests := []struct{ bound, reply string }{
		{"192.0.2.1:80", "\x05\x00\x00\x01\xc0\x00\x02\x01\x00\x50"},
		{"[::ffff:192.0.2.1]:80", "\x05\x00\x00\x01\xc0\x00\x02\x01\x00\x50"},
		{"[::1]:443", "\x05\x00\x00\x04" + strings.Repeat("\x00", 15) + "\x01\x01\xbb"},
		{"[::1%lo]:443", "\x05\x00\x00\x04" + strings.Repeat("\x00", 15) + "\x01\x01\xbb"},
		{"", "\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"},
	}
	for _, tt := range tests {
		t.Run(tt.bound, func(t *testing.T) {
			client, req := request(t, Config{}, hello+connect4)
			bound, _ := netip.ParseAddrPort(tt.bound)
			stream, err := req.Accept(bound)
			if err != nil {
				t.Fatal(err)
			}
			stream.Close()
			if got := readAll(t, client); got != tt.reply {
				t.Errorf("reply %q, want %q", got, tt.reply)
			}
		})
	}
}

func TestRefuseTellsReason(t *testing.T) {
	op := func(err error) error {
		return fmt.Errorf("dial: %w", &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", err)})
	}
	tests := []struct {
		err   error
		reply byte
	}{
		{nil, 1},
		{op(syscall.EACCES), 2},
		{op(syscall.ENETUNREACH), 3},
		{op(syscall.EHOSTUNREACH), 4},
		{&net.DNSError{Err: "no such host", Name: "nowhere.test", IsNotFound: true}, 4},
		{op(syscall.ECONNREFUSED), 5},
		{op(syscall.ETIMEDOUT), 6},
		{context.DeadlineExceeded, 6},
		{os.ErrDeadlineExceeded, 6},
		{&net.DNSError{Err: "timeout", IsTimeout: true}, 6},
		{op(syscall.EAFNOSUPPORT), 8},
		{syscall.ENETDOWN, 1},
		{net.ErrClosed, 1},
		{context.Canceled, 1},
		{errSomething, 1},
		{errors.Join(op(syscall.ENETUNREACH), op(syscall.ECONNREFUSED)), 5},
		{errors.Join(op(syscall.ENETUNREACH), op(syscall.EACCES)), 2},
		{errors.Join(op(syscall.ENETUNREACH), op(syscall.ETIMEDOUT)), 6},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprint(tt.err), func(t *testing.T) {
			client, req := request(t, Config{}, hello+connect4+"read ahead by the proxy")
			io.WriteString(client, "never read")
			done := make(chan error, 1)
			go func() { done <- req.Refuse(tt.err) }()
			if got, want := readAll(t, client), "\x05"+string([]byte{tt.reply})+nowhere; got != want {
				t.Errorf("reply %q, want %q", got, want)
			}
			client.Close()
			if err := <-done; err != nil {
				t.Errorf("Refuse: %v", err)
			}
		})
	}
}

func TestBytesReadAheadComeFirst(t *testing.T) {
	for _, watched := range []bool{false, true} {
		t.Run(fmt.Sprintf("watched=%v", watched), func(t *testing.T) {
			client, req := request(t, Config{}, hello+connect4+"early ")
			if watched {
				_, stop := req.Context(t.Context())
				defer stop()
			}
			io.WriteString(client, "late")
			stream, err := req.Accept(netip.AddrPort{})
			if err != nil {
				t.Fatal(err)
			}
			defer stream.Close()
			client.CloseWrite()
			if got, want := readAll(t, stream), "early late"; got != want {
				t.Errorf("stream holds %q, want %q", got, want)
			}
		})
	}
}

func TestContextEndsWithClient(t *testing.T) {
	tests := []struct {
		name  string
		ahead string
		leave func(*net.TCPConn)
		gone  bool
	}{
		{"closed", "", func(c *net.TCPConn) { c.Close() }, true},
		{"half closed with nothing said", "", func(c *net.TCPConn) { c.CloseWrite() }, true},
		{"reset", "", func(c *net.TCPConn) { c.SetLinger(0); c.Close() }, true},
		{"reset after bytes", "ahead", func(c *net.TCPConn) { c.SetLinger(0); c.Close() }, true},
		{"half closed after bytes", "ahead", func(c *net.TCPConn) { c.CloseWrite() }, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			client, req := request(t, Config{}, hello+connect4+tt.ahead)
			ctx, stop := req.Context(t.Context())
			defer stop()
			tt.leave(client)
			if tt.gone {
				<-ctx.Done()
				if got := context.Cause(ctx); got != ErrGone {
					t.Errorf("cause %v, want ErrGone", got)
				}
				req.Refuse(ctx.Err())
				return
			}
			<-req.watch.done // it has seen the end
			if ctx.Err() != nil {
				t.Error("context ended with a client that waits for its answer")
			}
			stream, err := req.Accept(netip.AddrPort{})
			if err != nil {
				t.Fatal(err)
			}
			defer stream.Close()
			if got := readAll(t, stream); got != tt.ahead {
				t.Errorf("stream holds %q, want %q", got, tt.ahead)
			}
			io.WriteString(stream, "answer")
			stream.Close()
			if got := readAll(t, client); got[10:] != "answer" {
				t.Errorf("client got %q, want answer", got)
			}
		})
	}
}

func TestContextEndsWithParent(t *testing.T) {
	_, req := request(t, Config{}, hello+connect4)
	parent, cancel := context.WithCancel(t.Context())
	ctx, stop := req.Context(parent)
	defer stop()
	cancel()
	<-ctx.Done()
	if got := context.Cause(ctx); got != context.Canceled {
		t.Errorf("cause %v, want %v", got, context.Canceled)
	}
}

func TestWatchStopsReadingAtFullBuffer(t *testing.T) {
	client, req := request(t, Config{}, hello+connect4)
	_, stop := req.Context(t.Context())
	defer stop()
	io.WriteString(client, strings.Repeat("x", 8<<10))
	<-req.watch.done // full
	stream, err := req.Accept(netip.AddrPort{})
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	client.CloseWrite()
	if got := len(readAll(t, stream)); got != 8<<10 {
		t.Errorf("stream holds %d bytes, want %d", got, 8<<10)
	}
}

func TestStreamHalfCloses(t *testing.T) {
	client, req := request(t, Config{}, hello+connect4)
	stream, err := req.Accept(netip.AddrPort{})
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	readN(t, client, 10)
	if err := stream.(writeCloser).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	readAll(t, client)
	io.WriteString(client, "still")
	if got := readN(t, stream, 5); got != "still" {
		t.Errorf("read %q after CloseWrite, want still", got)
	}
	if err := stream.(readCloser).CloseRead(); err != nil {
		t.Error(err)
	}
	if n, err := stream.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("Read after CloseRead = %d, %v, want EOF", n, err)
	}
}

func TestStreamClosesWhatCannotBeHalfClosed(t *testing.T) {
	for name, half := range map[string]func(*stream) error{"CloseWrite": (*stream).CloseWrite, "CloseRead": (*stream).CloseRead} {
		t.Run(name, func(t *testing.T) {
			a, b := net.Pipe()
			defer b.Close()
			if err := half(&stream{Conn: a}); err != nil {
				t.Fatal(err)
			}
			b.SetDeadline(time.Now().Add(testLimit))
			readAll(t, b)
		})
	}
}

func TestStreamCanBeReset(t *testing.T) {
	client, req := request(t, Config{}, hello+connect4)
	stream, err := req.Accept(netip.AddrPort{})
	if err != nil {
		t.Fatal(err)
	}
	readN(t, client, 10)
	stream.(interface{ SetLinger(int) error }).SetLinger(0)
	stream.Close()
	if _, err := io.ReadAll(client); err == nil {
		t.Errorf("client sees %v, want a reset", err)
	}
}
