package httpconnect

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"testing"
)

// proxyClient returns the client of net/http with a proxy that serves any
// number of connections.
func proxyClient(t *testing.T, cfg Config, user *url.Userinfo) *http.Client {
	t.Helper()
	tr := &http.Transport{
		Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: "proxy.test:3128", User: user}),
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			return start(t, cfg), nil
		},
	}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: testLimit}
}

func TestClientOfNetHTTP(t *testing.T) {
	hello := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, ok := r.Header["Proxy-Authorization"]; ok {
			t.Error("target got credentials")
		}
		io.WriteString(w, "hello "+r.Host)
	})
	plain, secure := httptest.NewServer(hello), httptest.NewTLSServer(hello)
	defer plain.Close()
	defer secure.Close()
	cfg := Config{
		Users: users,
		Dial:  dialTo(plain.Listener.Addr().String()),
		Connect: func(ctx context.Context, r *Request) {
			far, err := dialTo(secure.Listener.Addr().String())(ctx, "tcp", r.Target())
			if err != nil {
				r.Refuse(err)
				return
			}
			near, err := r.Accept(netip.AddrPort{})
			if err != nil {
				far.Close()
				return
			}
			copyBoth(ctx, near, far)
		},
	}
	client := proxyClient(t, cfg, url.UserPassword("alice", "wonderland"))
	client.Transport.(*http.Transport).TLSClientConfig = secure.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	client.Transport.(*http.Transport).TLSClientConfig.ServerName = "example.com"
	for _, u := range []string{"http://example.com/", "https://example.com/"} {
		for range 2 {
			res, err := client.Get(u)
			if err != nil {
				t.Fatal(err)
			}
			if got, want := readAll(t, res.Body), "hello example.com"; got != want {
				t.Errorf("%s: %q, want %q", u, got, want)
			}
			res.Body.Close()
		}
	}
	stranger := proxyClient(t, cfg, nil)
	res, err := stranger.Get("http://example.com/")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != 407 {
		t.Errorf("without credentials: %d, want 407", res.StatusCode)
	}
	if _, err := stranger.Get("https://example.com/"); err == nil {
		t.Error("CONNECT without credentials succeeded")
	}
}
