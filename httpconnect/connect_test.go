package httpconnect

import (
	"bufio"
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
	"testing/synctest"
)

func TestConnect(t *testing.T) {
	tests := []struct{ name, head, target string }{
		{"name", "CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n", "example.com:443"},
		{"IPv4", "CONNECT 192.0.2.1:22 HTTP/1.1\r\nHost: 192.0.2.1:22\r\n\r\n", "192.0.2.1:22"},
		{"IPv6", "CONNECT [2001:DB8:0::1]:22 HTTP/1.1\r\nHost: [2001:db8::1]:22\r\n\r\n", "[2001:db8::1]:22"},
		{"mapped IPv4", "CONNECT [::ffff:192.0.2.1]:22 HTTP/1.1\r\n\r\n", "192.0.2.1:22"},
		{"no Host", "CONNECT example.com:443 HTTP/1.1\r\n\r\n", "example.com:443"},
		{"HTTP/1.0", "CONNECT example.com:443 HTTP/1.0\r\n\r\n", "example.com:443"},
		{"empty content", "CONNECT example.com:443 HTTP/1.1\r\nContent-Length: 0\r\n\r\n", "example.com:443"},
		{"empty line first", "\r\nCONNECT example.com:443 HTTP/1.1\r\n\r\n", "example.com:443"},
		{"lines end in LF", "CONNECT example.com:443 HTTP/1.1\nHost: example.com\n\n", "example.com:443"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			target := make(chan string, 1)
			client := start(t, Config{Connect: func(ctx context.Context, r *Request) {
				target <- r.Target()
				echo(ctx, r)
			}})
			// What is sent with the request belongs to the stream.
			io.WriteString(client, tt.head+"early ")
			if got := <-target; got != tt.target {
				t.Errorf("target %s, want %s", got, tt.target)
			}
			r := bufio.NewReader(client)
			if got, want := readHead(t, r), "HTTP/1.1 200 Connection established\r\n"; got != want {
				t.Errorf("answered %q, want %q", got, want)
			}
			io.WriteString(client, "late")
			client.CloseWrite()
			if got, want := readAll(t, r), "early late"; got != want {
				t.Errorf("echo %q, want %q", got, want)
			}
		})
	}
}

func TestConnectIsAnsweredAfterTheDial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		dialed := make(chan struct{})
		done := make(chan struct{})
		go func() {
			defer close(done)
			NewServer(Config{Connect: func(ctx context.Context, r *Request) {
				<-dialed
				echo(ctx, r)
			}}).ServeConn(t.Context(), server)
		}()
		answered := make(chan string, 1)
		go func() { answered <- readN(t, client, 12) }()
		io.WriteString(client, "CONNECT example.com:443 HTTP/1.1\r\n\r\n")
		synctest.Wait()
		select {
		case a := <-answered:
			t.Errorf("answered %q before the dial", a)
		default:
		}
		close(dialed)
		if got, want := <-answered, "HTTP/1.1 200"; got != want {
			t.Errorf("answered %q, want %q", got, want)
		}
		client.Close()
		<-done
	})
}

