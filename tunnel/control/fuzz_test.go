package control

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

func FuzzVerify(f *testing.F) {
	for _, name := range []string{"v0-no-kid", "v0", "v1"} {
		f.Add(vector(f, name))
	}
	f.Add(handMade(f, testKey, goodHeader, goodV1))
	f.Add(handMade(f, testKey, `{"alg":"none"}`, goodV1))
	f.Add(handMade(f, testKey, `{"alg":"EdDSA","crit":[]}`, `{"exp":1e999}`))
	f.Add("a.b.c")
	v := newVerifier(f, nil)
	reasons := []error{ErrMalformed, ErrAlgorithm, ErrSignature, ErrExpired, ErrNotYetValid}
	f.Fuzz(func(t *testing.T, s string) {
		c, err := v.Verify(t.Context(), s)
		if err == nil {
			// Only we can sign, so the token is one of the seeds: at most its
			// signature was written differently, which decoding is too strict for.
			if c.ID == "" || c.Expires.IsZero() {
				t.Errorf("%+v", c)
			}
			return
		}
		known := false
		for _, r := range reasons {
			known = known || errors.Is(err, r)
		}
		if !known || strings.ContainsAny(err.Error(), "\r\n") || len(err.Error()) > 400 {
			t.Errorf("%q", err)
		}
		expiryOf(s)
	})
}

// FuzzClaims signs whatever there is, so that the claims are looked at.
func FuzzClaims(f *testing.F) {
	f.Add(`{"alg":"EdDSA"}`, `{"pssid":"123e4567-e89b-12d3-a456-426614174000","exp":4102444800,"jti":"x"}`)
	f.Add(`{"alg":"EdDSA","kid":"x"}`, `{"ver":1,"iss":"ssr","aud":"snap","exp":4102444800,"nbf":1,"iat":1,"jti":"x","pssid":"ABI-RWfomxLTpFZCZhQXQAA"}`)
	f.Add(`{"alg":"EdDSA"}`, `{"ver":1e0,"exp":-0,"jti":"\ud800"}`)
	v := newVerifier(f, nil)
	f.Fuzz(func(t *testing.T, header, claims string) {
		c, err := v.Verify(t.Context(), handMade(t, testKey, header, claims))
		if err != nil {
			return
		}
		if c.ID == "" || len(c.ID) > maxTokenID || c.Version != 0 && c.Version != 1 || !testTime.Before(c.Expires.Add(leeway)) {
			t.Errorf("%+v", c)
		}
		r, err := ParseRevoked([]byte("subject " + c.Subject.String()))
		if err != nil || !r.Has(c) {
			t.Errorf("%v does not revoke it: %v", c.Subject, err)
		}
		if _, err := SignToken(testKey, c); err != nil {
			t.Errorf("cannot be signed: %v", err)
		}
	})
}

func FuzzMessages(f *testing.F) {
	f.Add(goodPlane.append(nil))
	f.Add(newRegistration(keyOf(1)).append(nil))
	f.Add(registered{make([]byte, 32)}.append(nil))
	f.Add([]byte{0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Add([]byte{0x0b, 0x0c})
	f.Fuzz(func(t *testing.T, b []byte) {
		whole := parseEmpty(b) == nil
		if m, err := parseDataPlaneAnswer(b); err == nil {
			again, err := parseDataPlaneAnswer(m.append(nil))
			if err != nil || again.addr != m.addr || again.control != m.control || !bytes.Equal(again.key, m.key) || (again.key == nil) != (m.key == nil) || !whole {
				t.Errorf("%+v becomes %+v, %v", m, again, err)
			}
		}
		m, err := parseRegistration(b)
		if (err == nil) != whole {
			t.Errorf("registration: %v", err)
		}
		if key, err := m.identity(); err == nil {
			again, err := parseRegistration(newRegistration(key).append(nil))
			if err != nil || !bytes.Equal(again.key, m.key) {
				t.Errorf("%x becomes %x, %v", m.key, again.key, err)
			}
		}
		if r, err := parseRegistered(b); err == nil {
			if again, err := parseRegistered(r.append(nil)); err != nil || !bytes.Equal(again.pskShare, r.pskShare) {
				t.Errorf("%x becomes %x, %v", r.pskShare, again.pskShare, err)
			}
		}
	})
}

func FuzzKeySet(f *testing.F) {
	f.Add(MarshalKeySet(publicOf(testKey), publicOf(otherKey)))
	f.Add([]byte(`{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"a","x":"RQigeqlBcH8-stuUyIl6gLLBGXR2tt4hOsJz332GxP8"},{"kty":"RSA"}]}`))
	f.Add([]byte(`{"keys":null}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		keys, err := parseKeySet(b)
		if err == nil && len(keys) == 0 {
			t.Error("an empty set")
		}
		for id, k := range keys {
			if id == "" || len(k) != 32 {
				t.Errorf("%q: %x", id, k)
			}
		}
	})
}

func FuzzRevoked(f *testing.F) {
	f.Add([]byte("id-7 # x\nsubject alice\nsubject 123e4567-e89b-12d3-a456-426614174000\n"))
	f.Add([]byte(vector(f, "v1")))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseRevoked(b)
		if err != nil && (r.Len() != 0 || len(err.Error()) > 300) {
			t.Errorf("%d lines, %q", r.Len(), err)
		}
		if r.Has(Claims{}) && !r.subjects[UUID{}] {
			t.Error("nothing is revoked")
		}
	})
}

func FuzzAnswer(f *testing.F) {
	f.Add(401, "", []byte("SNAP Token validation failed: x"))
	f.Add(503, "application/json", []byte(`{"code":"unavailable","message":"x"}`))
	f.Add(500, "text/html", []byte("<html>"))
	f.Fuzz(func(t *testing.T, status int, typ string, body []byte) {
		e := parseError(status, typ, body, "secret")
		if strings.Contains(e.Error(), "secret") || strings.ContainsAny(e.Error(), "\r\n\x1b") || len([]rune(e.Error())) > 300 {
			t.Errorf("%q", e)
		}
	})
}
