package httpconnect

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"time"
)

// ErrGone is the cause of a request context that ended because the client went
// away.
var ErrGone = errors.New("client went away")

var errUnanswered = errors.New("request was not answered")

// A Request is a client's CONNECT. Exactly one of Accept and Refuse must be
// called. It is used by one goroutine at a time.
type Request struct {
	// Host is the name of the target or the text of its IP address, without
	// brackets or zone.
	Host string
	// Port is the port of the target, never 0.
	Port uint16
	// User is the name under which the client authenticated, empty if users are
	// not configured.
	User string

	client *client
	req    *http.Request
	watch  *watch
	ended  error // what the watch found at the end of the client's stream
	done   bool  // accepted or refused
}

// Target returns the address of the target as HOST:PORT.
func (r *Request) Target() string { return target{r.Host, r.Port}.String() }

// Accept tells the client that it is connected and returns the stream, which
// begins with the bytes received ahead. HTTP has no place for bound, the address
// of the proxy's side. If Accept returns an error, the client's connection is
// closed.
func (r *Request) Accept(bound netip.AddrPort) (net.Conn, error) {
	r.answer()
	c := r.client
	c.conn.SetWriteDeadline(time.Now().Add(replyTimeout))
	c.w.WriteString("HTTP/1.1 200 Connection established\r\n\r\n")
	err := c.w.Flush()
	c.conn.SetWriteDeadline(time.Time{})
	if err != nil {
		c.conn.Close()
		return nil, fmt.Errorf("answer CONNECT: %w", err)
	}
	c.log(r.req, http.StatusOK, nil)
	return &stream{Conn: c.conn, r: c.r, ended: r.ended}, nil
}

// Refuse tells the client why it is not connected and closes its connection in
// a way that lets the answer arrive. The status is chosen by errors.Is: 403 for
// EACCES, 503 for ENETDOWN, 504 for timeouts, else 502. It returns the error of
// writing the answer.
func (r *Request) Refuse(err error) error {
	r.answer()
	c := r.client
	f := failureOf(err)
	c.log(r.req, f.status, err)
	werr := c.writeFailure(f, leave, false)
	hangUp(c.conn)
	if werr != nil {
		return fmt.Errorf("answer CONNECT: %w", werr)
	}
	return nil
}

// answer ends the watch.
func (r *Request) answer() {
	r.done = true
	r.ended = r.watch.stop()
	r.client.conn.SetReadDeadline(time.Time{})
}

// connect serves a CONNECT. The connection is never kept: what a client sends
// ahead is meant for the target, not for us.
func (c *client) connect(ctx context.Context, req *http.Request, t target, user string) outcome {
	if c.cfg.Connect == nil {
		return c.refuse(req, failure{status: http.StatusNotImplemented, reason: errNotSupported, text: "CONNECT is not offered"})
	}
	c.release() // the one who accepts says how the stream ends
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	c.conn.SetDeadline(time.Time{})
	r := &Request{Host: t.host, Port: t.port, User: user, client: c, req: req}
	r.watch = startWatch(c.conn, c.r, func(error) { cancel(ErrGone) })
	c.cfg.Connect(ctx, r)
	if !r.done {
		r.Refuse(errUnanswered)
	}
	return taken
}
