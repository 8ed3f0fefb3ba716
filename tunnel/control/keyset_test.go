package control

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestKeySetsThatCannotBeUsed(t *testing.T) {
	key := func(kid, x string) string {
		return fmt.Sprintf(`{"kty":"OKP","crv":"Ed25519","kid":%q,"x":%q}`, kid, x)
	}
	const x, y = "RQigeqlBcH8-stuUyIl6gLLBGXR2tt4hOsJz332GxP8", "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
	for _, tt := range []struct{ name, set, want string }{
		{"empty body", "", "key set: no JSON object"},
		{"HTML", "<html>", "key set: no JSON object"},
		{"no keys", "{}", "key set: no array of keys"},
		{"keys are no array", `{"keys":{}}`, "key set: no array of keys"},
		{"empty set", `{"keys":[]}`, "key set: none of its 0 keys is an Ed25519 key with an id"},
		{"two sets", `{"keys":[],"keys":[` + key("a", x) + `]}`, `key set: "keys" stands twice`},
		{"trailing", `{"keys":[` + key("a", x) + `]} x`, "key set: no JSON object"},
		{"other keys only", `{"keys":[{"kty":"RSA","kid":"a","n":"x","e":"AQAB"},{"kty":"OKP","crv":"X25519","kid":"a","x":"` + x + `"}]}`, "key set: none of its 2 keys"},
		{"no kid", `{"keys":[{"kty":"OKP","crv":"Ed25519","x":"` + x + `"}]}`, "key set: none of its 1 keys"},
		{"for encryption", `{"keys":[{"kty":"OKP","crv":"Ed25519","use":"enc","kid":"a","x":"` + x + `"}]}`, "key set: none of its 1 keys"},
		{"other algorithm", `{"keys":[{"kty":"OKP","crv":"Ed25519","alg":"ES256","kid":"a","x":"` + x + `"}]}`, "key set: none of its 1 keys"},
		{"private key", `{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"a","x":"` + x + `","d":"` + y + `"}]}`, "key set: none of its 1 keys"},
		{"short x", `{"keys":[` + key("a", "RQigeqlBcH8") + `]}`, "key set: none of its 1 keys"},
		{"two keys of one id", `{"keys":[` + key("a", x) + `,` + key("a", y) + `]}`, `key set: two keys have the id "a"`},
		{"too many", `{"keys":[` + strings.Repeat("1,", 1000) + `1]}`, "key set: more than 1000 keys"},
	} {
		if keys, err := parseKeySet([]byte(tt.set)); err == nil || !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("%s: %v, %v; want %s", tt.name, keys, err, tt.want)
		}
	}
	keys, err := parseKeySet([]byte(`{"keys":["x",` + key("a", x) + `,{"kty":"RSA"},` + key("a", x) + `,` + key("b", y) + `]}`))
	if err != nil || len(keys) != 2 || !keys["a"].Equal(publicOf(testKey)) {
		t.Errorf("the good among others: %v, %v", keys, err)
	}
}

func TestOwnKeySet(t *testing.T) {
	got, err := parseKeySet(MarshalKeySet(publicOf(testKey), publicOf(otherKey)))
	if err != nil || len(got) != 2 || !got[KeyID(publicOf(testKey))].Equal(publicOf(testKey)) {
		t.Errorf("%v, %v", got, err)
	}
	want := `{"keys":[{"kty":"OKP","crv":"Ed25519","use":"sig","alg":"EdDSA","kid":"` + KeyID(publicOf(testKey)) + `","x":"RQigeqlBcH8-stuUyIl6gLLBGXR2tt4hOsJz332GxP8"}]}`
	if got := string(MarshalKeySet(publicOf(testKey))); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// A keyIssuer serves a key set in a bubble.
type keyIssuer struct {
	mu      sync.Mutex
	answer  http.HandlerFunc
	fetches int
}

func (i *keyIssuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	i.fetches++
	answer := i.answer
	i.mu.Unlock()
	answer(w, r)
}

func (i *keyIssuer) says(f http.HandlerFunc) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.answer = f
}

func (i *keyIssuer) count() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.fetches
}

func saysKeys(keys ...ed25519.PublicKey) http.HandlerFunc {
	return says(http.StatusOK, "application/json", string(MarshalKeySet(keys...)))
}

