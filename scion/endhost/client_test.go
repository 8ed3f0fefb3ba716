package endhost

import (
	"compress/gzip"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/snapproxy/snapproxy/scion"
)

func TestClientAsksAHandler(t *testing.T) {
	w := newWorld(t)
	want := Segments{w.segments(t, "110 1>2 111"), w.segments(t, "210 20>10 110"), w.segments(t, "210 3>4 211")}
	underlays := Underlays{
		SNAPs:   []SNAP{{parsed(t, "http://127.0.0.1:9001"), []scion.IA{as("111")}}},
		Routers: []Router{{as("111"), netip.MustParseAddrPort("127.0.0.2:30001"), []uint16{41, 2}}},
	}
	c := clientOf(t, NewHandler(HandlerConfig{
		Underlays: func(_ context.Context, ia scion.IA) (Underlays, error) { return underlays, nil },
		Segments: func(_ context.Context, src, dst scion.IA) (Segments, error) {
			if src != as("111") {
				return Segments{}, ErrSource
			}
			return want, nil
		},
		Authorize: func(r *http.Request) error {
			if r.Header.Get("Authorization") != "Bearer the token" {
				return errors.New("SNAP Token validation failed: who are you?")
			}
			return nil
		},
	}), "the token")

	u, err := c.Underlays(t.Context(), 0)
	if err != nil || len(u.SNAPs) != 1 || len(u.Routers) != 1 || u.Scope != ScopeLoopback {
		t.Fatalf("underlays: %+v, %v", u, err)
	}
	if got := fmt.Sprint(u.SNAPs[0].URL, u.SNAPs[0].IAs, u.Routers); got != "http://127.0.0.1:9001 [1-ff00:0:111] [{1-ff00:0:111 127.0.0.2:30001 [41 2]}]" {
		t.Errorf("underlays: %s", got)
	}
	routes, err := c.Routes(t.Context(), as("111"), as("211"))
	if err != nil || len(routes) != 1 || shorten(routes[0]) != "111 2>1 110 10>20 210 3>4 211" {
		t.Fatalf("routes: %v, %v", routes, err)
	}
	if err := travel(routes[0]); err != nil {
		t.Error(err)
	}
	if routes, err := c.Routes(t.Context(), as("111"), as("111")); err != nil || len(routes) != 1 {
		t.Errorf("inside the AS: %v, %v", routes, err)
	}
	_, err = c.Routes(t.Context(), as("112"), as("211"))
	var said *Error
	if !errors.As(err, &said) || said.Status != 400 || said.Code != "invalid_argument" || !strings.Contains(err.Error(), "HTTP 400: the source is not") {
		t.Errorf("from another AS: %v", err)
	}
	c.config.Token = func(context.Context) (string, error) { return "another", nil }
	if _, err = c.Underlays(t.Context(), 0); !errors.Is(err, syscall.EACCES) || !strings.Contains(err.Error(), "HTTP 401: SNAP Token validation failed: who are you?") {
		t.Errorf("with another token: %v", err)
	}
}

// TestClientRefuses asks servers that do everything but answer.
func TestClientRefuses(t *testing.T) {
	tests := []struct {
		name    string
		handler http.HandlerFunc
		want    string // the end of the error
	}{
		{"HTML", text(200, "text/html; charset=utf-8", "<html>Please log in"), "the answer is a page of HTML, not of this API (a captive portal?)"},
		{"JSON", text(200, "application/json", "{}"), `the answer is of type "application/json", not application/proto`},
		{"no type", func(w http.ResponseWriter, r *http.Request) { w.Header()["Content-Type"] = nil }, `the answer is of type "", not application/proto`},
		{"no content", text(204, "application/proto", ""), "HTTP 204: no content"},
		{"an HTML error", text(502, "text/html", "<!DOCTYPE html><title>502"), "HTTP 502: a page of HTML"},
		{"a Connect error", text(503, "text/plain", `{"code":"unavailable","message":"come back\nlater"}`), "unavailable: come back later"},
		{"half a Connect error", text(500, "application/json", `{"code":"internal"}`), `HTTP 500: {"code":"internal"}`},
		{"a text", text(401, "", "no\x1b[2J token\r\nhere\u202e"), "HTTP 401: no [2J token here"},
		{"a long text", text(418, "", strings.Repeat("x", 5000)), "HTTP 418: " + strings.Repeat("x", 200) + "…"},
		{"an echo of the token", text(401, "", "bad token secret-token"), "HTTP 401: bad token …"},
		{"not protobuf", text(200, "application/proto", "\x0a"), "malformed message: unexpected EOF"},
		{"an empty answer", text(200, "application/proto", ""), "it names no SNAP and no router"},
		{"a long answer", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", contentProto)
			w.Header().Set("Content-Length", strconv.Itoa(maxBody+1))
		}, "the answer is longer than 4194304 bytes"},
		{"a body without end", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", contentProto)
			for block := make([]byte, 64<<10); ; {
				if _, err := w.Write(block); err != nil {
					return
				}
			}
		}, "the answer is longer than 4194304 bytes"},
		{"a bomb", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", contentProto)
			w.Header().Set("Content-Encoding", "gzip")
			g := gzip.NewWriter(w)
			g.Write(make([]byte, 1<<20))
			g.Close()
		}, `the answer is compressed ("gzip"), which was not asked for`},
		{"a cut answer", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", contentProto)
			w.Header().Set("Content-Length", "10")
			w.Write([]byte("12345"))
		}, "read the answer: unexpected EOF"},
		{"a header without end", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X", strings.Repeat("x", maxHeader))
		}, "server response headers exceeded 65536 bytes; aborted"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := clientOf(t, tt.handler, "secret-token")
			_, err := c.Underlays(t.Context(), as("111"))
			want := fmt.Sprintf("list underlays at endhost API %s: %s", c.URL(), tt.want)
			if err == nil || !strings.HasSuffix(err.Error(), tt.want) {
				t.Errorf("got %v, want %s", err, want)
			}
		})
	}
}

