package endhost

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"syscall"
	"time"
)

var (
	errTokenPlain = errors.New("a token goes only over https, or to the loopback without a proxy")
	errNotLocal   = errors.New("localhost is not on the loopback: a token does not go there without TLS")
)

// newHTTP returns a client that takes no proxy from the environment, follows no
// redirect, asks for no compression and reads no endless header. With
// localOnly it connects to the loopback only.
func newHTTP(proxy *url.URL, config *tls.Config, localOnly bool) *http.Client {
	dialer := &net.Dialer{Timeout: defaultTimeout}
	if localOnly {
		dialer.Control = controlLoopback
	}
	transport := &http.Transport{
		DialContext:            dialer.DialContext,
		TLSClientConfig:        config,
		TLSHandshakeTimeout:    defaultTimeout,
		ForceAttemptHTTP2:      true,
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxHeader,
		MaxIdleConns:           4,
		MaxConnsPerHost:        8,
		IdleConnTimeout:        30 * time.Second,
	}
	if proxy != nil {
		transport.Proxy = http.ProxyURL(proxy)
	}
	return &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// controlLoopback refuses to connect to what is not on the loopback.
func controlLoopback(_, address string, _ syscall.RawConn) error {
	a, err := netip.ParseAddrPort(address)
	if err != nil || !a.Addr().Unmap().IsLoopback() {
		return errNotLocal
	}
	return nil
}

// checkToken returns an error if a token must not go to u.
func checkToken(u, proxy *url.URL) error {
	if u.Scheme == "https" {
		return nil
	}
	if scope, _ := scopeOfHost(u.Hostname()); scope != ScopeLoopback || proxy != nil {
		return errTokenPlain
	}
	return nil
}

// withTimeout bounds a call that its caller has not bounded.
func withTimeout(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, bounded := ctx.Deadline(); bounded {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, defaultTimeout)
}
