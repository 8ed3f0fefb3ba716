package control

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

func TestTokensOfTheReferenceAreGood(t *testing.T) {
	v := newVerifier(t, nil)
	for _, tt := range []struct {
		name string
		want Claims
	}{
		{"v0-no-kid", Claims{ID: sampleUUID.String(), Subject: sampleUUID, Expires: farFuture}},
		{"v0", Claims{ID: sampleUUID.String(), Subject: sampleUUID, Expires: farFuture}},
		{"v1", Claims{ID: "test-jti", Subject: sampleUUID, Issuer: "ssr", Version: 1, IssuedAt: time.Unix(1767225600, 0), NotBefore: time.Unix(1767225600, 0), Expires: farFuture}},
	} {
		got, err := v.Verify(t.Context(), vector(t, tt.name))
		tt.want.signer = string(publicOf(testKey))
		if err != nil || got != tt.want {
			t.Errorf("%s: %+v, %v", tt.name, got, err)
		}
	}
}

func TestWhatIsGood(t *testing.T) {
	v := newVerifier(t, nil)
	for name, token := range map[string]string{
		"v0":                    handMade(t, testKey, goodHeader, goodV0),
		"v1":                    handMade(t, testKey, goodHeader, goodV1),
		"no kid":                handMade(t, testKey, goodHeader.with(object{"kid": nil}), goodV1),
		"v0 for an audience":    handMade(t, testKey, goodHeader, goodV0.with(object{"aud": "snap"})),
		"v0 for several":        handMade(t, testKey, goodHeader, goodV0.with(object{"aud": []string{"other", "snap"}})),
		"private claims":        handMade(t, testKey, goodHeader, goodV1.with(object{"aa_acc_subject_id": []int{1}})),
		"expired in the leeway": handMade(t, testKey, goodHeader, goodV1.with(object{"exp": testTime.Unix() - 59})),
		"early in the leeway":   handMade(t, testKey, goodHeader, goodV1.with(object{"nbf": testTime.Unix() + 60})),
		"for ever":              handMade(t, testKey, goodHeader, goodV1.with(object{"exp": 1e300})),
		"fraction":              handMade(t, testKey, goodHeader, goodV1.with(object{"exp": float64(testTime.Unix()) + 0.5})),
		"no typ":                handMade(t, testKey, goodHeader.with(object{"typ": nil}), goodV1),
	} {
		if c, err := v.Verify(t.Context(), token); err != nil {
			t.Errorf("%s: %v", name, err)
		} else if c.Version == 1 && c.Name != "alice" {
			t.Errorf("%s: name %q", name, c.Name)
		}
	}
}

