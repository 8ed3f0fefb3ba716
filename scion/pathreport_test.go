package scion

import (
	"testing"
	"testing/synctest"
	"time"
)

func to211(r *Route) Addr { return Addr{IA: ia211, Host: v4b, Port: 77, Path: r.Path} }

func TestDownInterfacesAreLeftAtOnce(t *testing.T) {
	tests := []struct {
		name   string
		on     func(testing.TB) *Route // of the quoted packet
		report Report
		want   []func(testing.TB) *Route // what may still be used, the best first
	}{
		{"egress", direct1, Report{Type: 5, IA: ia110, Egress: 1}, []func(testing.TB) *Route{via120, via130}},
		{"ingress", direct1, Report{Type: 5, IA: ia211, Egress: 1}, []func(testing.TB) *Route{via120, via130}},
		{"of two routes", via120, Report{Type: 5, IA: ia120, Egress: 1}, []func(testing.TB) *Route{direct1}},
		{"of one in a shared AS", via120, Report{Type: 5, IA: ia120, Egress: 2}, []func(testing.TB) *Route{direct1, via130}},
		{"through an AS", via120, Report{Type: 6, IA: ia120, Ingress: 1, Egress: 2}, []func(testing.TB) *Route{direct1, via130}},
		{"from inside the first AS", via130, Report{Type: 6, IA: ia110, Egress: 2}, []func(testing.TB) *Route{direct1}},
		{"through an AS backwards", via120, Report{Type: 6, IA: ia120, Ingress: 2, Egress: 1}, nil},
		{"another way through an AS", via120, Report{Type: 6, IA: ia120, Ingress: 1, Egress: 3}, nil},
		{"an interface of another AS", direct1, Report{Type: 5, IA: ia120, Egress: 1}, nil},
		{"another interface", direct1, Report{Type: 5, IA: ia110, Egress: 2}, nil},
		{"interface 0", direct1, Report{Type: 5, IA: ia110}, nil},
		{"a host", direct1, Report{Type: 1, IA: ia211, Code: 3}, nil},
		{"an erroneous header", direct1, Report{Type: 4, IA: ia110, Code: 0}, nil},
		{"an address of ours", direct1, Report{Type: 4, Code: 33}, nil},
		{"a path, says the SNAP", direct1, Report{Type: 4, Code: 48}, nil},
		{"a path", direct1, Report{Type: 4, IA: ia110, Code: 51}, []func(testing.TB) *Route{via120, via130}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				j := embark(t, PathsConfig{}, threeWays(t)...)
				j.keep(2*time.Second, 1, 2, 3)
				tt.report.To = to211(tt.on(t))
				for _, s := range j.Status() { // the very pointer
					if s.Route.String() == tt.on(t).String() {
						tt.report.To = to211(s.Route)
					}
				}
				changed := j.Report(tt.report)
				if changed != (tt.want != nil) {
					t.Errorf("Report = %v", changed)
				}
				want := tt.want
				if want == nil {
					want = []func(testing.TB) *Route{direct1, via120, via130}
				}
				j.wantAt([]string{j.send(1), j.send(2), j.send(99), j.Best().String()}, want[0](t), want[0](t), want[0](t), want[0](t))
				alive := 0
				for i, s := range j.Status() {
					if i < len(want) && s.Route.String() != want[i](t).String() {
						t.Errorf("status\n%s", j.status())
					}
					if s.Alive {
						alive++
					}
				}
				if alive != len(want) {
					t.Errorf("status\n%s", j.status())
				}
			})
		})
	}
}

func TestReportsThatAreNotBelieved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := embark(t, PathsConfig{}, threeWays(t)...)
		j.keep(time.Second, 1)
		down := Report{Type: 5, IA: ia110, Egress: 1}
		for name, to := range map[string]Addr{
			"no path":                 {IA: ia211, Host: v4b},
			"to another AS":           {IA: ia120, Host: v4b, Path: j.Best().Path},
			"on a path of a stranger": {IA: ia211, Host: v4b, Path: mustPath(randomPath(newRand(1), 2, 2))},
		} {
			down.To = to
			if j.Report(down) {
				t.Errorf("%s: believed", name)
			}
		}
	})
}

func TestReportsOfOneFaultCountOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := embark(t, PathsConfig{}, threeWays(t)...)
		j.keep(time.Second, 1)
		down := Report{Type: 5, IA: ia110, Egress: 1, To: to211(j.Best())}
		for i := range 100 { // what was under way
			if j.Report(down) != (i == 0) {
				t.Fatalf("report %d", i)
			}
			j.send(1)
			time.Sleep(10 * time.Millisecond)
		}
		for _, s := range j.Status() {
			if !s.Alive && (time.Until(s.Until) > firstPenalty || s.Reason != "1-ff00:0:110 reports: interface 1-ff00:0:110#1 is down") {
				t.Errorf("until %v: %s", time.Until(s.Until), s.Reason)
			}
		}
		// What comes in over it meanwhile was under way as well.
		j.HeardOn(down.To.Path)
		j.wantAt(j.keep(time.Second, 1, 2), via120(t), via120(t))
	})
}

func TestIfAllAreReportedDownTheyTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := embark(t, PathsConfig{}, threeWays(t)...)
		seen := map[string]int{}
		for range 300 {
			r := j.Route(1)
			seen[r.String()]++
			time.Sleep(20 * time.Millisecond)
			j.Report(Report{Type: 5, IA: ia110, Egress: r.Interfaces[0].ID, To: to211(r)})
			time.Sleep(80 * time.Millisecond)
		}
		if len(seen) != 2 || j.Err() != nil { // the third shares its link with the second
			t.Errorf("tried %v", seen)
		}
	})
}

func TestARefusedHopFieldIsLookedUpAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := embark(t, PathsConfig{}, threeWays(t)...)
		j.keep(time.Minute, 1)
		refused := j.Route(1)
		fresh := newRoute(t, 7*time.Hour, refused.Interfaces...)
		if !j.Report(Report{Type: 4, Code: 52, IA: ia110, To: to211(refused)}) {
			t.Fatal("not believed")
		}
		j.wantAt(j.keep(time.Second, 1, 2), via120(t), via120(t))
		if j.fetched() != 2 {
			t.Errorf("%d fetches", j.fetched())
		}
		// The same hop fields come again, and nothing can be expected of them.
		j.wantAt(j.keep(30*time.Second, 2, 3), via120(t), via120(t))
		// A fetch that brings others makes it good, if it has been long enough.
		j.set(nil, fresh, via120(t))
		j.await(31*time.Minute, func() bool { j.send(2); return j.fetched() == 3 })
		time.Sleep(flowIdle + time.Second)
		j.keep(time.Second, 5)
		j.wantAt(j.keep(time.Second, 3), direct1(t))
		if got := j.Route(3); *got.Path != *fresh.Path {
			t.Error("on the refused hop fields")
		}
		if j.Report(Report{Type: 4, Code: 52, IA: ia110, To: to211(refused)}) {
			t.Error("a report about the hop fields of before is believed")
		}
	})
}

func TestPacketTooBigLowersTheMTU(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := embark(t, PathsConfig{MinMTU: 1280}, threeWays(t)...)
		j.keep(time.Second, 1)
		used := j.Route(1)
		big := func(mtu int) bool { return j.Report(Report{Type: 2, IA: ia110, MTU: mtu, To: to211(used)}) }
		if big(1400) || big(9000) || !big(1300) || big(1300) {
			t.Error("Report is wrong about what it changed")
		}
		now := j.Route(1)
		if now.MTU != 1300 || now.Path != used.Path || j.MTU(used.Path) != 1300 || used.MTU != 1400 {
			t.Errorf("MTU is %d, and that of before %d", now.MTU, used.MTU)
		}
		// A fetch does not bring it back at once, but some day.
		j.set(nil, threeWays(t)...)
		j.await(31*time.Minute, func() bool { return j.fetched() == 2 })
		if got := j.Route(1).MTU; got != 1400 {
			t.Errorf("MTU is %d after half an hour, want 1400", got)
		}
		used = j.Route(1)
		if !big(1279) {
			t.Error("not believed")
		}
		j.wantAt([]string{j.send(1), j.send(2)}, via120(t), via120(t))
		for _, s := range j.Status() {
			if s.Route.String() == direct1(t).String() && (s.Alive || s.Reason != "1-ff00:0:110 reports: packet too big for 1279 bytes" || s.Until.IsZero()) {
				t.Errorf("status %+v", s)
			}
		}
		for _, r := range []*Route{via120(t), via130(t)} {
			for _, s := range j.Status() {
				if s.Route.String() == r.String() {
					j.Report(Report{Type: 2, IA: ia110, MTU: 0, To: to211(s.Route)})
				}
			}
		}
		if j.Route(1) != nil || j.Best() != nil || j.Err() == nil {
			t.Errorf("on %v, Err() = %v", j.Route(1), j.Err())
		}
		j.set(errLookup)
		time.Sleep(mtuFor)
		j.wantAt([]string{j.send(1), j.send(2)}, direct1(t), direct1(t))
		if got := j.Route(1).MTU; got != 1400 {
			t.Errorf("MTU is %d after a while, want 1400", got)
		}
	})
}