func TestClientFollowsNoRedirect(t *testing.T) {
	var asked atomic.Bool
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Store(true) }))
	defer other.Close()
	for _, status := range []int{301, 302, 303, 307, 308, 300} {
		c := clientOf(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", other.URL)
			w.WriteHeader(status)
		}), "secret")
		_, err := c.Segments(t.Context(), as("111"), as("112"))
		if err == nil || !strings.Contains(err.Error(), "redirects are not followed") {
			t.Errorf("status %d: %v", status, err)
		}
	}
	if asked.Load() {
		t.Error("a redirect was followed")
	}
}

func TestClientDoesNotWaitForEver(t *testing.T) {
	hang := make(chan struct{})
	for name, handler := range map[string]http.HandlerFunc{
		"before the answer": func(w http.ResponseWriter, r *http.Request) { hang <- struct{}{}; <-r.Context().Done() },
		"in its middle": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", contentProto)
			w.WriteHeader(200)
			w.(http.Flusher).Flush()
			hang <- struct{}{}
			<-r.Context().Done()
		},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			go func() { <-hang; cancel() }()
			_, err := clientOf(t, handler, "").Underlays(ctx, 0)
			if !errors.Is(err, context.Canceled) {
				t.Errorf("got %v, want that it was canceled", err)
			}
		})
	}
	ctx, cancel := withTimeout(t.Context())
	defer cancel()
	if _, ok := ctx.Deadline(); !ok {
		t.Error("a call without a deadline is not bounded")
	}
}

func TestClientHandsTokensToFew(t *testing.T) {
	token := func(context.Context) (string, error) { return "secret", nil }
	proxy := parsed(t, "http://127.0.0.1:3128")
	tests := []struct {
		url   string
		proxy *url.URL
		ok    bool
	}{
		{"https://api.example", nil, true},
		{"https://10.0.0.1:8443/", nil, true},
		{"https://api.example", proxy, true},
		{"http://127.0.0.1:8000", nil, true},
		{"http://[::1]:8000", nil, true},
		{"http://localhost:8000", nil, true},
		{"http://127.0.0.1:8000", proxy, false},
		{"http://api.example", nil, false},
		{"http://10.0.0.1:8000", nil, false},
		{"http://[fe80::1]:8000", nil, false},
		{"http://127.0.0.1.example:8000", nil, false},
	}
	for _, tt := range tests {
		c, err := NewClient(ClientConfig{URL: parsed(t, tt.url), Token: token, Proxy: tt.proxy})
		if (err == nil) != tt.ok {
			t.Errorf("token to %s by proxy %v: %v, want ok: %v", tt.url, tt.proxy, err, tt.ok)
		}
		if c != nil {
			c.Close()
		}
		if _, err := NewClient(ClientConfig{URL: parsed(t, tt.url), Proxy: tt.proxy}); err != nil {
			t.Errorf("without a token: %v", err)
		}
	}
	if err := controlLoopback("tcp", "192.0.2.1:80", nil); !errors.Is(err, errNotLocal) {
		t.Errorf("localhost at 192.0.2.1: %v", err)
	}
	if err := controlLoopback("tcp", "[::1]:80", nil); err != nil {
		t.Errorf("localhost at ::1: %v", err)
	}
}

func TestClientStopsWithoutAToken(t *testing.T) {
	var asked atomic.Bool
	c := clientOf(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Store(true) }), "")
	none := errors.New("the file is empty")
	c.config.Token = func(context.Context) (string, error) { return "", none }
	if _, err := c.Underlays(t.Context(), 0); !errors.Is(err, none) || asked.Load() {
		t.Errorf("got %v, asked: %v", err, asked.Load())
	}
}