func TestRefusals(t *testing.T) {
	op := func(err error) error {
		return fmt.Errorf("dial: %w", &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", err)})
	}
	tests := []struct {
		err    error
		status int
		reason string
	}{
		{op(syscall.EACCES), 403, "destination_ip_prohibited"},
		{op(syscall.ECONNREFUSED), 502, "connection_refused"},
		{op(syscall.EHOSTUNREACH), 502, "destination_unavailable"},
		{op(syscall.ENETUNREACH), 502, "destination_ip_unroutable"},
		{op(syscall.EAFNOSUPPORT), 502, "destination_ip_unroutable"},
		{&net.DNSError{Err: "no such host", IsNotFound: true}, 502, "dns_error"},
		{&net.DNSError{Err: "timeout", IsTimeout: true}, 504, "dns_timeout"},
		{op(syscall.ETIMEDOUT), 504, "connection_timeout"},
		{context.DeadlineExceeded, 504, "connection_timeout"},
		{os.ErrDeadlineExceeded, 504, "connection_timeout"},
		{syscall.ENETDOWN, 503, "destination_unavailable"},
		{net.ErrClosed, 503, "proxy_internal_error"},
		{errSomething, 502, "proxy_internal_error"},
		{errors.Join(op(syscall.ENETUNREACH), op(syscall.ECONNREFUSED)), 502, "connection_refused"},
		{errors.Join(op(syscall.ENETUNREACH), op(syscall.EACCES)), 403, "destination_ip_prohibited"},
	}
	requests := map[string]string{
		"CONNECT":       "CONNECT example.com:443 HTTP/1.1\r\n\r\nread ahead",
		"absolute-form": "GET http://example.com/ HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n",
	}
	for form, request := range requests {
		for _, tt := range tests {
			t.Run(form+" "+tt.err.Error(), func(t *testing.T) {
				client := start(t, Config{
					Connect: func(_ context.Context, r *Request) { r.Refuse(tt.err) },
					Dial:    func(context.Context, string, string) (net.Conn, error) { return nil, tt.err },
				})
				io.WriteString(client, request)
				r := bufio.NewReader(client)
				res, body := readResponse(t, r, "GET")
				if res.StatusCode != tt.status {
					t.Errorf("status %d, want %d", res.StatusCode, tt.status)
				}
				if got, want := res.Header.Get("Proxy-Status"), "snapproxy; error="+tt.reason; got != want {
					t.Errorf("Proxy-Status %q, want %q", got, want)
				}
				if int(res.ContentLength) != len(body) || strings.Count(body, "\n") != 1 || !strings.HasSuffix(body, "\n") {
					t.Errorf("content %q of length %d, want one line", body, res.ContentLength)
				}
				if got := res.Header.Get("Retry-After"); (got != "") != (tt.status == 503) {
					t.Errorf("Retry-After %q with status %d", got, tt.status)
				}
				if !res.Close {
					t.Error("Connection: close is missing")
				}
				readAll(t, r) // and no reset
			})
		}
	}
}

func TestUnansweredConnectIsRefused(t *testing.T) {
	client := start(t, Config{Connect: func(context.Context, *Request) {}})
	io.WriteString(client, "CONNECT example.com:443 HTTP/1.1\r\n\r\n")
	if got := readAll(t, client); !strings.HasPrefix(got, "HTTP/1.1 502 ") {
		t.Errorf("answered %q, want 502", got)
	}
}

func TestConnectEndsWithClient(t *testing.T) {
	tests := []struct {
		name  string
		ahead string
		leave func(*net.TCPConn)
	}{
		{"closed", "", func(c *net.TCPConn) { c.Close() }},
		{"reset", "", func(c *net.TCPConn) { c.SetLinger(0); c.Close() }},
		{"reset after bytes", "ahead", func(c *net.TCPConn) { c.SetLinger(0); c.Close() }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dialing, ended := make(chan struct{}), make(chan error, 1)
			client := start(t, Config{Connect: func(ctx context.Context, r *Request) {
				close(dialing)
				<-ctx.Done()
				ended <- context.Cause(ctx)
				r.Refuse(ctx.Err())
			}})
			io.WriteString(client, "CONNECT example.com:443 HTTP/1.1\r\n\r\n"+tt.ahead)
			<-dialing
			tt.leave(client)
			if got := <-ended; got != ErrGone {
				t.Errorf("cause %v, want ErrGone", got)
			}
		})
	}
}

func TestConnectOutlivesHalfCloseAfterBytes(t *testing.T) {
	seen := make(chan struct{})
	client := start(t, Config{Connect: func(ctx context.Context, r *Request) {
		<-r.watch.done
		close(seen)
		echo(ctx, r)
	}})
	io.WriteString(client, "CONNECT example.com:443 HTTP/1.1\r\n\r\nall there is")
	client.CloseWrite()
	<-seen
	if got := readAll(t, client); !strings.HasSuffix(got, "\r\n\r\nall there is") {
		t.Errorf("got %q, want the echo", got)
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
			readAll(t, b)
		})
	}
}

var _ interface {
	Target() string
	Accept(netip.AddrPort) (net.Conn, error)
	Refuse(error) error
} = (*Request)(nil)
