package control

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

const snapURL = "https://192.0.2.1:8443/some/path"

// newTestClient returns a client that talks to h instead of a network.
func newTestClient(t testing.TB, h http.Handler, cfg ClientConfig) *Client {
	t.Helper()
	if cfg.URL == nil {
		cfg.URL = mustURL(snapURL)
	}
	c, err := NewClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	c.plain.Transport, c.secure.Transport = handlerTransport{h}, handlerTransport{h}
	return c
}

func token(s string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) { return s, nil }
}

var goodPlane = dataPlaneAnswer{addr: "192.0.2.7:30041", control: "https://192.0.2.1:9443/x", key: make32(7)}

func make32(first byte) []byte {
	b := make([]byte, 32)
	b[0] = first
	return b
}

func TestClientAsksAndRegisters(t *testing.T) {
	var paths []string
	c := newTestClient(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		paths = append(paths, r.URL.String())
		if got := r.Header.Get("Content-Type"); got != "application/proto" || r.Method != "POST" || r.Header.Get("Authorization") != "Bearer tok" {
			t.Errorf("%s %v", r.Method, r.Header)
		}
		if strings.HasSuffix(r.URL.Path, "GetSnapDataPlaneAddress") {
			saysProto(goodPlane.append(nil))(w, r)
			return
		}
		var body [200]byte
		n, _ := r.Body.Read(body[:])
		m, err := parseRegistration(body[:n])
		if err != nil || string(m.key) != string(make32(9)) || string(m.pskShare) != string(make([]byte, 32)) {
			t.Errorf("registration %x, %v", body[:n], err)
		}
		saysProto(registered{make([]byte, 32)}.append(nil))(w, r)
	}), ClientConfig{Token: token("tok")})
	if err := c.Register(t.Context(), [32]byte(make32(9))); err != nil {
		t.Fatal(err)
	}
	d, err := c.DataPlane(t.Context())
	want := DataPlane{Addr: netip.MustParseAddrPort("192.0.2.7:30041"), Control: mustURL("https://192.0.2.1:9443/x"), Key: [32]byte(make32(7))}
	if err != nil || d.Addr != want.Addr || *d.Control != *want.Control || d.Key != want.Key {
		t.Errorf("%+v, %v", d, err)
	}
	if err := c.Register(t.Context(), [32]byte(make32(9))); err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Join(paths, " "), "https://192.0.2.1:8443/anapaya.snap.v1.SnapControl/RegisterSnapTunIdentity "+
		"https://192.0.2.1:8443/anapaya.snap.v1.SnapControl/GetSnapDataPlaneAddress "+
		"https://192.0.2.1:9443/anapaya.snap.v1.SnapControl/RegisterSnapTunIdentity"; got != want {
		t.Errorf("called %s", got)
	}
}

