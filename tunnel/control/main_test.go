package control

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/snapproxy/snapproxy/tunnel/snaptun"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testKey signs the tokens of snap.md §9.4.
var testKey = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{0x2b}, ed25519.SeedSize))

// otherKey signs the tokens of somebody else.
var otherKey = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{0x2c}, ed25519.SeedSize))

// testTime is when the tests take place, unless they are in a bubble.
var testTime = time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)

func publicOf(k ed25519.PrivateKey) ed25519.PublicKey { return k.Public().(ed25519.PublicKey) }

// vector returns a token of snap.md §9.4.
func vector(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name + ".jwt")
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

// handMade signs a token of any header and claims, each a struct, a map or JSON.
func handMade(t testing.TB, key ed25519.PrivateKey, header, claims any) string {
	t.Helper()
	part := func(v any) string {
		s, ok := v.(string)
		if !ok {
			b, err := json.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			s = string(b)
		}
		return base64.RawURLEncoding.EncodeToString([]byte(s))
	}
	signed := part(header) + "." + part(claims)
	return signed + "." + base64.RawURLEncoding.EncodeToString(ed25519.Sign(key, []byte(signed)))
}

type object map[string]any

// with returns a copy of o with some members changed; nil removes one.
func (o object) with(changes object) object {
	c := object{}
	for k, v := range o {
		c[k] = v
	}
	for k, v := range changes {
		if c[k] = v; v == nil {
			delete(c, k)
		}
	}
	return c
}

var (
	goodHeader = object{"alg": "EdDSA", "typ": "JWT", "kid": "some"}
	goodV0     = object{"pssid": "123e4567-e89b-12d3-a456-426614174000", "exp": testTime.Add(time.Hour).Unix(), "jti": "id-0"}
	goodV1     = object{
		"ver": 1, "iss": "ssr", "aud": "snap", "exp": testTime.Add(time.Hour).Unix(), "nbf": testTime.Unix(), "iat": testTime.Unix(),
		"jti": "id-1", "pssid": "ABI-RWfomxLTpFZCZhQXQAA", "sub": "alice",
	}
)

// freshToken signs a token that is good for d from now.
func freshToken(t testing.TB, id string, d time.Duration) string {
	t.Helper()
	now := time.Now()
	s, err := SignToken(testKey, Claims{ID: id, Subject: SubjectOf("alice"), Version: 1, IssuedAt: now, NotBefore: now, Expires: now.Add(d)})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// newVerifier verifies with the public half of testKey, at testTime.
func newVerifier(t testing.TB, change func(*VerifierConfig)) *Verifier {
	t.Helper()
	cfg := VerifierConfig{Keys: []ed25519.PublicKey{publicOf(testKey)}, Clock: func() time.Time { return testTime }}
	if change != nil {
		change(&cfg)
	}
	v, err := NewVerifier(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func keyOf(b byte) (k snaptun.PublicKey) {
	for i := range k {
		k[i] = b + byte(i)
	}
	return k
}

func mustURL(s string) *url.URL {
	u, err := url.Parse(s)
	if err != nil {
		panic(err)
	}
	return u
}

// A handlerTransport answers requests without any network, so that clients can
// be tested in a bubble.
type handlerTransport struct{ http.Handler }

func (h handlerTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	answer := httptest.NewRecorder()
	if r.Body == nil {
		r.Body = http.NoBody
	}
	r.Host = r.URL.Host
	h.ServeHTTP(answer, r)
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	resp := answer.Result()
	resp.Request = r
	return resp, nil
}

// answers are what a scripted API says, in order; the last one is repeated.
type answers struct {
	mu    sync.Mutex
	next  []http.HandlerFunc
	asked []string // tokens
}

func (a *answers) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	a.asked = append(a.asked, strings.TrimPrefix(r.Header.Get("Authorization"), bearer))
	f := a.next[0]
	if len(a.next) > 1 {
		a.next = a.next[1:]
	}
	a.mu.Unlock()
	f(w, r)
}

func (a *answers) tokens() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]string{}, a.asked...)
}

func says(status int, contentType, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		io.WriteString(w, body)
	}
}

func saysProto(body []byte) http.HandlerFunc {
	return says(http.StatusOK, contentType, string(body))
}

// logLines collects what is logged.
type logLines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logLines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logLines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *logLines) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}
