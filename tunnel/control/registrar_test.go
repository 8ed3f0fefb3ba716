package control

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

var (
	saysRegistered = saysProto(registered{make([]byte, 32)}.append(nil))
	saysRefused    = says(401, "", "SNAP Token validation failed: no")
	saysBusy       = says(503, "application/json", `{"code":"unavailable","message":"busy"}`)
)

// startRegistrar runs a registrar in a bubble.
func startRegistrar(t *testing.T, h http.Handler, tokens *TokenSource) (*Registrar, *logLines) {
	t.Helper()
	var lines logLines
	r := NewRegistrar(RegistrarConfig{Client: newTestClient(t, h, ClientConfig{}), Key: keyOf(1), Tokens: tokens, Logger: lines.logger()})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { r.Run(ctx); close(ended) }()
	t.Cleanup(func() { cancel(); <-ended })
	synctest.Wait()
	return r, &lines
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func TestRegistrarRegistersWithEachNewToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var made []string
		tokens := CommandToken("--token-command", func(context.Context) (string, error) {
			made = append(made, freshToken(t, NewTokenID(), time.Hour))
			return made[len(made)-1], nil
		})
		a := &answers{next: []http.HandlerFunc{saysRegistered}}
		r, lines := startRegistrar(t, a, tokens)
		if !isClosed(r.Registered()) || r.Err() != nil {
			t.Fatalf("not registered: %v", r.Err())
		}
		time.Sleep(2*time.Hour + time.Minute)
		synctest.Wait()
		// After 0, 59 and 118 minutes: always ahead of the expiry.
		if got := a.tokens(); len(got) != 3 || strings.Join(got, " ") != strings.Join(made, " ") {
			t.Errorf("%d registrations with %d tokens", len(got), len(made))
		}
		if n := strings.Count(lines.String(), "identity registered"); n != 3 {
			t.Errorf("says %s", lines)
		}
	})
}

func TestRegistrarTriesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &answers{next: []http.HandlerFunc{saysBusy, saysBusy, saysBusy, saysRegistered}}
		r, lines := startRegistrar(t, a, StaticToken("--token", "tok"))
		if r.Err() == nil || isClosed(r.Registered()) {
			t.Error("it is registered")
		}
		time.Sleep(10 * time.Second) // 1 + 2 + 4 and a quarter
		synctest.Wait()
		if r.Err() != nil || !isClosed(r.Registered()) {
			t.Errorf("after %d attempts: %v", len(a.tokens()), r.Err())
		}
		if got := lines.String(); strings.Count(got, "level=WARN") != 1 || !strings.Contains(got, "identity registered, after all") {
			t.Errorf("says %s", got)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := len(a.tokens()); n != 4 {
			t.Errorf("%d attempts", n)
		}
	})
}

func TestRefusalIsToldOnceAndRetriedSlowly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &answers{next: []http.HandlerFunc{saysRefused}}
		r, lines := startRegistrar(t, a, StaticToken("--token", "tok"))
		time.Sleep(freshKeyDelay)
		synctest.Wait()
		if !errors.Is(r.Err(), syscall.EACCES) || strings.Count(lines.String(), "level=WARN") != 1 {
			t.Errorf("%v; says %s", r.Err(), lines)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := len(a.tokens()); n < 10 || n > 40 { // two calls each
			t.Errorf("%d calls in an hour", n)
		}
		if strings.Count(lines.String(), "level=WARN") != 1 || strings.Contains(lines.String(), "tok\n") {
			t.Errorf("says %s", lines)
		}
	})
}

func TestRefusedTokenIsReplacedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var good atomic.Bool
		tokens := CommandToken("--token-command", func(context.Context) (string, error) {
			if good.Load() {
				return "good", nil
			}
			return "bad", nil
		})
		r, _ := startRegistrar(t, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			if req.Header.Get("Authorization") == "Bearer good" {
				saysRegistered(w, req)
				return
			}
			saysRefused(w, req)
		}), tokens)
		good.Store(true)
		time.Sleep(freshKeyDelay + commandPause + time.Second)
		synctest.Wait()
		if r.Err() != nil {
			t.Errorf("still %v", r.Err())
		}
	})
}

func TestAgainRegistersOnceMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &answers{next: []http.HandlerFunc{saysRegistered}}
		r, _ := startRegistrar(t, a, nil)
		r.Again()
		synctest.Wait()
		if n := len(a.tokens()); n != 1 {
			t.Errorf("%d calls at once", n)
		}
		time.Sleep(againPause)
		r.Again()
		r.Again()
		synctest.Wait()
		if n := len(a.tokens()); n != 2 {
			t.Errorf("%d calls", n)
		}
	})
}

func TestRegisterBeforeRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &answers{next: []http.HandlerFunc{saysRegistered}}
		tokens := StaticToken("--token", "tok")
		r := NewRegistrar(RegistrarConfig{Client: newTestClient(t, a, ClientConfig{}), Key: keyOf(1), Tokens: tokens})
		if err := r.Register(t.Context()); err != nil || !isClosed(r.Registered()) {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if err := r.Run(ctx); err != nil {
			t.Error(err)
		}
		if got := a.tokens(); len(got) != 1 || got[0] != "tok" {
			t.Errorf("called with %q", got)
		}
	})
}

func TestTokenThatCannotBeHad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &answers{next: []http.HandlerFunc{saysRegistered}}
		r, lines := startRegistrar(t, a, StaticToken("--token", freshToken(t, "id", time.Second)))
		if err := r.Err(); !errors.Is(err, ErrExpired) || !Permanent(err) {
			t.Error(err)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if len(a.tokens()) != 0 || strings.Count(lines.String(), "level=WARN") > 2 {
			t.Errorf("says %s", lines)
		}
	})
}

func TestStaticTokenThatEndsIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &answers{next: []http.HandlerFunc{saysRegistered}}
		r, lines := startRegistrar(t, a, StaticToken("--token", freshToken(t, "id", time.Hour)))
		time.Sleep(time.Hour)
		synctest.Wait()
		if !errors.Is(r.Err(), ErrExpired) || !strings.Contains(lines.String(), "--token: token has expired") {
			t.Errorf("%v; says %s", r.Err(), lines)
		}
	})
}

// TestRegistryLostByARestart: the SNAP forgets the key and tells nobody.
func TestRegistryLostByARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVerifier(t, func(cfg *VerifierConfig) { cfg.Clock = nil })
		serve := func() (*Handler, *Registry) {
			r := NewRegistry(RegistryConfig{})
			return NewHandler(HandlerConfig{Verifier: v, Registry: r, DataPlane: func() DataPlane { return samplePlane }}), r
		}
		handler, before := serve()
		r, _ := startRegistrar(t, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) { handler.ServeHTTP(w, q) }),
			StaticToken("--token", freshToken(t, "id", 24*time.Hour)))
		if !before.Authorized(keyOf(1), time.Now()) {
			t.Fatal("not registered")
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		var after *Registry
		handler, after = serve()
		r.Again()
		synctest.Wait()
		if !after.Authorized(keyOf(1), time.Now()) {
			t.Error("not registered again")
		}
	})
}