func TestWhereToRegister(t *testing.T) {
	for _, tt := range []struct{ url, control, want string }{
		{"https://192.0.2.1", "", "https://192.0.2.1"},
		{"https://192.0.2.1", "https://192.0.2.1:7", "https://192.0.2.1:7"},
		{"https://192.0.2.1", "https://evil.example", "it wants keys registered at https://evil.example: a token for 192.0.2.1 does not go to evil.example"},
		{"https://192.0.2.1", "http://192.0.2.1", "it wants keys registered at http://192.0.2.1: a token goes over https"},
		{"https://192.0.2.1", "192.0.2.1:7", "a token goes over https"},
		{"https://192.0.2.1", "snap:7", "URL to register at: the scheme is neither http nor https"},
		{"https://192.0.2.1", "https://u:p@192.0.2.1", "URL to register at: it names a user"},
		{"https://192.0.2.1", "https://192.0.2.1/?x", "URL to register at: it has a query"},
		{"https://192.0.2.1", "://", "URL to register at: it is none"},
		{"http://127.0.0.1:1", "127.0.0.1:7", "http://127.0.0.1:7"},
		{"http://127.0.0.1:1", "[::1]:7", "does not go to ::1"},
	} {
		m := goodPlane
		m.control = tt.control
		c := newTestClient(t, saysProto(m.append(nil)), ClientConfig{URL: mustURL(tt.url)})
		d, err := c.DataPlane(t.Context())
		if err != nil {
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%s: %v, want %s", tt.control, err, tt.want)
			}
		} else if d.Control.String() != tt.want {
			t.Errorf("%s: register at %s, want %s", tt.control, d.Control, tt.want)
		}
	}
	// What the caller allows goes.
	m := goodPlane
	m.control = "https://other.example"
	c := newTestClient(t, saysProto(m.append(nil)), ClientConfig{Allow: func(*url.URL) error { return nil }})
	if _, err := c.DataPlane(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestClientURLs(t *testing.T) {
	for s, ok := range map[string]bool{
		"https://snap.example": true, "https://snap.example:8443/": true, "http://127.0.0.1:80": true, "http://[::1]": true,
		"http://localhost:1": true, "http://snap.localhost.": true, "http://[::ffff:127.0.0.1]": true,
		"http://snap.example": false, "http://192.0.2.1": false, "http://localhost.example": false, "ftp://127.0.0.1": false,
		"https://": false, "https://u@snap.example": false, "https://snap.example?x": false, "https://snap.example#x": false,
		"https://snap.example:0": false, "https://snap.example:": false, "https:snap.example": false,
	} {
		if _, err := NewClient(ClientConfig{URL: mustURL(s)}); (err == nil) != ok {
			t.Errorf("%s: %v", s, err)
		}
	}
	if _, err := NewClient(ClientConfig{}); err == nil {
		t.Error("no URL passes")
	}
	refuse := ClientConfig{URL: mustURL("https://snap.example"), Allow: func(u *url.URL) error { return errors.New("not this one") }}
	if _, err := NewClient(refuse); err == nil || err.Error() != "control plane https://snap.example: not this one" {
		t.Error(err)
	}
}

func TestDataPlanesThatMakeNoSense(t *testing.T) {
	for _, tt := range []struct {
		url  string
		m    dataPlaneAnswer
		want string
	}{
		{snapURL, dataPlaneAnswer{key: make32(1)}, `data plane address "" is no address with a port`},
		{snapURL, dataPlaneAnswer{addr: "snap.example:30041", key: make32(1)}, `data plane address "snap.example:30041" is no address with a port`},
		{snapURL, dataPlaneAnswer{addr: "192.0.2.1:0", key: make32(1)}, "is none of a host"},
		{snapURL, dataPlaneAnswer{addr: "0.0.0.0:1", key: make32(1)}, "is none of a host"},
		{snapURL, dataPlaneAnswer{addr: "[fe80::1%eth0]:1", key: make32(1)}, "is none of a host"},
		{snapURL, dataPlaneAnswer{addr: "224.0.0.1:1", key: make32(1)}, "is none of a host"},
		{snapURL, dataPlaneAnswer{addr: "255.255.255.255:1", key: make32(1)}, "is none of a host"},
		{snapURL, dataPlaneAnswer{addr: "127.0.0.1:53", key: make32(1)}, "data plane address 127.0.0.1:53 is nearer to this machine than the SNAP that names it"},
		{snapURL, dataPlaneAnswer{addr: "[::ffff:10.0.0.1]:53", key: make32(1)}, "nearer to this machine"},
		{snapURL, dataPlaneAnswer{addr: "100.64.0.1:53", key: make32(1)}, "nearer to this machine"},
		{snapURL, dataPlaneAnswer{addr: "[fe80::1]:53", key: make32(1)}, "nearer to this machine"},
		{"https://snap.example", dataPlaneAnswer{addr: "10.0.0.1:53", key: make32(1)}, "nearer to this machine"},
		{"https://10.0.0.1", dataPlaneAnswer{addr: "127.0.0.1:53", key: make32(1)}, "nearer to this machine"},
		{"https://10.0.0.1", dataPlaneAnswer{addr: "10.0.0.2:53", key: make32(1)}, ""},
		{"http://127.0.0.1:1", dataPlaneAnswer{addr: "127.0.0.1:53", key: make32(1)}, ""},
		{"http://127.0.0.1:1", dataPlaneAnswer{addr: "198.51.100.1:53", key: make32(1)}, ""},
		{snapURL, dataPlaneAnswer{addr: "192.0.2.1:1"}, "key of the data plane has 0 bytes, not 32"},
		{snapURL, dataPlaneAnswer{addr: "192.0.2.1:1", key: make([]byte, 31)}, "key of the data plane has 31 bytes, not 32"},
		{snapURL, dataPlaneAnswer{addr: "192.0.2.1:1", key: make([]byte, 32)}, "key of the data plane is all zero"},
		{snapURL, dataPlaneAnswer{addr: strings.Repeat("x", 3000), key: make32(1)}, "a string of 3000 bytes"},
	} {
		c := newTestClient(t, saysProto(tt.m.append(nil)), ClientConfig{URL: mustURL(tt.url)})
		_, err := c.DataPlane(t.Context())
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s names %.60q: %v, want %q", tt.url, tt.m.addr, err, tt.want)
		}
	}
}

