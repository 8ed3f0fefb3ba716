package httpconnect

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// halfClosedTimeout is how long a response may stand still once its client
	// has closed its side.
	halfClosedTimeout = 2 * time.Minute

	copyBufferSize = 32 << 10
)

var copyBuffers = sync.Pool{New: func() any { return new([copyBufferSize]byte) }}

// A framing says how the client learns where the content of a response ends.
type framing int

const (
	none    framing = iota // there is no content
	counted                // by its Content-Length
	chunked
	closing // by the end of the connection
)

func framingOf(req *http.Request, res *http.Response) framing {
	switch {
	case req.Method == http.MethodHead, res.StatusCode == http.StatusNoContent, res.StatusCode == http.StatusNotModified:
		return none
	case res.ContentLength >= 0:
		return counted
	case req.ProtoAtLeast(1, 1):
		return chunked
	}
	return closing
}

// respond passes a response on to the client, each part as it comes.
func (ex *exchange) respond(res *http.Response) outcome {
	c := ex.client
	ex.mu.Lock()
	ex.responding = true
	ex.mu.Unlock()
	after := keep
	// Content that the client has not sent yet would be taken for a request.
	if !ex.whole.Load() || !persistent(ex.req) {
		after = leave
	}
	f := framingOf(ex.req, res)
	if f == closing {
		after = leave
	}
	c.log(ex.req, res.StatusCode, nil)
	ex.writeHeader(res, f, after)
	if c.w.Flush() != nil {
		return broken
	}
	if f != none {
		if err := ex.copyContent(res, f); err != nil {
			c.log(ex.req, res.StatusCode, fmt.Errorf("response cut short: %w", err))
			return broken
		}
	}
	if ex.finish() != nil || !ex.whole.Load() {
		return leave
	}
	return after
}

func (ex *exchange) writeHeader(res *http.Response, f framing, after outcome) {
	w, h := ex.client.w, res.Header
	removeHopByHop(h)
	switch {
	case f == counted:
		h.Set("Content-Length", strconv.FormatInt(res.ContentLength, 10))
	case f != none, res.StatusCode == http.StatusNoContent:
		h.Del("Content-Length")
	}
	reason := strings.TrimSpace(strings.TrimPrefix(res.Status, strconv.Itoa(res.StatusCode)))
	if strings.ContainsFunc(reason, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		reason = http.StatusText(res.StatusCode)
	}
	fmt.Fprintf(w, "HTTP/1.1 %03d %s\r\n", res.StatusCode, reason)
	h.Write(w) // the error is that of Flush
	if f == chunked {
		w.WriteString("Transfer-Encoding: chunked\r\n")
		if len(res.Trailer) > 0 {
			names := make([]string, 0, len(res.Trailer))
			for name := range res.Trailer {
				names = append(names, name)
			}
			slices.Sort(names)
			fmt.Fprintf(w, "Trailer: %s\r\n", strings.Join(names, ", "))
		}
	}
	if after != keep {
		w.WriteString("Connection: close\r\n")
	}
	w.WriteString("\r\n")
}

// copyContent copies the content and the trailer of a response.
func (ex *exchange) copyContent(res *http.Response, f framing) error {
	w := ex.client.w
	buf := copyBuffers.Get().(*[copyBufferSize]byte)
	defer copyBuffers.Put(buf)
	for {
		n, err := res.Body.Read(buf[:])
		if n > 0 {
			if f == chunked {
				fmt.Fprintf(w, "%x\r\n", n)
			}
			w.Write(buf[:n])
			if f == chunked {
				w.WriteString("\r\n")
			}
			if err := w.Flush(); err != nil {
				return err
			}
			ex.progress()
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
	}
	if f != chunked {
		return nil
	}
	w.WriteString("0\r\n")
	trailer := make(http.Header)
	copyTrailer(trailer, res.Trailer)
	trailer.Write(w)
	w.WriteString("\r\n")
	return w.Flush()
}

// progress gives a client that has closed its side more time.
func (ex *exchange) progress() {
	ex.mu.Lock()
	defer ex.mu.Unlock()
	if ex.linger != nil && ex.linger.Stop() {
		ex.linger.Reset(halfClosedTimeout)
	}
}
