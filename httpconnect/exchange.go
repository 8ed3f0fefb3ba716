package httpconnect

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// An exchange is a request in absolute-form on its way to a target, and its
// response. While the client has nothing to send, it is watched.
//
// The transport reads the content in a goroutine of its own, and may go on
// doing so after the response has come.
type exchange struct {
	client   *client
	req      *http.Request
	trailer  http.Header     // of the outgoing request, filled in at the end of the content
	upgrades string          // the protocols asked for, or nothing
	gone     func(err error) // ends the exchange
	whole    atomic.Bool     // the content has been read to its end

	reading sync.Mutex // guards what follows; held while the content is read
	watch   *watch     // nil while the client is not watched
	bodyErr error      // why the content could not be read

	mu         sync.Mutex  // guards what follows and what is written to the client before the response
	over       bool        // the content must not be read any more
	waiting    bool        // the client waits for 100 Continue
	responding bool        // the response has begun
	linger     *time.Timer // ends a response to a client that has closed its side, nil if it has not
}

func newExchange(c *client, req *http.Request, gone func(err error)) *exchange {
	ex := &exchange{
		client:  c,
		req:     req,
		gone:    gone,
		waiting: req.ProtoAtLeast(1, 1) && req.Body != http.NoBody && hasToken(req.Header["Expect"], "100-continue"),
	}
	ex.whole.Store(req.Body == http.NoBody)
	ex.watch = startWatch(c.conn, c.r, ex.ended)
	return ex
}

// outgoing returns the request to send: without what ends here and with nothing
// added.
func (ex *exchange) outgoing(ctx context.Context, t target) *http.Request {
	h := ex.req.Header.Clone()
	if ex.client.cfg.Relay != nil && ex.req.ProtoAtLeast(1, 1) && ex.whole.Load() {
		ex.upgrades = upgradeOf(h)
	}
	trailers := hasToken(h["Te"], "trailers")
	removeHopByHop(h)
	delete(h, "Host")           // it is that of the URL (RFC 9112 §3.2.2)
	delete(h, "Content-Length") // it is that of the content
	if !ex.req.ProtoAtLeast(1, 1) {
		delete(h, "Expect") // RFC 9110 §10.1.1
	}
	if _, ok := h["User-Agent"]; !ok {
		h["User-Agent"] = []string{""} // the transport then sends none
	}
	switch {
	case ex.upgrades != "":
		h.Set("Connection", "Upgrade")
		h.Set("Upgrade", ex.upgrades)
	case trailers:
		h.Set("Connection", "TE")
		h.Set("Te", "trailers")
	}
	out := (&http.Request{
		Method:        ex.req.Method,
		URL:           forwardURL(ex.req, t),
		Host:          ex.req.Host,
		Proto:         "HTTP/1.1", // else Expect is not heeded
		ProtoMajor:    1,
		ProtoMinor:    1,
		Header:        h,
		ContentLength: ex.req.ContentLength,
		// A connection that is to be kept would need the content even if the
		// target has not permitted it.
		Close: ex.waiting,
	}).WithContext(ctx)
	if !ex.whole.Load() {
		out.Body = ex
		ex.trailer = make(http.Header)
		for name := range ex.req.Trailer {
			ex.trailer[name] = nil
		}
		if len(ex.req.TransferEncoding) > 0 {
			out.Trailer = ex.trailer
		}
	}
	return out
}

// Read reads the content of the request. It permits a client that waits for
// that to send it.
func (ex *exchange) Read(b []byte) (int, error) {
	ex.reading.Lock()
	defer ex.reading.Unlock()
	if ex.whole.Load() {
		return 0, io.EOF
	}
	if ex.bodyErr != nil {
		return 0, ex.bodyErr
	}
	ex.unwatch()
	if err := ex.permit(); err != nil {
		return 0, err
	}
	n, err := ex.req.Body.Read(b)
	switch {
	case err == io.EOF:
		ex.whole.Store(true)
		copyTrailer(ex.trailer, ex.req.Trailer)
		ex.mu.Lock()
		if !ex.over {
			ex.watch = startWatch(ex.client.conn, ex.client.r, ex.ended)
		}
		ex.mu.Unlock()
	case err != nil:
		ex.bodyErr = err
	}
	return n, err
}

