package socks

import (
	"bytes"
	"net"
	"strings"
	"testing"
	"time"
)

// FuzzRequest feeds Accept what a client may send up to its end.
func FuzzRequest(f *testing.F) {
	f.Add([]byte(hello+connect4), false)
	f.Add([]byte(hello+"\x05\x03\x00\x01\x00\x00\x00\x00\x00\x00"), false)
	f.Add([]byte(hello+"\x05\x01\x00\x03\x0bexample.com\x01\xbbdata"), false)
	f.Add([]byte(hello+"\x05\x01\x00\x03\x0cfe80::1%eth0\x01\xbb"), false)
	f.Add([]byte("\x05\x01\x02\x01\x05alice\x0awonderland"+connect4), true)
	f.Add([]byte("\x05\x02\x00\x02\x01\x00\x00"), true)
	f.Add([]byte("\x04\x01"), false)
	known, err := NewUsers(map[string]string{"alice": "wonderland"})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, sent []byte, auth bool) {
		conn := &script{in: bytes.NewReader(sent)}
		cfg := Config{}
		if auth {
			cfg.Users = known.Valid
		}
		req, err := Accept(conn, nil, cfg)
		if err != nil {
			if !conn.closed {
				t.Error("connection left open after an error")
			}
			return
		}
		if auth && req.User != "alice" {
			t.Errorf("request of unauthenticated user %q", req.User)
		}
		host := req.Addr.Host()
		if host == "" || len(host) > MaxNameLen || strings.ContainsAny(host, "\x00%\r\n ") {
			t.Errorf("accepted host %q", host)
		}
		if req.Command != Connect && req.Command != Associate {
			t.Errorf("accepted %v", req.Command)
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
