package control

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// newHandler returns a handler at testTime and its registry.
func newHandler(t testing.TB, plane DataPlane) (*Handler, *Registry) {
	t.Helper()
	r := NewRegistry(RegistryConfig{MaxBindings: 2})
	return NewHandler(HandlerConfig{Verifier: newVerifier(t, nil), Registry: r, DataPlane: func() DataPlane { return plane }}), r
}

func goodToken(t testing.TB) string { return handMade(t, testKey, goodHeader, goodV1) }

// request is a good one of a Rust client.
func request(method string, body []byte, token string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "http://192.0.2.1:8080"+method, bytes.NewReader(body))
	r.Header.Set("Content-Type", "application/proto")
	r.Header.Set("User-Agent", "reqwest-crpc 0.8.6")
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	return r
}

func serve(h http.Handler, r *http.Request) *http.Response {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func bodyOf(t testing.TB, r *http.Response) []byte {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var samplePlane = DataPlane{Addr: netip.MustParseAddrPort("192.0.2.7:30041"), Key: keyOf(7)}

func TestHandlerRegisters(t *testing.T) {
	h, r := newHandler(t, samplePlane)
	resp := serve(h, request(methodRegister, newRegistration(keyOf(1)).append(nil), goodToken(t)))
	// Field 1, 32 zero bytes: the Rust client fails without them.
	want := append([]byte{0x0a, 32}, make([]byte, 32)...)
	if got := bodyOf(t, resp); resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "application/proto" || !bytes.Equal(got, want) {
		t.Errorf("HTTP %d %v %x", resp.StatusCode, resp.Header, got)
	}
	if !r.Authorized(keyOf(1), testTime) || r.Authorized(keyOf(1), testTime.Add(time.Hour)) {
		t.Error("want authorization until the token expires")
	}
}

func TestHandlerNamesTheDataPlane(t *testing.T) {
	wildcard := DataPlane{Addr: netip.MustParseAddrPort("0.0.0.0:30041"), Key: keyOf(7)}
	elsewhere := samplePlane
	elsewhere.Control = mustURL("https://snap.example/")
	for _, tt := range []struct {
		name          string
		plane         DataPlane
		change        func(*http.Request) *http.Request
		addr, control string
	}{
		{"as it is", samplePlane, nil, "192.0.2.7:30041", "http://192.0.2.1:8080/"},
		{"over TLS", samplePlane, func(r *http.Request) *http.Request { r.TLS = new(tls.ConnectionState); return r }, "192.0.2.7:30041", "https://192.0.2.1:8080/"},
		{"elsewhere", elsewhere, nil, "192.0.2.7:30041", "https://snap.example/"},
		{"a wildcard", wildcard, func(r *http.Request) *http.Request { return reachedAt(r, "[::ffff:198.51.100.1]:8080") }, "198.51.100.1:30041", "http://192.0.2.1:8080/"},
		{"parameters of the content type", samplePlane, func(r *http.Request) *http.Request {
			r.Header.Set("Content-Type", "Application/Proto; charset=utf-8")
			return r
		}, "192.0.2.7:30041", "http://192.0.2.1:8080/"},
		{"fields it does not know", samplePlane, func(r *http.Request) *http.Request {
			r.Body = io.NopCloser(strings.NewReader("\x7a\x01x\x80\x01\x05"))
			return r
		}, "192.0.2.7:30041", "http://192.0.2.1:8080/"},
	} {
		h, _ := newHandler(t, tt.plane)
		r := request(methodDataPlane, nil, goodToken(t))
		if tt.change != nil {
			r = tt.change(r)
		}
		resp := serve(h, r)
		m, err := parseDataPlaneAnswer(bodyOf(t, resp))
		if err != nil || resp.StatusCode != 200 || m.addr != tt.addr || m.control != tt.control || !bytes.Equal(m.key, tt.plane.Key[:]) {
			t.Errorf("%s: HTTP %d, %+v, %v", tt.name, resp.StatusCode, m, err)
		}
	}
}

// reachedAt is a request that came in at a local address.
func reachedAt(r *http.Request, addr string) *http.Request {
	local := net.TCPAddrFromAddrPort(netip.MustParseAddrPort(addr))
	return r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, net.Addr(local)))
}