func hangs(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

// startVerifier runs a verifier of the issuer's keys in a bubble.
func startVerifier(t *testing.T, i *keyIssuer, change func(*VerifierConfig)) (*Verifier, *logLines) {
	t.Helper()
	var lines logLines
	cfg := VerifierConfig{JWKS: mustURL("https://issuer.example/jwks.json"), Logger: lines.logger()}
	if change != nil {
		change(&cfg)
	}
	v, err := NewVerifier(cfg)
	if err != nil {
		t.Fatal(err)
	}
	v.set.client.Transport = handlerTransport{i}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { v.Run(ctx); close(ended) }()
	t.Cleanup(func() { cancel(); <-ended })
	return v, &lines
}

func signedNow(t *testing.T, key ed25519.PrivateKey) string {
	t.Helper()
	now := time.Now()
	s, err := SignToken(key, Claims{ID: "id", Subject: sampleUUID, Version: 1, IssuedAt: now, NotBefore: now, Expires: now.Add(24 * time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func wantVerify(t *testing.T, v *Verifier, token string, want error) {
	t.Helper()
	if _, err := v.Verify(t.Context(), token); !errors.Is(err, want) {
		t.Errorf("Verify: %v, want %v", err, want)
	}
}

func TestFirstTokenWaitsForTheKeySet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, _ := startVerifier(t, &keyIssuer{answer: saysKeys(publicOf(testKey))}, nil)
		wantVerify(t, v, signedNow(t, testKey), nil)
		wantVerify(t, v, signedNow(t, otherKey), ErrUnknownKey)
		wantVerify(t, v, handMade(t, testKey, goodHeader.with(object{"kid": nil}), goodV1), ErrNoKeyID)
		wantVerify(t, v, handMade(t, otherKey, goodHeader.with(object{"kid": KeyID(publicOf(testKey))}), goodV1), ErrSignature)
	})
}

func TestFetchedKeySetReplacesTheOldOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := &keyIssuer{answer: saysKeys(publicOf(testKey))}
		v, _ := startVerifier(t, i, nil)
		wantVerify(t, v, signedNow(t, testKey), nil)
		i.says(saysKeys(publicOf(otherKey)))
		time.Sleep(keySetPeriod + time.Second)
		synctest.Wait()
		wantVerify(t, v, signedNow(t, testKey), ErrUnknownKey)
		wantVerify(t, v, signedNow(t, otherKey), nil)
	})
}

func TestRotatedKeyIsFetchedAtItsFirstUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := &keyIssuer{answer: saysKeys(publicOf(testKey))}
		v, _ := startVerifier(t, i, nil)
		time.Sleep(keySetPause)
		synctest.Wait()
		i.says(saysKeys(publicOf(testKey), publicOf(otherKey)))
		began := time.Now()
		wantVerify(t, v, signedNow(t, otherKey), nil)
		if waited := time.Since(began); waited != 0 {
			t.Errorf("waited %v", waited)
		}
	})
}

func TestStrangersCannotMakeUsFetchAllTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := &keyIssuer{answer: saysKeys(publicOf(testKey))}
		v, _ := startVerifier(t, i, nil)
		for range 60 {
			wantVerify(t, v, signedNow(t, otherKey), ErrUnknownKey)
			time.Sleep(time.Second)
		}
		if n := i.count(); n > 7 {
			t.Errorf("%d fetches in a minute", n)
		}
	})
}

func TestKeySetThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := &keyIssuer{answer: hangs}
		v, lines := startVerifier(t, i, func(cfg *VerifierConfig) { cfg.Keys = []ed25519.PublicKey{publicOf(otherKey)} })
		began := time.Now()
		wantVerify(t, v, signedNow(t, testKey), ErrNoKeys)
		if waited := time.Since(began); waited != keySetWait {
			t.Errorf("waited %v", waited)
		}
		wantVerify(t, v, signedNow(t, otherKey), nil) // what is known needs no key set
		time.Sleep(callTimeout)
		synctest.Wait()
		if got := lines.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "key set not fetched") {
			t.Errorf("says %q", got)
		}
		i.says(saysKeys(publicOf(testKey)))
		time.Sleep(2 * keySetPause)
		synctest.Wait()
		wantVerify(t, v, signedNow(t, testKey), nil)
	})
}

func TestOldKeysStayWhileTheSetCannotBeHad(t *testing.T) {
	for _, tt := range []struct {
		name   string
		answer http.HandlerFunc
		want   string
	}{
		{"HTML", says(200, "text/html", "<!DOCTYPE html><title>Welcome</title>"), "answers a page of HTML"},
		{"HTML error", says(503, "text/html", "<html>"), "HTTP 503: a page of HTML"},
		{"empty", says(200, "application/json", `{"keys":[]}`), "none of its 0 keys"},
		{"nothing", says(200, "application/json", ""), "no JSON object"},
		{"gone", says(404, "text/plain", "no\nsuch file"), "HTTP 404: no such file"},
		{"elsewhere", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://evil.example/x", http.StatusFound)
		}, "redirects to https://evil.example, which is not followed"},
		{"endless", func(w http.ResponseWriter, _ *http.Request) { w.Write(make([]byte, maxKeySet+1)) }, "more than 1048576 bytes"},
		{"hangs", hangs, "deadline exceeded"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				i := &keyIssuer{answer: saysKeys(publicOf(testKey))}
				v, lines := startVerifier(t, i, nil)
				synctest.Wait()
				i.says(tt.answer)
				time.Sleep(3 * keySetPeriod)
				synctest.Wait()
				wantVerify(t, v, signedNow(t, testKey), nil)
				said := strings.Split(strings.TrimSpace(lines.String()), "\n")
				if len(said) != 2 || !strings.Contains(said[1], "the old one stays in force") || !strings.Contains(said[1], tt.want) {
					t.Errorf("says %q, want %q once", said, tt.want)
				}
				wantVerify(t, v, signedNow(t, otherKey), ErrNoKeys)
			})
		})
	}
}
