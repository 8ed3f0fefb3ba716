package httpconnect

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testLimit ends a test that would hang; nothing is timed by it.
const testLimit = 10 * time.Second

var errSomething = errors.New("something")

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
	s.SetDeadline(time.Now().Add(testLimit))
	return c.(*net.TCPConn), s.(*net.TCPConn)
}

// start serves one client until the test ends.
func start(t testing.TB, cfg Config) *net.TCPConn {
	t.Helper()
	client, server := tcpPair(t)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		NewServer(cfg).ServeConn(ctx, server)
	}()
	t.Cleanup(func() {
		client.Close()
		cancel()
		<-done
	})
	return client
}

// An origin is a target that the test plays itself.
type origin struct {
	t     testing.TB
	conns chan *net.TCPConn

	mu     sync.Mutex
	dialed []string
}

func newOrigin(t testing.TB) *origin {
	return &origin{t: t, conns: make(chan *net.TCPConn, 16)}
}

func (o *origin) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	o.mu.Lock()
	o.dialed = append(o.dialed, addr)
	o.mu.Unlock()
	near, far := tcpPair(o.t)
	o.conns <- far
	return near, nil
}

func (o *origin) accept() (*net.TCPConn, *bufio.Reader) {
	o.t.Helper()
	select {
	case c := <-o.conns:
		return c, bufio.NewReader(c)
	case <-time.After(testLimit):
		o.t.Fatal("nobody dialled the origin")
		return nil, nil
	}
}

// dialTo dials addr whatever the target is.
func dialTo(addr string) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, addr)
	}
}

func refuseAll(context.Context, string, string) (net.Conn, error) { return nil, syscall.ECONNREFUSED }

// echo serves a CONNECT with what the client sends.
func echo(_ context.Context, r *Request) {
	stream, err := r.Accept(netip.AddrPort{})
	if err != nil {
		return
	}
	io.Copy(stream, stream)
	stream.(writeCloser).CloseWrite()
	stream.Close()
}

// readHead returns the lines of a header, without the empty one.
func readHead(t testing.TB, r *bufio.Reader) string {
	t.Helper()
	var head strings.Builder
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatalf("read header: got %q: %v", head.String()+line, err)
		}
		if line == "\r\n" {
			return head.String()
		}
		head.WriteString(line)
	}
}

func readResponse(t testing.TB, r *bufio.Reader, method string) (*http.Response, string) {
	t.Helper()
	res, err := http.ReadResponse(r, &http.Request{Method: method})
	if err != nil {
		t.Fatalf("read response: %v", err)
	}
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("read content: %v", err)
	}
	return res, string(body)
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

func users(name, password string) bool {
	return name == "alice" && password == "wonderland" || name == "bob" && password == "builder"
}

const (
	asAlice = "Proxy-Authorization: Basic YWxpY2U6d29uZGVybGFuZA==\r\n"
	asBob   = "Proxy-Authorization: basic  Ym9iOmJ1aWxkZXI=\r\n"
)