func TestWhatIsRefusedAndWhy(t *testing.T) {
	hour := int64(3600)
	for _, tt := range []struct {
		name, token string
		want        error
		text        string // of the line that the user reads
	}{
		{"expired", handMade(t, testKey, goodHeader, goodV1.with(object{"exp": testTime.Unix() - hour})), ErrExpired, "token has expired, at 2026-07-01T11:00:00Z"},
		{"at the end of the leeway", handMade(t, testKey, goodHeader, goodV0.with(object{"exp": testTime.Unix() - 60})), ErrExpired, ""},
		{"not yet valid", handMade(t, testKey, goodHeader, goodV1.with(object{"nbf": testTime.Unix() + hour})), ErrNotYetValid, "token is not yet valid, not before 2026-07-01T13:00:00Z"},
		{"v0 not yet valid", handMade(t, testKey, goodHeader, goodV0.with(object{"nbf": testTime.Unix() + hour})), ErrNotYetValid, ""},
		{"another key", handMade(t, otherKey, goodHeader, goodV1), ErrSignature, "signature of the token is wrong"},
		{"claims exchanged", exchangeClaims(handMade(t, testKey, goodHeader, goodV1), handMade(t, otherKey, goodHeader, goodV0)), ErrSignature, ""},
		{"no signature", stripSignature(handMade(t, testKey, goodHeader, goodV1)), ErrSignature, ""},
		{"alg none", stripSignature(handMade(t, testKey, goodHeader.with(object{"alg": "none"}), goodV1)), ErrAlgorithm, `token is signed with another algorithm than EdDSA: "none"`},
		{"alg None, signed", handMade(t, testKey, goodHeader.with(object{"alg": "None"}), goodV1), ErrAlgorithm, ""},
		{"alg in lower case", handMade(t, testKey, goodHeader.with(object{"alg": "eddsa"}), goodV1), ErrAlgorithm, ""},
		{"HS256 with the public key", hs256(t, publicOf(testKey)), ErrAlgorithm, `token is signed with another algorithm than EdDSA: "HS256"`},
		{"HS256 with its PEM", hs256(t, MarshalVerifyKey(publicOf(testKey))), ErrAlgorithm, ""},
		{"ES256", es256(t), ErrAlgorithm, ""},
		{"alg is no string", handMade(t, testKey, goodHeader.with(object{"alg": 1}), goodV1), ErrMalformed, "token is malformed: header: alg is no string"},
		{"no alg", handMade(t, testKey, goodHeader.with(object{"alg": nil}), goodV1), ErrMalformed, ""},
		{"two algs", handMade(t, testKey, `{"alg":"EdDSA","alg":"none"}`, goodV1), ErrMalformed, `token is malformed: header: "alg" stands twice`},
		{"two kids", handMade(t, testKey, `{"alg":"EdDSA","kid":"a","kid":"b"}`, goodV1), ErrMalformed, `token is malformed: header: "kid" stands twice`},
		{"kid is no string", handMade(t, testKey, goodHeader.with(object{"kid": 7}), goodV1), ErrMalformed, ""},
		{"crit", handMade(t, testKey, goodHeader.with(object{"crit": []string{"x"}}), goodV1), ErrMalformed, ""},
		{"b64", handMade(t, testKey, goodHeader.with(object{"b64": false}), goodV1), ErrMalformed, ""},
		{"empty", "", ErrMalformed, ""},
		{"no JWT", "open-sesame", ErrMalformed, "token is malformed: not three parts"},
		{"five parts", "a.b.c.d.e", ErrMalformed, ""},
		{"padded", strings.Replace(handMade(t, testKey, goodHeader, goodV1), ".", "=.", 1), ErrMalformed, ""},
		{"line break", strings.Replace(handMade(t, testKey, goodHeader, goodV1), ".", "\n.", 1), ErrMalformed, ""},
		{"huge", handMade(t, testKey, goodHeader, goodV1.with(object{"x": strings.Repeat("x", maxToken)})), ErrMalformed, ""},
		{"header is a list", handMade(t, testKey, `["EdDSA"]`, goodV1), ErrMalformed, ""},
		{"claims are null", handMade(t, testKey, goodHeader, "null"), ErrMalformed, ""},
		{"claims twice", handMade(t, testKey, goodHeader, `{"exp":1}{"exp":2}`), ErrMalformed, ""},
		{"two exp", handMade(t, testKey, goodHeader, fmt.Sprintf(`{"pssid":"123e4567-e89b-12d3-a456-426614174000","jti":"x","exp":1,"exp":%d}`, testTime.Unix()+hour)), ErrMalformed, `token is malformed: claims: "exp" stands twice`},
		{"EXP", handMade(t, testKey, goodHeader, goodV0.with(object{"exp": nil, "EXP": testTime.Unix() + hour})), ErrMalformed, "token is malformed: no claim exp"},
		{"exp is a string", handMade(t, testKey, goodHeader, goodV0.with(object{"exp": "4102444800"})), ErrMalformed, ""},
		{"exp is null", handMade(t, testKey, goodHeader, `{"pssid":"123e4567-e89b-12d3-a456-426614174000","jti":"x","exp":null}`), ErrMalformed, ""},
		{"exp is negative", handMade(t, testKey, goodHeader, goodV0.with(object{"exp": -1})), ErrMalformed, ""},
		{"no jti", handMade(t, testKey, goodHeader, goodV0.with(object{"jti": nil})), ErrMalformed, ""},
		{"empty jti", handMade(t, testKey, goodHeader, goodV0.with(object{"jti": ""})), ErrMalformed, ""},
		{"long jti", handMade(t, testKey, goodHeader, goodV0.with(object{"jti": strings.Repeat("x", 257)})), ErrMalformed, ""},
		{"no pssid", handMade(t, testKey, goodHeader, goodV0.with(object{"pssid": nil})), ErrMalformed, ""},
		{"pssid of v1 in v0", handMade(t, testKey, goodHeader, goodV0.with(object{"pssid": "ABI-RWfomxLTpFZCZhQXQAA"})), ErrMalformed, ""},
		{"pssid of v0 in v1", handMade(t, testKey, goodHeader, goodV1.with(object{"pssid": "123e4567-e89b-12d3-a456-426614174000"})), ErrMalformed, ""},
		{"pssid of version 1", handMade(t, testKey, goodHeader, goodV1.with(object{"pssid": "ARI-RWfomxLTpFZCZhQXQAA"})), ErrMalformed, ""},
		{"pssid of 16 bytes", handMade(t, testKey, goodHeader, goodV1.with(object{"pssid": "Ej5FZ-ibEtOkVkJmFBdAAA"})), ErrMalformed, ""},
		{"ver 2", handMade(t, testKey, goodHeader, goodV1.with(object{"ver": 2})), ErrMalformed, "token is malformed: version 2 is not known"},
		{"ver is a string", handMade(t, testKey, goodHeader, goodV1.with(object{"ver": "1"})), ErrMalformed, ""},
		{"another audience", handMade(t, testKey, goodHeader, goodV1.with(object{"aud": "snapshot"})), ErrMalformed, "token is malformed: claim aud is not snap"},
		{"aud is a list", handMade(t, testKey, goodHeader, goodV1.with(object{"aud": []string{"snap"}})), ErrMalformed, ""},
		{"v0 for others", handMade(t, testKey, goodHeader, goodV0.with(object{"aud": []string{"other"}})), ErrMalformed, ""},
		{"v1 without aud", handMade(t, testKey, goodHeader, goodV1.with(object{"aud": nil})), ErrMalformed, ""},
		{"v1 without iss", handMade(t, testKey, goodHeader, goodV1.with(object{"iss": nil})), ErrMalformed, ""},
		{"v1 without nbf", handMade(t, testKey, goodHeader, goodV1.with(object{"nbf": nil})), ErrMalformed, ""},
		{"v1 without iat", handMade(t, testKey, goodHeader, goodV1.with(object{"iat": nil})), ErrMalformed, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := newVerifier(t, nil).Verify(t.Context(), tt.token)
			if !errors.Is(err, tt.want) || c != (Claims{}) {
				t.Fatalf("%+v, %v; want %v", c, err, tt.want)
			}
			if tt.text != "" && err.Error() != tt.text {
				t.Errorf("says %q, want %q", err, tt.text)
			}
			if strings.Contains(err.Error(), "\n") || len(err.Error()) > 200 || tt.token != "" && strings.Contains(err.Error(), tt.token) {
				t.Errorf("no line to show: %q", err)
			}
		})
	}
}

