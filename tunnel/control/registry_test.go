package control

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/snapproxy/snapproxy/tunnel/snaptun"
)

func claimsFor(id string, expires time.Time) Claims { return Claims{ID: id, Expires: expires} }

func mustRegister(t *testing.T, r *Registry, id string, key snaptun.PublicKey, expires, now time.Time) {
	t.Helper()
	if err := r.Register(claimsFor(id, expires), key, now); err != nil {
		t.Fatal(err)
	}
}

func TestTokenBindsOneKeyAtATime(t *testing.T) {
	r := NewRegistry(RegistryConfig{})
	mustRegister(t, r, "a", keyOf(1), testTime.Add(time.Hour), testTime)
	mustRegister(t, r, "a", keyOf(2), testTime.Add(time.Hour), testTime)
	if r.Authorized(keyOf(1), testTime) || !r.Authorized(keyOf(2), testTime) || r.Len() != 1 {
		t.Error("want the second key only")
	}
}

func TestNobodyStealsAKey(t *testing.T) {
	r := NewRegistry(RegistryConfig{})
	mine, thiefs := keyOf(1), keyOf(2)
	mustRegister(t, r, "mine", mine, testTime.Add(time.Hour), testTime)
	mustRegister(t, r, "thief's", mine, testTime.Add(time.Minute), testTime)
	if !r.Authorized(mine, testTime.Add(2*time.Minute)) {
		t.Error("another token that expires earlier shortens mine")
	}
	mustRegister(t, r, "thief's", thiefs, testTime.Add(time.Minute), testTime)
	if !r.Authorized(mine, testTime) || !r.Authorized(thiefs, testTime) {
		t.Error("another token takes my key away with it")
	}
}

func TestKeyMovesFromTokenToTokenWithoutAGap(t *testing.T) {
	r := NewRegistry(RegistryConfig{})
	mustRegister(t, r, "old", keyOf(1), testTime.Add(time.Hour), testTime)
	mustRegister(t, r, "new", keyOf(1), testTime.Add(2*time.Hour), testTime.Add(59*time.Minute))
	r.Purge(testTime.Add(61 * time.Minute))
	if !r.Authorized(keyOf(1), testTime.Add(61*time.Minute)) || r.Len() != 1 {
		t.Error("the key is not authorized by the new token")
	}
	r.Revoke("new")
	r.Revoke("new")
	if r.Authorized(keyOf(1), testTime) || r.Len() != 0 {
		t.Error("revoking had no effect")
	}
}

func TestExpiryHasNoLeeway(t *testing.T) {
	r := NewRegistry(RegistryConfig{})
	end := testTime.Add(time.Minute)
	if err := r.Register(claimsFor("a", testTime), keyOf(1), testTime); err != ErrExpired {
		t.Errorf("registering at the expiry: %v", err)
	}
	mustRegister(t, r, "a", keyOf(1), end, testTime)
	if !r.Authorized(keyOf(1), end.Add(-1)) || r.Authorized(keyOf(1), end) {
		t.Error("want authorization up to the expiry, and no further")
	}
	mustRegister(t, r, "a", keyOf(1), testTime.Add(time.Second), testTime)
	if r.Authorized(keyOf(1), end.Add(-1)) {
		t.Error("an earlier expiry of the same token does not count")
	}
}

func TestRegistryIsBounded(t *testing.T) {
	r := NewRegistry(RegistryConfig{MaxBindings: 2})
	mustRegister(t, r, "a", keyOf(1), testTime.Add(time.Minute), testTime)
	mustRegister(t, r, "b", keyOf(2), testTime.Add(time.Hour), testTime)
	if err := r.Register(claimsFor("c", testTime.Add(time.Hour)), keyOf(3), testTime); err != ErrFull {
		t.Errorf("a third: %v", err)
	}
	mustRegister(t, r, "b", keyOf(4), testTime.Add(time.Hour), testTime)
	mustRegister(t, r, "c", keyOf(3), testTime.Add(time.Hour), testTime.Add(time.Minute)) // a has expired
}

func TestRegistryPurgesAsItRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewRegistry(RegistryConfig{})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { r.Run(ctx); close(ended) }()
		mustRegister(t, r, "a", keyOf(1), time.Now().Add(time.Second), time.Now())
		time.Sleep(purgePeriod + time.Second)
		synctest.Wait()
		if r.Len() != 0 {
			t.Error("an expired binding is still there")
		}
		cancel()
		<-ended
	})
}

// A registryModel is a Registry as one would write it down.
type registryModel map[string]binding

func (m registryModel) authorized(key snaptun.PublicKey, now time.Time) bool {
	for _, b := range m {
		if b.key == key && now.Before(b.claims.Expires) {
			return true
		}
	}
	return false
}

func TestRegistryIsItsModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r, m := NewRegistry(RegistryConfig{MaxBindings: 6}), registryModel{}
		now := testTime
		id := rapid.SampledFrom([]string{"a", "b", "c", "d", "e", "f", "g", "h"})
		key := rapid.Map(rapid.IntRange(0, 3), func(n int) snaptun.PublicKey { return keyOf(byte(n)) })
		t.Repeat(map[string]func(*rapid.T){
			"register": func(t *rapid.T) {
				i, k := id.Draw(t, "id"), key.Draw(t, "key")
				c := claimsFor(i, now.Add(time.Duration(rapid.IntRange(-1, 20).Draw(t, "life"))*time.Second))
				err := r.Register(c, k, now)
				if !now.Before(c.Expires) {
					if err != ErrExpired {
						t.Fatalf("expired: %v", err)
					}
					return
				}
				if _, ok := m[i]; !ok && len(m) >= 6 {
					for j, b := range m {
						if !now.Before(b.claims.Expires) {
							delete(m, j)
						}
					}
					if len(m) >= 6 {
						if err != ErrFull {
							t.Fatalf("full: %v", err)
						}
						return
					}
				}
				if err != nil {
					t.Fatal(err)
				}
				m[i] = binding{k, c}
			},
			"revoke": func(t *rapid.T) {
				i := id.Draw(t, "id")
				r.Revoke(i)
				delete(m, i)
			},
			"purge": func(t *rapid.T) {
				r.Purge(now)
				for j, b := range m {
					if !now.Before(b.claims.Expires) {
						delete(m, j)
					}
				}
			},
			"wait": func(t *rapid.T) { now = now.Add(time.Duration(rapid.IntRange(0, 5).Draw(t, "wait")) * time.Second) },
			"": func(t *rapid.T) {
				if r.Len() != len(m) {
					t.Fatalf("%d bindings, want %d", r.Len(), len(m))
				}
				for n := range 4 {
					if k := keyOf(byte(n)); r.Authorized(k, now) != m.authorized(k, now) {
						t.Fatalf("key %d: authorized %v, want %v", n, r.Authorized(k, now), m.authorized(k, now))
					}
				}
			},
		})
	})
}

func TestRegistryTakesManyAtOnce(t *testing.T) {
	r := NewRegistry(RegistryConfig{MaxBindings: 64})
	done := make(chan error)
	for w := range 4 {
		go func() {
			rnd := rand.New(rand.NewPCG(uint64(w), 1))
			for range 2000 {
				key := keyOf(byte(rnd.IntN(16)))
				switch rnd.IntN(4) {
				case 0:
					if err := r.Register(claimsFor(fmt.Sprint(rnd.IntN(32)), testTime.Add(time.Hour)), key, testTime); err != nil && !errors.Is(err, ErrFull) {
						done <- err
						return
					}
				case 1:
					r.Revoke(fmt.Sprint(rnd.IntN(32)))
				case 2:
					r.Purge(testTime)
				default:
					r.Authorized(key, testTime)
				}
			}
			done <- nil
		}()
	}
	for range 4 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestAuthorizedDoesNotAllocate(t *testing.T) {
	r := NewRegistry(RegistryConfig{})
	mustRegister(t, r, "a", keyOf(1), testTime.Add(time.Hour), testTime)
	now := time.Now()
	if n := testing.AllocsPerRun(100, func() { r.Authorized(keyOf(1), now); r.Authorized(keyOf(2), now) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func fullRegistry(b *testing.B) (*Registry, []snaptun.PublicKey) {
	r := NewRegistry(RegistryConfig{})
	keys := make([]snaptun.PublicKey, 1<<14)
	rnd := rand.New(rand.NewPCG(1, 2))
	for i := range keys {
		for j := range keys[i] {
			keys[i][j] = byte(rnd.Uint32())
		}
		if err := r.Register(claimsFor(fmt.Sprint(i), testTime.Add(time.Hour)), keys[i], testTime); err != nil {
			b.Fatal(err)
		}
	}
	return r, keys
}

func BenchmarkAuthorized(b *testing.B) {
	r, keys := fullRegistry(b)
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			r.Authorized(keys[i%len(keys)], testTime)
		}
	})
}

func BenchmarkRegister(b *testing.B) {
	r, keys := fullRegistry(b)
	for i := 0; b.Loop(); i++ {
		if err := r.Register(claimsFor("mine", testTime.Add(time.Hour)), keys[i%len(keys)], testTime); err != nil {
			b.Fatal(err)
		}
	}
}
