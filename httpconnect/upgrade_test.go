package httpconnect

import (
	"bufio"
	"context"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
)

func TestUpgrade(t *testing.T) {
	o := newOrigin(t)
	client := start(t, Config{Dial: o.dial, Relay: copyBoth})
	io.WriteString(client, "GET http://example.com/chat HTTP/1.1\r\nHost: example.com\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n"+asAlice+"\r\nearly ")
	far, r := o.accept()
	want := []string{"GET /chat HTTP/1.1", "Connection: Upgrade", "Host: example.com", "Sec-Websocket-Key: x", "Upgrade: websocket"}
	if got := lines(readHead(t, r)); !slices.Equal(got, want) {
		t.Errorf("origin got %q, want %q", got, want)
	}
	io.WriteString(far, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX: 1\r\n\r\nwelcome")
	cr := bufio.NewReader(client)
	if got, want := readHead(t, cr), "HTTP/1.1 101 Switching Protocols\r\nX: 1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"; got != want {
		t.Errorf("client got %q, want %q", got, want)
	}
	readN(t, cr, len("welcome"))
	io.WriteString(client, "late")
	client.CloseWrite()
	if got, want := readAll(t, r), "early late"; got != want {
		t.Errorf("origin got %q, want %q", got, want)
	}
	io.WriteString(far, "still open")
	far.CloseWrite()
	if got, want := readAll(t, cr), "still open"; got != want {
		t.Errorf("client got %q, want %q", got, want)
	}
}

func TestUpgradeDeclined(t *testing.T) {
	for name, cfg := range map[string]Config{"by target": {Relay: copyBoth}, "by us": {}} {
		t.Run(name, func(t *testing.T) {
			o := newOrigin(t)
			cfg.Dial = o.dial
			client := start(t, cfg)
			r := bufio.NewReader(client)
			for range 2 { // the client's connection is kept
				io.WriteString(client, "GET http://example.com/ HTTP/1.1\r\nHost: example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
				far, fr := o.accept()
				if head := readHead(t, fr); strings.Contains(head, "Upgrade") != (cfg.Relay != nil) {
					t.Errorf("origin got %q", head)
				}
				io.WriteString(far, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
				if res, body := readResponse(t, r, "GET"); res.StatusCode != 200 || body != "no" {
					t.Errorf("got %d %q, want 200 no", res.StatusCode, body)
				}
			}
		})
	}
}

// copyBoth is the relay of the tests.
func copyBoth(_ context.Context, client, target net.Conn) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		io.Copy(target, client)
		target.(writeCloser).CloseWrite()
	}()
	io.Copy(client, target)
	client.(writeCloser).CloseWrite()
	<-done
	client.Close()
	target.Close()
}