func TestWhatSNAPsAnswerInstead(t *testing.T) {
	const secret = "eyJhbGciOiJFZERTQSJ9.e30.c2lnbmF0dXJl"
	for _, tt := range []struct {
		name      string
		answer    http.HandlerFunc
		want      string
		permanent bool
		refused   bool
	}{
		{"text of the Rust SNAP", says(401, "", "SNAP Token validation failed: token verification failed: ExpiredSignature"), "HTTP 401: SNAP Token validation failed: token verification failed: ExpiredSignature", true, true},
		{"JSON", says(503, "application/json", `{"code":"unavailable","message":"come back later","detail":null}`), "unavailable: come back later", false, false},
		{"JSON as text, as 0.6 has it", says(400, "text/plain", `{"code":"invalid_argument","message":"psk"}`), "invalid_argument: psk", true, false},
		{"JSON without a message", says(403, "application/json", `{"code":"x"}`), `HTTP 403: {"code":"x"}`, true, true},
		{"a page", says(502, "text/html; charset=utf-8", "<html><body>Bad gateway"), "HTTP 502: a page of HTML", false, false},
		{"a page without a type", says(404, "", "<!doctype html><html>"), "HTTP 404: a page of HTML", true, false},
		{"nothing", says(404, "", ""), "HTTP 404: not found", true, false},
		{"many lines", says(500, "text/plain", "a\nb\r\n\x1b[31mc"), "HTTP 500: a b [31mc", false, false},
		{"a megabyte", says(500, "text/plain", strings.Repeat("x", 1<<20)), "read the answer: more than 65536 bytes", false, false},
		{"long", says(500, "text/plain", strings.Repeat("x", 1000)), "HTTP 500: " + strings.Repeat("x", 200) + "…", false, false},
		{"the token", says(401, "text/plain", "I do not like "+secret), "HTTP 401: I do not like [token]", true, true},
		{"another token", says(400, "application/json", `{"code":"x","message":"eyJx.eyJx.x is bad"}`), "x: [token] is bad", true, false},
		{"a welcome page", says(200, "text/html", "<html>"), "answers a page of HTML (is this the URL of a SNAP?)", false, false},
		{"JSON success", says(200, "application/json", "{}"), `answers content type "application/json", not application/proto`, false, false},
		{"redirect", says(302, "", ""), "redirects elsewhere, which is not followed (HTTP 302)", false, false},
		{"redirect away", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://evil.example/x?y", http.StatusPermanentRedirect)
		}, "redirects to https://evil.example, which is not followed (HTTP 308)", false, false},
		{"no message", saysProto([]byte{0x0a, 0xff}), "not the message it should be", false, false},
		{"empty psk share", saysProto(nil), "psk share has 0 bytes, not 32", false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newTestClient(t, tt.answer, ClientConfig{Token: token(secret)})
				err := c.Register(t.Context(), keyOf(1))
				if err == nil || err.Error() != "register with https://192.0.2.1:8443: "+tt.want && !strings.HasPrefix(err.Error(), "register with https://192.0.2.1:8443: "+tt.want+" (") {
					t.Fatalf("says %v\nwant %s", err, tt.want)
				}
				if Permanent(err) != tt.permanent || errors.Is(err, syscall.EACCES) != tt.refused {
					t.Errorf("permanent %v, refused %v", Permanent(err), errors.Is(err, syscall.EACCES))
				}
			})
		})
	}
}

func TestUnknownTokenIsShownTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ok := saysProto(registered{make([]byte, 32)}.append(nil))
		no := says(401, "", "SNAP Token validation failed: JWKS key not found for kid 'x'")
		a := &answers{next: []http.HandlerFunc{no, ok, no}}
		c := newTestClient(t, a, ClientConfig{Token: token("tok")})
		began := time.Now()
		if err := c.Register(t.Context(), keyOf(1)); err != nil || time.Since(began) != freshKeyDelay {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		if err := c.Register(t.Context(), keyOf(1)); err == nil || len(a.tokens()) != 3 {
			t.Errorf("a token that was taken and is refused: %v after %d calls", err, len(a.tokens()))
		}
	})
}

func TestSNAPThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestClient(t, http.HandlerFunc(hangs), ClientConfig{})
		began := time.Now()
		_, err := c.DataPlane(t.Context())
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != callTimeout || Permanent(err) {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		if err.Error() != "ask https://192.0.2.1:8443 for its data plane: context deadline exceeded" {
			t.Errorf("says %q", err)
		}
	})
}

func TestErrorOfTheTokenSource(t *testing.T) {
	c := newTestClient(t, saysProto(nil), ClientConfig{Token: StaticToken("--token", "").Token})
	if err := c.Register(t.Context(), keyOf(1)); err == nil || err.Error() != "--token: no token, it is empty" {
		t.Error(err)
	}
}

func TestNobodyListens(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	c, err := NewClient(ClientConfig{URL: mustURL("http://" + l.Addr().String())})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Register(t.Context(), keyOf(1)); !errors.Is(err, syscall.ECONNREFUSED) || strings.Count(err.Error(), "http://") != 1 {
		t.Error(err)
	}
}

func TestHTTPGoesToTheLoopbackOnly(t *testing.T) {
	c, err := NewClient(ClientConfig{URL: mustURL("http://127.0.0.1:1")})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r, err := http.NewRequestWithContext(t.Context(), "GET", "http://192.0.2.1:1/", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.plain.Do(r); err == nil || !strings.Contains(err.Error(), "192.0.2.1:1 is not of this machine") {
		t.Error(err)
	}
}

// TestEnvironmentsProxyIsIgnored: it usually names this very program.
func TestEnvironmentsProxyIsIgnored(t *testing.T) {
	c, err := NewClient(ClientConfig{URL: mustURL(snapURL)})
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range []*http.Client{c.plain, c.secure} {
		if h.Transport.(*http.Transport).Proxy != nil {
			t.Error("there is a proxy")
		}
	}
}

func TestProxyIsForHTTPSOnly(t *testing.T) {
	proxy := mustURL("http://proxy.example:3128")
	c, err := NewClient(ClientConfig{URL: mustURL(snapURL), Proxy: proxy})
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.secure.Transport.(*http.Transport).Proxy(&http.Request{URL: mustURL(snapURL)})
	if err != nil || got != proxy || c.plain.Transport.(*http.Transport).Proxy != nil {
		t.Errorf("%v, %v", got, err)
	}
}

func TestClientOverTLS(t *testing.T) {
	s := httptest.NewUnstartedServer(saysProto(registered{make([]byte, 32)}.append(nil)))
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	s.EnableHTTP2 = true
	s.StartTLS()
	defer s.Close()
	pool := x509.NewCertPool()
	pool.AddCert(s.Certificate())
	c, err := NewClient(ClientConfig{URL: mustURL(s.URL), TLS: &tls.Config{RootCAs: pool}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Register(t.Context(), keyOf(1)); err != nil {
		t.Error(err)
	}
	stranger, err := NewClient(ClientConfig{URL: mustURL(s.URL)})
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	if err := stranger.Register(t.Context(), keyOf(1)); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Error(err)
	}
}
