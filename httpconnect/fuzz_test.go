package httpconnect

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// FuzzConnect feeds a server what a client may send up to its end.
func FuzzConnect(f *testing.F) {
	for _, s := range []string{
		"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n\x16\x03\x01",
		"CONNECT [::1]:443 HTTP/1.0\r\n\r\n",
		"GET http://example.com/ HTTP/1.1\r\nHost: example.com\r\n\r\n",
		"POST http://example.com/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nA: b\r\n\r\n",
		"POST http://example.com/ HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\nxyz",
		"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET http://x%00/ HTTP/1.1\r\nHost: x\r\n\r\n",
		"\r\n\r\n", "\n", "\x00",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, sent []byte) {
		check := func(addr string) {
			host, _, err := net.SplitHostPort(addr)
			if err != nil || host == "" || len(host) > MaxNameLen || strings.ContainsAny(host, "\x00%\r\n /@") {
				t.Errorf("target %q", addr)
			}
		}
		conn := &script{in: bytes.NewReader(sent)}
		srv := NewServer(Config{
			Connect: func(_ context.Context, r *Request) {
				check(r.Target())
				r.Refuse(errSomething)
			},
			Dial: func(_ context.Context, _, addr string) (net.Conn, error) {
				check(addr)
				return &script{in: bytes.NewReader([]byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"))}, nil
			},
		})
		srv.ServeConn(t.Context(), conn)
		if !conn.closed {
			t.Error("connection left open")
		}
		// What was answered is HTTP.
		r := bufio.NewReader(&conn.out)
		for {
			if _, err := r.Peek(1); err != nil {
				return
			}
			res, err := http.ReadResponse(r, &http.Request{Method: "GET"})
			if err != nil {
				t.Fatalf("answer: %v", err)
			}
			if res.StatusCode == http.StatusOK {
				return // the response to a HEAD cannot be told from others
			}
			if _, err := io.Copy(io.Discard, res.Body); err != nil {
				return // likewise
			}
		}
	})
}

// A script is a connection whose peer has sent everything already.
type script struct {
	in     *bytes.Reader
	out    bytes.Buffer
	closed bool
}

func (s *script) Read(b []byte) (int, error)       { return s.in.Read(b) }
func (s *script) Write(b []byte) (int, error)      { return s.out.Write(b) }
func (s *script) Close() error                     { s.closed = true; return nil }
func (s *script) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (s *script) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (s *script) SetDeadline(time.Time) error      { return nil }
func (s *script) SetReadDeadline(time.Time) error  { return nil }
func (s *script) SetWriteDeadline(time.Time) error { return nil }
