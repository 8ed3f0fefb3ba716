package control

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestRevokedLines(t *testing.T) {
	text := "# gone\n\nid-7 # lost laptop\n  subject alice\n" +
		"subject 123e4567-e89b-12d3-a456-426614174000\n" + vector(t, "v1") + "\nsubject#odd\n"
	r, err := ParseRevoked([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		c    Claims
		want bool
	}{
		{"by its id", Claims{ID: "id-7"}, true},
		{"by the subject's name", Claims{ID: "x", Subject: SubjectOf("alice")}, true},
		{"by the subject's UUID", Claims{ID: "x", Subject: sampleUUID}, true},
		{"by itself", Claims{ID: "test-jti"}, true},
		{"# inside a word", Claims{ID: "subject#odd"}, true},
		{"another", Claims{ID: "id-8", Subject: SubjectOf("bob")}, false},
		{"comment", Claims{ID: "gone"}, false},
	} {
		if got := r.Has(tt.c); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
	if r.Len() != 5 {
		t.Errorf("Len = %d", r.Len())
	}
}

func TestRevokedLinesThatMeanNothing(t *testing.T) {
	for text, want := range map[string]string{
		"a\nb c\n":             "line 2: more than one word (want ID, or subject NAME)",
		"subject a b":          "line 1: more than one word",
		"eyJhbGciOiJ4In0.e30.": "line 1: token is malformed: no jti",
	} {
		if _, err := ParseRevoked([]byte(text)); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

func TestRevokedFileIsFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		name := filepath.Join(t.TempDir(), "revoked")
		write := func(text string) {
			t.Helper()
			if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			time.Sleep(3 * revokedPoll)
			synctest.Wait()
		}
		write("")
		v, lines := startVerifier(t, &keyIssuer{answer: saysKeys(publicOf(testKey))}, func(cfg *VerifierConfig) { cfg.Revoked = name })
		r := NewRegistry(RegistryConfig{Verifier: v})
		ended := make(chan struct{})
		go func() { r.Run(t.Context()); close(ended) }()
		t.Cleanup(func() { <-ended })

		token := signedNow(t, testKey)
		c, err := v.Verify(t.Context(), token)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Register(c, keyOf(1), time.Now()); err != nil {
			t.Fatal(err)
		}
		write("id\n")
		wantVerify(t, v, token, ErrRevoked)
		if r.Authorized(keyOf(1), time.Now()) || r.Len() != 0 {
			t.Error("the key of a revoked token is still authorized")
		}
		if err := r.Register(c, keyOf(1), time.Now()); err != ErrRevoked {
			t.Errorf("verified before, registered after: %v", err)
		}

		write("id\ntwo words\n")
		wantVerify(t, v, token, ErrRevoked)
		if !strings.Contains(lines.String(), "revoked tokens refused, the old ones stay in force") {
			t.Errorf("says %q", lines)
		}
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * revokedPoll)
		synctest.Wait()
		wantVerify(t, v, token, ErrRevoked)
		write("")
		wantVerify(t, v, token, nil)
	})
}

func TestBindingsEndWithTheKeyThatSignedThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := &keyIssuer{answer: saysKeys(publicOf(testKey), publicOf(otherKey))}
		v, _ := startVerifier(t, i, nil)
		r := NewRegistry(RegistryConfig{Verifier: v})
		ended := make(chan struct{})
		go func() { r.Run(t.Context()); close(ended) }()
		t.Cleanup(func() { <-ended })
		c, err := v.Verify(t.Context(), signedNow(t, testKey))
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Register(c, keyOf(1), time.Now()); err != nil {
			t.Fatal(err)
		}
		i.says(saysKeys(publicOf(otherKey)))
		time.Sleep(keySetPeriod + time.Second)
		synctest.Wait()
		if r.Authorized(keyOf(1), time.Now()) {
			t.Error("a key registered with a token that nobody vouches for any more is authorized")
		}
	})
}
