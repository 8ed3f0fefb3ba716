//go:build unix

package test

import (
	"net"
	"net/http"
	"net/url"
	"testing"
	"time"
)

// besideLoopback is an address of loopback that NO_PROXY of exec does not name.
const besideLoopback = "127.0.0.2"

// httpOrigin serves h on loopback and returns its HOST:PORT.
func httpOrigin(t *testing.T, h http.Handler) string {
	t.Helper()
	return httpOriginOn(t, "127.0.0.1", h)
}

func httpOriginOn(t *testing.T, host string, h http.Handler) string {
	t.Helper()
	ln, err := net.Listen("tcp", hostPort(host, "0"))
	if err != nil {
		t.Skipf("no listener on %s: %v", host, err)
	}
	srv := &http.Server{Handler: h}
	t.Cleanup(func() { srv.Close() })
	go srv.Serve(ln)
	return ln.Addr().String()
}

// through is an HTTP client that goes through a proxy, with a connection of its
// own for each request.
func through(t *testing.T, proxy string) *http.Client {
	t.Helper()
	u, err := url.Parse(proxy)
	if err != nil {
		t.Fatal(err)
	}
	tr := &http.Transport{
		Proxy: http.ProxyURL(u), DisableKeepAlives: true,
		DialContext: (&net.Dialer{Timeout: patience}).DialContext,
	}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 2 * time.Minute}
}