func TestWhatHandlersRefuse(t *testing.T) {
	good := newRegistration(keyOf(1)).append(nil)
	without := func(m registration) []byte { return m.append(nil) }
	header := func(name string, values ...string) func(*http.Request) {
		return func(r *http.Request) { r.Header[name] = values }
	}
	expiring := handMade(t, testKey, goodHeader, goodV1.with(object{"exp": testTime.Unix() - 30}))
	for _, tt := range []struct {
		name       string
		method     string
		token      string
		body       []byte
		change     func(*http.Request)
		status     int
		code, text string // of JSON, or text alone
	}{
		{"no token", methodRegister, "", good, nil, 401, "", "SNAP Token validation failed: authorization header is missing"},
		{"no bearer", methodRegister, "", good, header("Authorization", "Basic eDp5"), 401, "", "SNAP Token validation failed: authorization header is not a bearer token"},
		{"bearer in lower case", methodRegister, "", good, header("Authorization", "bearer "+goodToken(t)), 401, "", "SNAP Token validation failed: authorization header is not a bearer token"},
		{"two spaces", methodRegister, "", good, header("Authorization", "Bearer  "+goodToken(t)), 401, "", "SNAP Token validation failed: token is malformed"},
		{"two tokens", methodRegister, "", good, header("Authorization", "Bearer "+goodToken(t), "Bearer "+goodToken(t)), 401, "", "SNAP Token validation failed: more than one authorization header"},
		{"wrong signature", methodRegister, handMade(t, otherKey, goodHeader, goodV1), good, nil, 401, "", "SNAP Token validation failed: signature of the token is wrong"},
		{"wrong signature, other method", methodDataPlane, handMade(t, otherKey, goodHeader, goodV1), nil, nil, 401, "", "SNAP Token validation failed: signature of the token is wrong"},
		{"token before everything", methodRegister, "", nil, header("Content-Type", "text/plain"), 401, "", "SNAP Token validation failed"},
		{"expired within the leeway", methodRegister, expiring, good, nil, 400, "invalid_argument", "token has expired"},
		{"no content type", methodRegister, goodToken(t), good, header("Content-Type"), 400, "invalid_argument", "content type is not application/proto"},
		{"JSON", methodRegister, goodToken(t), []byte("{}"), header("Content-Type", "application/json"), 400, "invalid_argument", "content type is not application/proto"},
		{"compressed", methodRegister, goodToken(t), good, header("Content-Encoding", "gzip"), 400, "invalid_argument", "content encoding is not known"},
		{"no message", methodRegister, goodToken(t), []byte{0xff}, nil, 400, "invalid_argument", "not the message it should be"},
		{"no message, other method", methodDataPlane, goodToken(t), []byte{0x0a}, nil, 400, "invalid_argument", "not the message it should be"},
		{"no key", methodRegister, goodToken(t), without(registration{nil, make([]byte, 32)}), nil, 400, "invalid_argument", "initiator identity has 0 bytes, not 32"},
		{"long key", methodRegister, goodToken(t), without(registration{make([]byte, 33), make([]byte, 32)}), nil, 400, "invalid_argument", "initiator identity has 33 bytes, not 32"},
		{"zero key", methodRegister, goodToken(t), without(registration{make([]byte, 32), make([]byte, 32)}), nil, 400, "invalid_argument", "initiator identity is all zero"},
		{"no psk share", methodRegister, goodToken(t), without(registration{make32(1), nil}), nil, 400, "invalid_argument", "psk share has 0 bytes, not 32"},
		{"another path", servicePath + "Other", goodToken(t), good, nil, 404, "", ""},
		{"GET", methodRegister, goodToken(t), nil, func(r *http.Request) { r.Method = "GET" }, 405, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h, reg := newHandler(t, samplePlane)
			r := request(tt.method, tt.body, tt.token)
			if tt.change != nil {
				tt.change(r)
			}
			resp := serve(h, r)
			body := string(bodyOf(t, resp))
			if resp.StatusCode != tt.status {
				t.Fatalf("HTTP %d %q", resp.StatusCode, body)
			}
			if tt.code != "" {
				if got := resp.Header.Get("Content-Type"); got != "application/json" {
					t.Errorf("content type %s", got)
				}
				var e map[string]any
				if err := json.Unmarshal([]byte(body), &e); err != nil || e["code"] != tt.code || e["message"] != tt.text {
					t.Errorf("%s, %v", body, err)
				}
				if d, ok := e["detail"]; !ok || d != nil {
					t.Errorf("no detail in %s", body)
				}
			} else if !strings.HasPrefix(body, tt.text) {
				t.Errorf("says %q, want %q", body, tt.text)
			}
			if reg.Len() != 0 {
				t.Error("it was registered all the same")
			}
		})
	}
}

