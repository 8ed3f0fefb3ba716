package scion

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// newPaths are Paths with routes, which do not run.
func newPaths(t testing.TB, routes ...*Route) *Paths {
	t.Helper()
	p := NewPaths(PathsConfig{Dst: ia211})
	if err := p.admit(fetch{routes: routes}); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestChoosingAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	p := newPaths(t, threeWays(t)...)
	back := mustPath(p.Best().Path.Append(nil))
	strange := mustPath(randomPath(newRand(1), 2, 3))
	flow := uint32(0)
	for name, f := range map[string]func(){
		"Route":                    func() { p.Route(flow) },
		"Route of a new flow":      func() { flow++; p.Route(flow) },
		"Heard":                    func() { p.Heard(flow) },
		"HeardOn":                  func() { p.HeardOn(back) },
		"HeardOn alternating":      func() { p.HeardOn(back); p.HeardOn(strange) },
		"Best":                     func() { p.Best() },
		"Peek":                     func() { p.Peek() },
		"MTU":                      func() { p.MTU(back) },
		"Report of something else": func() { p.Report(Report{Type: 1, To: Addr{IA: ia110}}) },
	} {
		f()
		if n := testing.AllocsPerRun(1000, f); n != 0 {
			t.Errorf("%s allocates %.1f times", name, n)
		}
	}
}

// TestManyGoroutinesChoose is for the race detector.
func TestManyGoroutinesChoose(t *testing.T) {
	var offset atomic.Int64
	begun := time.Now()
	clock := func() time.Time { return begun.Add(time.Duration(offset.Load())) }
	p := NewPaths(PathsConfig{Dst: ia211, Clock: clock})
	routes := threeWays(t)
	if err := p.admit(fetch{routes: routes}); err != nil {
		t.Fatal(err)
	}
	var users sync.WaitGroup
	for g := range uint32(4) {
		users.Go(func() {
			for i := range uint32(500) {
				r := p.Route(g * i)
				if r == nil {
					t.Error("no route")
					return
				}
				p.Heard(g * i)
				p.HeardOn(r.Path)
				p.MTU(r.Path)
				if i%50 == 0 {
					p.Best()
					p.Peek()
					p.Report(Report{Type: 5, IA: ia110, Egress: uint16(1 + i%2), To: to211(r)})
					p.Status()
				}
			}
		})
	}
	users.Go(func() {
		for range 50 {
			offset.Add(int64(time.Second))
			p.look(clock())
			_ = p.admit(fetch{routes: routes[:2]})
			_ = p.admit(fetch{routes: routes})
		}
	})
	users.Wait()
}

func BenchmarkRoute(b *testing.B) {
	p := newPaths(b, threeWays(b)...)
	b.Run("one goroutine", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			p.Route(7)
		}
	})
	b.Run("many", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				p.Route(7)
			}
		})
	})
}

func BenchmarkHeard(b *testing.B) {
	p := newPaths(b, threeWays(b)...)
	back := mustPath(p.Best().Path.Append(nil))
	b.Run("flow", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			p.Heard(7)
		}
	})
	b.Run("path", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			p.HeardOn(back)
		}
	})
}