// Close does nothing: the content belongs to the client's connection.
func (ex *exchange) Close() error { return nil }

// unwatch ends the watch, if there is one. It is called with reading held.
func (ex *exchange) unwatch() error {
	if ex.watch == nil {
		return nil
	}
	err := ex.watch.stop()
	ex.watch = nil
	ex.mu.Lock()
	if !ex.over {
		ex.client.conn.SetReadDeadline(time.Time{})
	}
	ex.mu.Unlock()
	return err
}

// finish ends the reading of the content and the watch. It returns how the
// client's stream ended, or nil if it goes on.
func (ex *exchange) finish() error {
	ex.mu.Lock()
	ex.over = true
	ex.client.conn.SetReadDeadline(past) // nothing sets it anew now
	if ex.linger != nil {
		ex.linger.Stop()
	}
	ex.mu.Unlock()
	ex.reading.Lock()
	defer ex.reading.Unlock()
	if !ex.whole.Load() && ex.bodyErr == nil {
		ex.bodyErr = http.ErrBodyReadAfterClose
	}
	return ex.unwatch()
}

// ended is told by the watch that the client has ended its side. Before the
// response that means that it is gone; during the response it may have said all
// it had to say, and gets the rest unless nothing moves for halfClosedTimeout.
func (ex *exchange) ended(err error) {
	ex.mu.Lock()
	defer ex.mu.Unlock()
	if err != io.EOF || !ex.responding {
		ex.gone(err)
		return
	}
	if !ex.over {
		ex.linger = time.AfterFunc(halfClosedTimeout, func() { ex.gone(err) })
	}
}

// permit sends 100 Continue to a client that waits for it.
func (ex *exchange) permit() error {
	ex.mu.Lock()
	defer ex.mu.Unlock()
	if ex.over {
		return http.ErrBodyReadAfterClose
	}
	if !ex.waiting || ex.responding {
		return nil
	}
	ex.waiting = false
	return ex.client.writeInformation(http.StatusContinue, nil)
}

// inform passes on an interim response.
func (ex *exchange) inform(code int, h http.Header) error {
	if code == http.StatusContinue {
		return ex.permit()
	}
	ex.mu.Lock()
	defer ex.mu.Unlock()
	if ex.responding || ex.over || !ex.req.ProtoAtLeast(1, 1) {
		return nil
	}
	h = h.Clone()
	removeHopByHop(h)
	return ex.client.writeInformation(code, h)
}

func (c *client) writeInformation(code int, h http.Header) error {
	fmt.Fprintf(c.w, "HTTP/1.1 %d %s\r\n", code, http.StatusText(code))
	h.Write(c.w) // the error is that of Flush
	c.w.WriteString("\r\n")
	return c.w.Flush()
}

// fail answers with the reason why there is no response.
func (ex *exchange) fail(ctx context.Context, err error) outcome {
	ended := ex.finish()
	c := ex.client
	var dial dialError
	f := exchangeFailureOf(err)
	switch {
	case errors.Is(context.Cause(ctx), ErrGone), ended != nil:
		c.log(ex.req, 0, ErrGone)
		return leave
	case errors.As(err, &dial):
		f = failureOf(dial.error)
	case ex.contentBroken():
		f = badRequest("content of request ended early")
	}
	after := leave
	if ex.whole.Load() && persistent(ex.req) {
		after = keep
	}
	c.log(ex.req, f.status, err)
	if c.writeFailure(f, after, ex.req.Method == http.MethodHead) != nil {
		return leave
	}
	return after
}

// contentBroken reports whether the content ended early by the client's doing
// and not by that of finish.
func (ex *exchange) contentBroken() bool {
	return ex.bodyErr != nil && !errors.Is(ex.bodyErr, http.ErrBodyReadAfterClose) && !errors.Is(ex.bodyErr, os.ErrDeadlineExceeded)
}
