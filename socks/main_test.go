package socks

import (
	"bufio"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testLimit ends a test that would hang; nothing is timed by it.
const testLimit = 10 * time.Second

// tcpPair returns the two ends of a connection over loopback.
func tcpPair(t testing.TB) (client, server *net.TCPConn) {
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
	s, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); s.Close() })
	c.SetDeadline(time.Now().Add(testLimit))
	return c.(*net.TCPConn), s.(*net.TCPConn)
}

type accepted struct {
	req *Request
	err error
}

// accept runs Accept beside the test.
func accept(conn net.Conn, r *bufio.Reader, cfg Config) <-chan accepted {
	ch := make(chan accepted, 1)
	go func() {
		req, err := Accept(conn, r, cfg)
		ch <- accepted{req, err}
	}()
	return ch
}

// request returns the request in what a client sends.
func request(t testing.TB, cfg Config, sent string) (client *net.TCPConn, req *Request) {
	t.Helper()
	client, server := tcpPair(t)
	io.WriteString(client, sent)
	a := <-accept(server, nil, cfg)
	if a.err != nil {
		t.Fatalf("Accept(%q): %v", sent, a.err)
	}
	if got := readN(t, client, 2); got != "\x05\x00" {
		t.Fatalf("method selection %q, want no authentication", got)
	}
	return client, a.req
}

func readN(t testing.TB, r io.Reader, n int) string {
	t.Helper()
	b := make([]byte, n)
	if k, err := io.ReadFull(r, b); err != nil {
		t.Fatalf("read %d bytes: got %q: %v", n, b[:k], err)
	}
	return string(b)
}

// readAll reads up to the end of the stream, which must not be a reset.
func readAll(t testing.TB, r io.Reader) string {
	t.Helper()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("read to the end: got %q: %v", b, err)
	}
	return string(b)
}

func users(t testing.TB) func(name, password string) bool {
	t.Helper()
	u, err := NewUsers(map[string]string{"alice": "wonderland", "bob": "builder"})
	if err != nil {
		t.Fatal(err)
	}
	return u.Valid
}

var errSomething = errors.New("something")
