package httpconnect

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/textproto"
	"os"
	"strings"
	"time"
)

// readRequest reads a request line and header; the body is left to be read. It
// returns nil if the client has ended the connection, or has been idle for too
// long, instead of sending another request.
func (c *client) readRequest(ctx context.Context, first bool) (*http.Request, error) {
	if !first {
		c.conn.SetReadDeadline(time.Now().Add(c.cfg.IdleTimeout))
		if ctx.Err() != nil {
			return nil, nil // it may have ended before the deadline was set
		}
	}
	if _, err := c.r.Peek(1); err != nil {
		return nil, nil
	}
	if !first {
		c.conn.SetReadDeadline(time.Now().Add(c.cfg.HeaderTimeout))
		if ctx.Err() != nil {
			return nil, nil
		}
	}
	head, err := c.peekHead()
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		return nil, failure{status: http.StatusRequestHeaderFieldsTooLarge, reason: errRequest, text: "request header is longer than 16 KiB"}
	case errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() == nil:
		return nil, failure{status: http.StatusRequestTimeout, reason: errRequest, text: "request header took too long"}
	case err != nil:
		return nil, nil
	}
	if err := checkHead(head); err != nil {
		return nil, err
	}
	// All of the header is in the buffer, so this does not block.
	req, err := http.ReadRequest(c.r)
	if err != nil {
		return nil, badRequest("malformed request")
	}
	if req.ProtoMajor != 1 {
		return nil, failure{status: http.StatusHTTPVersionNotSupported, reason: errRequest, text: "this is an HTTP/1.1 proxy"}
	}
	c.conn.SetDeadline(time.Time{})
	if ctx.Err() != nil {
		return nil, nil
	}
	return req, nil
}

// peekHead returns everything up to and with the empty line that ends a header.
// Empty lines before the request line are skipped (RFC 9112 §2.2).
func (c *client) peekHead() ([]byte, error) {
	for {
		b, err := c.r.Peek(1)
		if err != nil {
			return nil, err
		}
		if b[0] != '\r' && b[0] != '\n' {
			break
		}
		c.r.Discard(1)
	}
	line := 0 // where the line begins that is not complete yet
	for {
		b, _ := c.r.Peek(c.r.Buffered())
		for {
			i := bytes.IndexByte(b[line:], '\n')
			if i < 0 {
				break
			}
			empty := len(bytes.TrimSuffix(b[line:line+i], []byte("\r"))) == 0
			line += i + 1
			if empty && line <= MaxHeaderLen {
				return b[:line], nil
			}
		}
		if len(b) >= MaxHeaderLen {
			return nil, bufio.ErrBufferFull
		}
		if _, err := c.r.Peek(len(b) + 1); err != nil {
			return nil, err
		}
	}
}

// checkHead refuses what two parsers could understand in two ways, and what
// http.ReadRequest leaves to its caller.
func checkHead(head []byte) error {
	r := textproto.NewReader(bufio.NewReader(bytes.NewReader(head)))
	line, err := r.ReadLine()
	if err != nil {
		return badRequest("malformed request")
	}
	h, err := r.ReadMIMEHeader()
	if err != nil {
		return badRequest("malformed header")
	}
	for name := range h {
		if strings.ContainsAny(name, " \t") { // which ReadMIMEHeader lets pass
			return badRequest("malformed header")
		}
	}
	http11 := strings.HasSuffix(line, " HTTP/1.1")
	connect := strings.HasPrefix(line, http.MethodConnect+" ")
	host, length, coding := h["Host"], h["Content-Length"], h["Transfer-Encoding"]
	switch {
	case len(host) > 1, len(host) == 1 && strings.ContainsAny(host[0], " \t,/@?#\\"):
		return badRequest("malformed Host")
	case http11 && len(host) == 0 && !connect: // old clients leave it out with CONNECT
		return badRequest("missing Host")
	case len(coding) > 0 && len(length) > 0:
		return badRequest("both Content-Length and Transfer-Encoding")
	case len(coding) > 0 && !http11:
		return badRequest("Transfer-Encoding in HTTP/1.0")
	case len(coding) > 0 && connect, connect && len(length) > 0 && length[0] != "0":
		return badRequest("CONNECT with content")
	case len(coding) > 1, len(coding) == 1 && !strings.EqualFold(coding[0], "chunked"):
		return failure{status: http.StatusNotImplemented, reason: errRequest, text: "transfer coding is not chunked"}
	}
	return nil
}
