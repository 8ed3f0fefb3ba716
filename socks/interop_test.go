package socks

import (
	"bytes"
	"io"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/net/proxy"
)

// serve answers one client: targets named "echo" are echoed, others refused.
func serve(t *testing.T, cfg Config) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() {
		ln.Close()
		wg.Wait()
	})
	wg.Go(func() {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		req, err := Accept(conn, nil, cfg)
		if err != nil {
			return
		}
		if req.Target() != "echo:7" {
			req.Refuse(syscall.ECONNREFUSED)
			return
		}
		stream, err := req.Accept(netip.AddrPort{})
		if err != nil {
			return
		}
		io.Copy(stream, stream)
		stream.(writeCloser).CloseWrite()
		stream.Close()
	})
	return ln.Addr().String()
}

func TestClientOfXNet(t *testing.T) {
	tests := []struct {
		name   string
		auth   *proxy.Auth
		cfg    Config
		target string
		ok     bool
	}{
		{"open", nil, Config{}, "echo:7", true},
		{"authenticated", &proxy.Auth{User: "alice", Password: "wonderland"}, Config{Users: users(t)}, "echo:7", true},
		{"needless credentials", &proxy.Auth{User: "alice", Password: "wonderland"}, Config{}, "echo:7", true},
		{"wrong password", &proxy.Auth{User: "alice", Password: "x"}, Config{Users: users(t)}, "echo:7", false},
		{"no credentials", nil, Config{Users: users(t)}, "echo:7", false},
		{"refused", nil, Config{}, "other:7", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d, err := proxy.SOCKS5("tcp", serve(t, tt.cfg), tt.auth, nil)
			if err != nil {
				t.Fatal(err)
			}
			conn, err := d.(proxy.ContextDialer).DialContext(t.Context(), "tcp", tt.target)
			if (err == nil) != tt.ok {
				t.Fatalf("dial: %v, want success: %v", err, tt.ok)
			}
			if err != nil {
				return
			}
			defer conn.Close()
			sent := bytes.Repeat([]byte("0123456789abcdef"), 1<<14)
			go conn.Write(sent)
			got := make([]byte, len(sent))
			if _, err := io.ReadFull(conn, got); err != nil || !bytes.Equal(got, sent) {
				t.Errorf("echo differs: %v", err)
			}
		})
	}
}