func TestSeveralStaticKeys(t *testing.T) {
	v := newVerifier(t, func(cfg *VerifierConfig) { cfg.Keys = append(cfg.Keys, publicOf(otherKey)) })
	for _, key := range []ed25519.PrivateKey{testKey, otherKey} {
		if c, err := v.Verify(t.Context(), handMade(t, key, goodHeader, goodV1)); err != nil || c.signer != string(publicOf(key)) {
			t.Errorf("%v", err)
		}
	}
}

func TestVerifierNeedsAKey(t *testing.T) {
	for name, cfg := range map[string]VerifierConfig{
		"none":            {},
		"short key":       {Keys: []ed25519.PublicKey{{1, 2, 3}}},
		"http":            {JWKS: mustURL("http://issuer.example/jwks.json")},
		"no host":         {JWKS: mustURL("https:///jwks.json")},
		"file":            {JWKS: mustURL("file:///jwks.json")},
		"no revoked file": {Keys: []ed25519.PublicKey{publicOf(testKey)}, Revoked: "testdata/nowhere"},
	} {
		if _, err := NewVerifier(cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	v := newVerifier(b, nil)
	token := handMade(b, testKey, goodHeader, goodV1)
	for b.Loop() {
		if _, err := v.Verify(context.Background(), token); err != nil {
			b.Fatal(err)
		}
	}
}

func stripSignature(token string) string { return token[:strings.LastIndexByte(token, '.')+1] }

// exchangeClaims puts the claims of b into a.
func exchangeClaims(a, b string) string {
	x, y := strings.Split(a, "."), strings.Split(b, ".")
	return x[0] + "." + y[1] + "." + x[2]
}

func hs256(t *testing.T, secret []byte) string {
	t.Helper()
	s, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims(goodV1)).SignedString(secret)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func es256(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims(goodV1)).SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