func TestFullRegistryIsToComeBackTo(t *testing.T) {
	h, r := newHandler(t, samplePlane)
	mustRegister(t, r, "a", keyOf(1), testTime.Add(time.Hour), testTime)
	mustRegister(t, r, "b", keyOf(2), testTime.Add(time.Hour), testTime)
	resp := serve(h, request(methodRegister, newRegistration(keyOf(3)).append(nil), goodToken(t)))
	if resp.StatusCode != 503 {
		t.Errorf("HTTP %d", resp.StatusCode)
	}
	err := parseError(resp.StatusCode, resp.Header.Get("Content-Type"), bodyOf(t, resp), "")
	if !err.Temporary() || err.Message != "resource_exhausted: too many identities are registered" {
		t.Error(err)
	}
}

func TestGuard(t *testing.T) {
	h, _ := newHandler(t, samplePlane)
	guarded := h.Guard(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "in") }))
	if got := bodyOf(t, serve(guarded, request("/x", nil, goodToken(t)))); string(got) != "in" {
		t.Errorf("%q", got)
	}
	resp := serve(guarded, request("/x", nil, "bad"))
	if got := string(bodyOf(t, resp)); resp.StatusCode != 401 || !strings.HasPrefix(got, "SNAP Token validation failed: token is malformed") {
		t.Errorf("HTTP %d %s", resp.StatusCode, got)
	}
	if err := h.Authorize(request("/x", nil, "")); err == nil || err.Error() != "SNAP Token validation failed: authorization header is missing" {
		t.Error(err)
	}
	if err := h.Authorize(request("/x", nil, goodToken(t))); err != nil {
		t.Error(err)
	}
}

// TestKeySetOutOfReachIsNoRefusal: a client that hears 401 gives up its token.
func TestKeySetOutOfReachIsNoRefusal(t *testing.T) {
	w := httptest.NewRecorder()
	(&Refusal{ErrNoKeys}).ServeHTTP(w, nil)
	resp := w.Result()
	if err := parseError(resp.StatusCode, "", bodyOf(t, resp), ""); resp.StatusCode != 503 || !err.Temporary() {
		t.Error(err)
	}
}

// TestClientAndHandlerAgree goes once around, with what the Verifier and the
// Registry really do.
func TestClientAndHandlerAgree(t *testing.T) {
	h, r := newHandler(t, DataPlane{Addr: netip.MustParseAddrPort("127.0.0.1:30041"), Key: keyOf(7)})
	s := httptest.NewServer(h)
	defer s.Close()
	c, err := NewClient(ClientConfig{URL: mustURL(s.URL), Token: token(goodToken(t))})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	d, err := c.DataPlane(t.Context())
	if err != nil || d.Addr.Port() != 30041 || d.Key != keyOf(7) || d.Control.String() != s.URL+"/" {
		t.Fatalf("%+v, %v", d, err)
	}
	if err := c.Register(t.Context(), keyOf(1)); err != nil || !r.Authorized(keyOf(1), testTime) {
		t.Errorf("%v", err)
	}
}
