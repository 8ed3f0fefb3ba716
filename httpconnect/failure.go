package httpconnect

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"syscall"
	"time"
)

// Error types of RFC 9209 §2.3.
const (
	errRequest      = "http_request_error"
	errDNS          = "dns_error"
	errDNSTimeout   = "dns_timeout"
	errRefused      = "connection_refused"
	errTimeout      = "connection_timeout"
	errTerminated   = "connection_terminated"
	errProhibited   = "destination_ip_prohibited"
	errUnroutable   = "destination_ip_unroutable"
	errUnavailable  = "destination_unavailable"
	errProtocol     = "http_protocol_error"
	errInternal     = "proxy_internal_error"
	errNotSupported = "proxy_configuration_error"
)

// proxyName is how Proxy-Status calls us, realm what credentials are for.
const (
	proxyName = "snapproxy"
	realm     = "snapproxy"
)

// retryAfter is what a client is told to wait while there is no tunnel: about
// as long as the tunnel waits between its own attempts.
const retryAfter = 5 * time.Second

// replyTimeout bounds the writing of an answer of ours to a client that does not
// read.
const replyTimeout = 10 * time.Second

// A failure is an answer of the proxy itself to a request.
type failure struct {
	status int
	reason string // error type of Proxy-Status
	text   string // one line for people
	err    error  // where it comes from, if from an error
}

func (f failure) Error() string {
	if f.err != nil {
		return f.text + ": " + f.err.Error()
	}
	return f.text
}

func (f failure) Unwrap() error { return f.err }

func badRequest(text string) failure {
	return failure{status: http.StatusBadRequest, reason: errRequest, text: text}
}

// failureOf returns the answer that tells the error of a dial. Where several
// attempts have failed and err holds all of them, the one that got furthest is
// told.
func failureOf(err error) failure {
	var f failure
	if errors.As(err, &f) {
		return f
	}
	f = failure{status: http.StatusBadGateway, reason: errInternal, text: "connection failed", err: err}
	var dns *net.DNSError
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		f.reason, f.text = errRefused, "connection refused"
	case errors.Is(err, syscall.EACCES):
		f.status, f.reason, f.text = http.StatusForbidden, errProhibited, "forbidden by policy"
	case errors.As(err, &dns) && dns.IsTimeout:
		f.status, f.reason, f.text = http.StatusGatewayTimeout, errDNSTimeout, "name lookup timed out"
	case errors.Is(err, syscall.ETIMEDOUT), errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		f.status, f.reason, f.text = http.StatusGatewayTimeout, errTimeout, "connection timed out"
	case dns != nil:
		f.reason, f.text = errDNS, "name not found"
	case errors.Is(err, syscall.EHOSTUNREACH):
		f.reason, f.text = errUnavailable, "host unreachable"
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EAFNOSUPPORT):
		f.reason, f.text = errUnroutable, "network unreachable"
	case errors.Is(err, syscall.ENETDOWN):
		f.status, f.reason, f.text = http.StatusServiceUnavailable, errUnavailable, "the tunnel is down"
	case errors.Is(err, net.ErrClosed), errors.Is(err, context.Canceled):
		f.status, f.text = http.StatusServiceUnavailable, "the proxy is shutting down"
	}
	return f
}

// exchangeFailureOf returns the answer that tells why an exchange with a target
// failed once there was a connection.
func exchangeFailureOf(err error) failure {
	f := failure{status: http.StatusBadGateway, reason: errProtocol, text: "malformed response", err: err}
	switch {
	case errors.Is(err, syscall.ETIMEDOUT), errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, syscall.ENETDOWN),
		errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH), errors.Is(err, context.Canceled):
		return failureOf(err)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET),
		errors.Is(err, syscall.EPIPE), errors.Is(err, net.ErrClosed):
		f.reason, f.text = errTerminated, "connection ended before the response"
	}
	return f
}

// refuse answers req with the failure that err is or tells. req is nil if it
// could not be read.
func (c *client) refuse(req *http.Request, err error) outcome {
	f := failureOf(err)
	after := leave
	if req != nil && persistent(req) && req.Method != http.MethodConnect && req.Body == http.NoBody {
		after = keep
	}
	c.log(req, f.status, err)
	if c.writeFailure(f, after, req != nil && req.Method == http.MethodHead) != nil {
		return leave
	}
	return after
}

func (c *client) writeFailure(f failure, after outcome, head bool) error {
	body := f.text + "\n"
	c.conn.SetWriteDeadline(time.Now().Add(replyTimeout))
	fmt.Fprintf(c.w, "HTTP/1.1 %d %s\r\nDate: %s\r\n", f.status, http.StatusText(f.status), time.Now().UTC().Format(http.TimeFormat))
	fmt.Fprintf(c.w, "Content-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\n", len(body))
	fmt.Fprintf(c.w, "Proxy-Status: %s; error=%s\r\n", proxyName, f.reason)
	switch f.status {
	case http.StatusProxyAuthRequired:
		fmt.Fprintf(c.w, "Proxy-Authenticate: Basic realm=%q, charset=\"UTF-8\"\r\n", realm)
	case http.StatusServiceUnavailable:
		fmt.Fprintf(c.w, "Retry-After: %s\r\n", strconv.Itoa(int(retryAfter/time.Second)))
	}
	if after != keep {
		c.w.WriteString("Connection: close\r\n")
	}
	c.w.WriteString("\r\n")
	if !head {
		c.w.WriteString(body)
	}
	err := c.w.Flush()
	c.conn.SetWriteDeadline(time.Time{})
	return err
}

func (c *client) log(req *http.Request, status int, err error) {
	if req == nil {
		c.cfg.Logger.Debug("http request", "status", status, "error", err)
		return
	}
	c.cfg.Logger.Debug("http request", "method", req.Method, "target", req.URL.Host, "status", status, "error", err)
}
