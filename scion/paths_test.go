package scion

import (
	"errors"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestFlowsTakeTheBestRouteAndStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := embark(t, PathsConfig{}, via130(t), via120(t))
		select {
		case <-j.Ready():
		default:
			t.Fatal("not ready")
		}
		flows := []uint32{1, 2, 3, 1 << 31}
		j.wantAt(j.keep(20*time.Second, flows...), via120(t), via120(t), via120(t), via120(t))
		j.set(nil, threeWays(t)...)
		j.await(31*time.Minute, func() bool { j.send(1); return j.fetched() == 2 })
		j.wantAt(j.keep(time.Second, flows...), via120(t), direct1(t), direct1(t), direct1(t)) // 1 had no pause
		time.Sleep(6 * time.Second)
		j.wantAt(j.keep(time.Second, 1), direct1(t))
		if len(j.Status()) != 3 || !j.Status()[0].Best || j.Status()[0].Flows != 1 {
			t.Errorf("status\n%s", j.status())
		}
		if strings.Contains(j.log.String(), "path left") {
			t.Errorf("log %s", j.log)
		}
	})
}

func TestNothingTicksWhileNothingIsSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := embark(t, PathsConfig{}, threeWays(t)...)
		j.keep(time.Second, 1)
		time.Sleep(flowIdle + tickInterval)
		if j.ticking.Load() {
			t.Error("ticks for nobody")
		}
		j.send(1)
		if synctest.Wait(); !j.ticking.Load() {
			t.Error("does not tick")
		}
	})
}

func TestRoutesAreFetchedAgainBeforeTheyExpire(t *testing.T) {
	for _, tt := range []struct {
		lifetime       []time.Duration
		least, longest time.Duration
	}{
		{[]time.Duration{6 * time.Hour, 6 * time.Hour}, 26 * time.Minute, 30 * time.Minute},
		{[]time.Duration{6 * time.Hour, 20 * time.Minute}, 13 * time.Minute, 15 * time.Minute},
		{[]time.Duration{6 * time.Hour, 6 * time.Minute}, 160 * time.Second, 3 * time.Minute},
		{[]time.Duration{6 * time.Hour, 10 * time.Second}, 54 * time.Second, time.Minute}, // or somebody could keep us busy
		{[]time.Duration{time.Minute, 10 * time.Second}, 27 * time.Second, 30 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			a, b := direct1(t), via120(t)
			a.Expiry, b.Expiry = time.Now().Add(tt.lifetime[0]), time.Now().Add(tt.lifetime[1])
			j := embark(t, PathsConfig{}, a, b)
			time.Sleep(tt.least - time.Second)
			if j.fetched() != 1 {
				t.Errorf("%v: %d fetches", tt.lifetime, j.fetched())
			}
			time.Sleep(tt.longest - tt.least + 2*time.Second)
			if j.fetched() != 2 {
				t.Errorf("%v: %d fetches", tt.lifetime, j.fetched())
			}
		})
	}
}

func TestFreshHopFieldsReplaceInPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old := direct1(t)
		j := embark(t, PathsConfig{}, old, via120(t))
		j.keep(time.Second, 1)
		used := j.Route(1)
		again := direct1(t)
		again.Path = mustPath(old.Path.Append(nil))
		j.set(nil, again, via120(t))
		j.await(31*time.Minute, func() bool { j.send(1); return j.fetched() == 2 })
		if got := j.Route(1); got.Path != used.Path {
			t.Error("the same hop fields became another pointer")
		}
		time.Sleep(time.Second)
		fresh := newRoute(t, 7*time.Hour, old.Interfaces...)
		j.set(nil, via120(t), fresh)
		j.await(31*time.Minute, func() bool { j.send(1); return j.fetched() == 3 })
		if got := j.Route(1); got.Path == used.Path || *got.Path != *fresh.Path {
			t.Errorf("still on the old hop fields: %v", got)
		}
		if j.MTU(j.Route(1).Path) != 1400 || j.MTU(used.Path) != 0 {
			t.Error("the MTU is that of the old hop fields")
		}
		// What comes back on either is heard on the route.
		before := j.Status()[0].Heard
		j.HeardOn(mustPath(used.Path.Append(nil)))
		time.Sleep(time.Second)
		j.HeardOn(mustPath(used.Path.Append(nil)))
		if after := j.Status()[0].Heard; !after.After(before) {
			t.Error("not heard on the old hop fields")
		}
	})
}

func TestFailedFetchesAreRepeatedWithPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := embark(t, PathsConfig{})
		j.set(errLookup)
		if err := j.Err(); !errors.Is(err, syscall.ENETUNREACH) || !strings.Contains(err.Error(), "no path to 2-ff00:0:211: the network knows none") {
			t.Errorf("Err() = %v", err)
		}
		if j.Route(1) != nil || j.Best() != nil || j.Peek() != nil {
			t.Error("a route out of nothing")
		}
		time.Sleep(10 * time.Minute)
		if n := j.fetched(); n < 12 || n > 20 {
			t.Errorf("%d fetches in 10 minutes", n)
		}
		if err := j.Err(); !errors.Is(err, errLookup) || !errors.Is(err, syscall.ENETUNREACH) {
			t.Errorf("Err() = %v", err)
		}
		j.set(nil, direct1(t))
		j.await(time.Minute, func() bool { return j.send(1) != "none" })
		if err := j.Err(); err != nil {
			t.Errorf("Err() = %v", err)
		}
	})
}

func TestRoutesOutliveFailedFetchesButNotTheirExpiry(t *testing.T) {
	for name, fail := range map[string]func(j *journey){
		"an error":      func(j *journey) { j.set(errLookup) },
		"nothing":       func(j *journey) { j.set(nil) },
		"nothing valid": func(j *journey) { j.set(nil, &Route{}, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b := direct1(t), via120(t)
				a.Expiry, b.Expiry = time.Now().Add(20*time.Minute), time.Now().Add(25*time.Minute)
				j := embark(t, PathsConfig{}, a, b)
				fail(j)
				expired := func(r *Route) bool { return !time.Now().Before(r.Expiry) }
				j.await(time.Hour, func() bool {
					got := j.Route(1)
					if got != nil && expired(got) || got == nil && !expired(b) {
						t.Fatalf("%v: on %v", time.Since(j.began), got)
					}
					return got == nil
				})
				if got := time.Since(j.began); got > 25*time.Minute+4*time.Second {
					t.Errorf("the last expired after %v", got)
				}
				if j.Best() != nil || j.Peek() != nil || j.Err() == nil || len(j.Status()) != 0 {
					t.Error("something is left")
				}
				j.set(nil, direct1(t))
				j.await(time.Minute, func() bool { return j.send(1) != "none" })
			})
		})
	}
}

func TestARunThatEndsLeavesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		embark(t, PathsConfig{}, threeWays(t)...).keep(time.Second, 1, 2)
	}) // which would not end with a goroutine left
}

func TestRoutesThatLie(t *testing.T) {
	edit := func(f func(r *Route)) func(t *testing.T) *Route {
		return func(t *testing.T) *Route {
			r := via120(t)
			f(r)
			return r
		}
	}
	tests := map[string]func(t *testing.T) *Route{
		"to another AS":              edit(func(r *Route) { r.Dst, r.Interfaces[3].IA = ia120, ia120 }),
		"from another AS":            edit(func(r *Route) { r.Src, r.Interfaces[0].IA = ia130, ia130 }),
		"another AS at the end":      edit(func(r *Route) { r.Interfaces[3].IA = ia130 }),
		"another AS at the start":    edit(func(r *Route) { r.Interfaces[0].IA = ia130 }),
		"an AS with one interface":   edit(func(r *Route) { r.Interfaces[1].IA = ia130 }),
		"no interfaces":              edit(func(r *Route) { r.Interfaces = nil }),
		"an interface less":          edit(func(r *Route) { r.Interfaces = r.Interfaces[:3] }),
		"a link less":                edit(func(r *Route) { r.Interfaces = append(r.Interfaces[:1], r.Interfaces[3]) }),
		"interfaces of another path": edit(func(r *Route) { r.Interfaces[2].ID++ }),
		"no path":                    edit(func(r *Route) { r.Path = nil }),
		"a path that has begun":      edit(func(r *Route) { r.Path = mustPath(changed(r.Path.Append(nil), func(b []byte) { b[0] = 1 })) }),
		"without an MTU":             edit(func(r *Route) { r.MTU = 0 }),
		"expired":                    edit(func(r *Route) { r.Expiry = time.Now() }),
		"an expired path": func(t *testing.T) *Route {
			r := newRoute(t, 0, via120(t).Interfaces...)
			r.Expiry = time.Now().Add(time.Hour)
			return r
		},
		"back to where it began": func(t *testing.T) *Route {
			return newRoute(t, time.Hour, Interface{ia110, 1}, Interface{ia120, 1}, Interface{ia120, 2}, Interface{ia110, 2}, Interface{ia110, 3}, Interface{ia211, 2})
		},
		"in a loop": func(t *testing.T) *Route {
			return newRoute(t, time.Hour, Interface{ia110, 1}, Interface{ia120, 1}, Interface{ia120, 2}, Interface{ia130, 2}, Interface{ia130, 3}, Interface{ia120, 3}, Interface{ia120, 4}, Interface{ia211, 2})
		},
		"through the destination": func(t *testing.T) *Route {
			return newRoute(t, time.Hour, Interface{ia110, 1}, Interface{ia211, 1}, Interface{ia211, 2}, Interface{ia130, 2}, Interface{ia130, 3}, Interface{ia211, 3})
		},
		"nothing": func(*testing.T) *Route { return nil },
	}
	for name, make := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if alone := embark(t, PathsConfig{}, make(t)); alone.Route(1) != nil || alone.Err() == nil {
					t.Errorf("is used: %v", alone.Route(1))
				}
				j := embark(t, PathsConfig{}, make(t), via130(t), make(t))
				if got := j.send(1); got != via130(t).String() || len(j.Status()) != 1 {
					t.Errorf("on %s of\n%s", got, j.status())
				}
			})
		})
	}
}

func TestLatestOfTheSameHopsIsTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		long := newRoute(t, 9*time.Hour, direct1(t).Interfaces...)
		j := embark(t, PathsConfig{}, direct1(t), long, direct1(t))
		if got := j.Route(1); *got.Path != *long.Path || len(j.Status()) != 1 {
			t.Errorf("%v expires %v", got, got.Expiry)
		}
	})
}

func TestRoutesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var many []*Route
		for i := range 500 {
			many = append(many, newRoute(t, time.Hour, Interface{ia110, uint16(i + 1)}, Interface{ia211, uint16(i + 1)}))
		}
		j := embark(t, PathsConfig{}, many...)
		if n := len(j.Status()); n != maxRoutes {
			t.Errorf("%d routes", n)
		}
		for range 2000 { // paths of strangers are not remembered
			j.HeardOn(mustPath(randomPath(newRand(1), 2, 2)))
		}
		if n := len(j.known.Load().seen); n > maxKnown {
			t.Errorf("%d paths are remembered", n)
		}
	})
}

func TestRoutesInsideTheAS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := embark(t, PathsConfig{}) // to learn nothing
		p := NewPaths(PathsConfig{Dst: ia110, Policy: mustPolicy("sequence=0 0 0"), Fetch: j.fetch})
		j.set(nil, &Route{Src: ia110, Dst: ia110, MTU: 1500})
		run(t, p.Run)
		synctest.Wait()
		if r := p.Route(1); r == nil || r.Path != nil || r.String() != "1-ff00:0:110" || p.MTU(nil) != 1500 {
			t.Errorf("Route = %v", r)
		}
		p.HeardOn(nil)
		if p.Status()[0].Heard.IsZero() {
			t.Error("not heard")
		}
		time.Sleep(24 * time.Hour)
		if p.Route(1) == nil {
			t.Error("expired")
		}
	})
}

func TestErrSaysWhatRefused(t *testing.T) {
	for want, cfg := range map[string]PathsConfig{
		"none of 3 carries packets of 1401 bytes":                 {MinMTU: 1401},
		"none of 3 carries packets of 1365 bytes":                 {MinRoom: 1365}, // a path of two hops has 36
		`the path policy "sequence=0 0 0 0 0 0" allows none of 3`: {Policy: mustPolicy("sequence=0 0 0 0 0 0")},
	} {
		synctest.Test(t, func(t *testing.T) {
			j := embark(t, cfg, threeWays(t)...)
			err := j.Err()
			if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") || !errors.Is(err, syscall.ENETUNREACH) || j.Route(1) != nil {
				t.Errorf("Err() = %v, want %q", err, want)
			}
			if refused := cfg.Policy != nil; errors.Is(err, syscall.EACCES) != refused {
				t.Errorf("Err() = %v is EACCES: %v", err, !refused)
			}
		})
	}
}

func mustPolicy(s string) *Policy {
	p, err := ParsePolicy(s)
	if err != nil {
		panic(err)
	}
	return p
}
