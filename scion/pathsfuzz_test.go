package scion

import (
	"errors"
	"testing"
	"time"
)

// FuzzPaths does anything in any order to Paths, with a clock of its own, and
// holds what they hand out against what may be.
func FuzzPaths(f *testing.F) {
	f.Add([]byte{0, 7, 1, 1, 2, 20, 3, 1, 4, 0, 5, 0, 6, 1, 7, 0, 8, 9, 2, 255, 1, 1})
	f.Add([]byte{0, 255, 1, 1, 2, 15, 1, 1, 2, 15, 1, 1, 7, 0, 1, 1, 5, 1, 5, 2, 5, 3, 1, 1, 2, 100, 8, 0, 1, 1})
	f.Add([]byte{0, 3, 6, 0, 6, 1, 6, 2, 1, 1, 6, 9, 1, 1, 2, 200, 7, 0, 0, 3, 1, 1})
	f.Fuzz(func(t *testing.T, ops []byte) {
		now := time.Now()
		p := NewPaths(PathsConfig{Dst: ia211, MinMTU: 1280, Suspect: func() {}, Clock: func() time.Time { return now }})
		begun := now
		all := func() (routes []*Route) {
			for i, ids := range [][]Interface{
				{{ia110, 1}, {ia211, 1}},
				{{ia110, 2}, {ia120, 1}, {ia120, 2}, {ia211, 2}},
				{{ia110, 2}, {ia120, 1}, {ia120, 3}, {ia130, 1}, {ia130, 2}, {ia211, 3}},
			} {
				r := newRoute(t, 6*time.Hour+now.Sub(begun), ids...)
				r.MTU = 1280 + 40*i
				r.Expiry = now.Add(time.Duration(i+1) * 7 * time.Minute)
				routes = append(routes, r)
			}
			return append(routes, &Route{Dst: ia211, Src: ia110, MTU: 1500}, nil)
		}
		handed := []*Route{nil}
		check := func(what string, r *Route) {
			switch {
			case r == nil:
				if p.best.Load() != nil {
					t.Fatalf("%s is nil although there is a route", what)
				}
				return
			case !now.Before(r.Expiry):
				t.Fatalf("%s expired %v ago", what, now.Sub(r.Expiry))
			case r.MTU < 1280 || r.Dst != ia211 || r.Path == nil:
				t.Fatalf("%s is %v with MTU %d", what, r, r.MTU)
			}
			handed = append(handed, r)
		}
		for len(ops) >= 2 && len(ops) < 400 {
			op, arg := ops[0], ops[1]
			ops = ops[2:]
			old := handed[int(arg)%len(handed)]
			var to Addr
			if to = (Addr{IA: ia211, Host: v4b}); old != nil {
				to.Path = old.Path
			}
			switch op % 10 {
			case 0:
				var some []*Route
				for i, r := range all() {
					if arg>>i&1 == 1 {
						some = append(some, r)
					}
				}
				_ = p.admit(fetch{routes: some})
			case 1:
				check("Route", p.Route(uint32(arg)))
			case 2:
				now = now.Add(time.Duration(arg) * 100 * time.Millisecond)
				p.look(now)
			case 3:
				p.Heard(uint32(arg))
			case 4:
				p.HeardOn(to.Path)
			case 5:
				p.Report(Report{Type: 5, IA: ia110, Egress: uint16(arg % 4), To: to})
				p.Report(Report{Type: 6, IA: ia120, Ingress: 1, Egress: uint16(arg % 4), To: to})
			case 6:
				p.Report(Report{Type: 2, IA: ia110, MTU: 1200 + int(arg), To: to})
			case 7:
				p.Report(Report{Type: 4, Code: 40 + arg%20, IA: ia110, To: to})
			case 8:
				now = now.Add(time.Duration(arg) * 10 * time.Second)
				_ = p.admit(fetch{err: errors.New("nobody there")})
			case 9:
				check("Best", p.Best())
				check("Peek", p.Peek())
			}
			if len(p.candidates) > 3 {
				t.Fatalf("%d candidates", len(p.candidates))
			}
			best := p.best.Load()
			for _, c := range p.candidates {
				if best == nil && !c.tooSmall || best != nil && c.class(p.instant(now)) == 0 && best.class(p.instant(now)) > 0 && int64(p.instant(now)) < p.due.Load() && !best.expired(now) {
					t.Fatalf("the best is not good, but %v is", c.route.Load())
				}
			}
			if err := p.Err(); (err == nil) != (p.best.Load() != nil) {
				t.Fatalf("Err() = %v", err)
			}
			p.Status()
		}
	})
}
