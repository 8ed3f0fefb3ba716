package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"syscall"
	"time"
)

// callTimeout bounds a call.
const callTimeout = 10 * time.Second

// newHTTPClient returns a client of the scheme of u. It ignores the proxies of
// the environment, which usually name this very program, and follows no
// redirect. Over http it reaches the loopback only, whatever a name resolves
// to, and never by a proxy.
func newHTTPClient(u, proxy *url.URL) *http.Client {
	dialer := &net.Dialer{Timeout: callTimeout}
	t := &http.Transport{
		DialContext:            dialer.DialContext,
		ForceAttemptHTTP2:      true,
		DisableCompression:     true,
		MaxIdleConns:           4,
		IdleConnTimeout:        30 * time.Second,
		TLSHandshakeTimeout:    callTimeout,
		MaxResponseHeaderBytes: 16 << 10,
	}
	if u.Scheme == "http" {
		dialer.ControlContext = loopbackOnly
	} else if proxy != nil {
		t.Proxy = http.ProxyURL(proxy)
	}
	return &http.Client{
		Transport:     t,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

func loopbackOnly(_ context.Context, _, address string, _ syscall.RawConn) error {
	if a, err := netip.ParseAddrPort(address); err != nil || !a.Addr().Unmap().IsLoopback() {
		return fmt.Errorf("%s is not of this machine (want https)", address)
	}
	return nil
}

// readAll reads a body of at most limit bytes.
func readAll(r io.Reader, limit int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(b)) > limit {
		return nil, fmt.Errorf("more than %d bytes", limit)
	}
	return b, err
}

// unwrapURL drops the URL that net/http puts before what went wrong: our errors
// name it already.
func unwrapURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// redirection returns an error if status is a redirect, which is not followed.
func redirection(r *http.Response) error {
	if r.StatusCode < 300 || r.StatusCode > 399 {
		return nil
	}
	to := "elsewhere"
	if u, err := r.Location(); err == nil {
		to = "to " + printable((&url.URL{Scheme: u.Scheme, Host: u.Host}).String(), maxErrorText)
	}
	return fmt.Errorf("redirects %s, which is not followed (HTTP %d)", to, r.StatusCode)
}
