package httpconnect

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// upgrade passes on the response of a target that changes to another protocol,
// and has the two sides relayed. far is the connection to the target.
func (ex *exchange) upgrade(ctx context.Context, res *http.Response, far net.Conn) outcome {
	c := ex.client
	body, ok := res.Body.(io.ReadWriteCloser)
	got := upgradeOf(res.Header)
	if !ok || got == "" || !hasToken([]string{ex.upgrades}, got) {
		return ex.fail(ctx, fmt.Errorf("target changes to protocol %q, asked for %q", got, ex.upgrades))
	}
	ex.mu.Lock()
	ex.responding = true
	ex.mu.Unlock()
	ended := ex.finish()
	c.log(ex.req, res.StatusCode, nil)

	h := res.Header
	removeHopByHop(h)
	h.Del("Content-Length")
	fmt.Fprintf(c.w, "HTTP/1.1 101 %s\r\n", http.StatusText(http.StatusSwitchingProtocols))
	h.Write(c.w) // the error is that of Flush
	fmt.Fprintf(c.w, "Connection: Upgrade\r\nUpgrade: %s\r\n\r\n", strings.TrimSpace(got))
	if c.w.Flush() != nil {
		return leave
	}
	c.conn.SetReadDeadline(time.Time{})
	c.release() // the relay says how the stream ends
	c.cfg.Relay(ctx, &stream{Conn: c.conn, r: c.r, ended: ended}, &upgraded{far, body})
	return taken
}

// An upgraded is the connection to a target after its response: what was
// received with the response comes first.
type upgraded struct {
	net.Conn
	body io.Reader
}

func (u *upgraded) Read(b []byte) (int, error) { return u.body.Read(b) }

// CloseWrite ends the stream towards the target; see [stream.CloseWrite].
func (u *upgraded) CloseWrite() error {
	return (&stream{Conn: u.Conn}).CloseWrite()
}

// CloseRead ends the stream from the target.
func (u *upgraded) CloseRead() error {
	return (&stream{Conn: u.Conn}).CloseRead()
}

// SetLinger is that of net.TCPConn, so that a stream can be reset.
func (u *upgraded) SetLinger(sec int) error {
	return (&stream{Conn: u.Conn}).SetLinger(sec)
}