func TestClientUsesItsOwnProxyOnly(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	t.Setenv("ALL_PROXY", "http://127.0.0.1:1")
	var asked atomic.Value
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Store(r.URL.String())
		answer := appendUnderlays(nil, Underlays{SNAPs: []SNAP{
			{parsed(t, "http://127.0.0.1:1"), []scion.IA{as("111")}},
			{parsed(t, "https://snap.example"), []scion.IA{as("111")}},
		}})
		w.Header().Set("Content-Type", contentProto)
		w.Write(answer)
	}))
	defer proxy.Close()
	c, err := NewClient(ClientConfig{URL: parsed(t, "http://api.example"), Proxy: parsed(t, proxy.URL)})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	u, err := c.Underlays(t.Context(), 0)
	if err != nil || asked.Load() != "http://api.example/"+methodUnderlays {
		t.Fatalf("got %v, asked %v", err, asked.Load())
	}
	if len(u.SNAPs) != 1 || u.SNAPs[0].URL.Host != "snap.example" || u.Scope != ScopePublic {
		t.Errorf("an API behind a proxy on the loopback was taken for one there: %+v", u)
	}
	direct, err := NewClient(ClientConfig{URL: parsed(t, "http://api.example")})
	if err != nil || direct.http.Transport.(*http.Transport).Proxy != nil {
		t.Errorf("the environment may name a proxy (%v)", err)
	}
}

func TestClientJoinsPaths(t *testing.T) {
	for base, want := range map[string]string{
		"":      "/" + methodUnderlays,
		"/":     "/" + methodUnderlays,
		"/x/":   "/x/" + methodUnderlays,
		"/x":    "/" + methodUnderlays,
		"/x/y/": "/x/y/" + methodUnderlays,
	} {
		var asked atomic.Value
		c := clientOf(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked.Store(r.Method + " " + r.URL.Path + " " + r.Header.Get("Content-Type"))
		}), "")
		c.config.URL = parsed(t, c.config.URL.String()+base)
		c.Underlays(t.Context(), 0)
		if got := asked.Load(); got != "POST "+want+" application/proto" {
			t.Errorf("base %q: asked %v", base, got)
		}
	}
}

func TestNewClientRefusesURLs(t *testing.T) {
	if _, err := NewClient(ClientConfig{}); err == nil {
		t.Error("a client without a URL")
	}
	for _, u := range []*url.URL{
		{Host: "api.example"}, {Scheme: "ftp", Host: "api.example"}, {Scheme: "http"}, {Scheme: "http", Opaque: "x"},
		{Scheme: "https", Host: "api.example", User: url.UserPassword("a", "secret")},
	} {
		if _, err := NewClient(ClientConfig{URL: u}); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", u.Redacted(), err)
		}
	}
}

// clientOf returns a client of a server on the loopback. Without a token it
// sends none.
func clientOf(t testing.TB, h http.Handler, token string) *Client {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	config := ClientConfig{URL: parsed(t, server.URL)}
	if token != "" {
		config.Token = func(context.Context) (string, error) { return token, nil }
	}
	c, err := NewClient(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func parsed(t testing.TB, s string) *url.URL {
	t.Helper()
	u, err := ParseURL(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// text answers with a text.
func text(status int, contentType, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		io.WriteString(w, body)
	}
}

func TestClientOverTLS(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer secret" || r.ProtoMajor != 2 {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		writeProto(w, rawSNAP("http://127.0.0.1:1", as("111")))
	}))
	server.EnableHTTP2 = true
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // of the handshake that fails
	server.StartTLS()
	defer server.Close()
	config := ClientConfig{
		URL:   parsed(t, server.URL),
		Token: func(context.Context) (string, error) { return "secret", nil },
		TLS:   server.Client().Transport.(*http.Transport).TLSClientConfig,
	}
	c, err := NewClient(config)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if u, err := c.Underlays(t.Context(), as("111")); err != nil || len(u.SNAPs) != 1 || u.Scope != ScopeLoopback {
		t.Errorf("got %+v, %v", u, err)
	}
	config.TLS = nil
	stranger, err := NewClient(config)
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	var unknown x509.UnknownAuthorityError
	if _, err := stranger.Underlays(t.Context(), as("111")); !errors.As(err, &unknown) {
		t.Errorf("with a certificate that nobody knows: %v", err)
	}
}

func TestErrorsSayWhetherToComeBack(t *testing.T) {
	for status, want := range map[int]struct {
		code            string
		temporary, deny bool
	}{
		400: {"invalid_argument", false, false}, 401: {"unauthenticated", false, true}, 403: {"permission_denied", false, true},
		404: {"not_found", false, false}, 418: {"unknown", false, false}, 429: {"unavailable", true, false},
		500: {"internal", false, false}, 502: {"unavailable", true, false}, 503: {"unavailable", true, false}, 504: {"unavailable", true, false},
	} {
		err := parseError(status, "", nil)
		if err.Code != want.code || err.Temporary() != want.temporary || errors.Is(err, syscall.EACCES) != want.deny {
			t.Errorf("HTTP %d: %+v", status, err)
		}
	}
}
