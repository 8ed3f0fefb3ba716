package scion

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestFlowsLeaveARouteThatFallsSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := embark(t, PathsConfig{}, threeWays(t)...)
		flows := []uint32{1, 2, 3, 4}
		j.wantAt(j.keep(3*time.Second, flows...), direct1(t), direct1(t), direct1(t), direct1(t))
		j.lose(direct1(t))
		gap := j.await(3*time.Second, func() bool {
			j.send(1)
			time.Sleep(10 * time.Millisecond)
			return j.send(2) == via120(t).String()
		})
		if gap < silence || gap > silence+4*tickInterval {
			t.Errorf("left after %v", gap)
		}
		// All flows left, those too that have sent nothing since.
		if got := j.send(4); got != via120(t).String() {
			t.Errorf("the flow that slept is on %s", got)
		}
		j.wantAt(j.keep(6*time.Second, flows...), via120(t), via120(t), via120(t), via120(t))
		if s := j.Status(); s[2].Alive || s[2].Reason != "silent" || s[2].InUse || s[2].Until.IsZero() || !s[0].Best {
			t.Errorf("status\n%s", j.status())
		}
		if log := j.log.String(); strings.Count(log, "path left") != 1 || !strings.Contains(log, `path="1-ff00:0:110 1>1 2-ff00:0:211" reason=silent`) {
			t.Errorf("log %s", log)
		}
	})
}

func TestARouteThatWasLeftIsTriedAgain(t *testing.T) {
	for _, suspect := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			j := embarkWith(t, suspect, PathsConfig{}, threeWays(t)...)
			j.keep(time.Second, 1)
			j.lose(direct1(t))
			j.keep(3*time.Second, 1)
			// New flows begin all the time. At most one of them takes the dead route,
			// and none if there is another way to know.
			tried, until := 0, time.Time{}
			flow, was := uint32(1000), false
			j.took()
			for end := time.Now().Add(30 * time.Minute); time.Now().Before(end); {
				flow++
				at := ""
				for range 20 {
					at = j.send(flow)
					if at == direct1(t).String() && !was {
						tried++
					}
					was = at == direct1(t).String()
					time.Sleep(200 * time.Millisecond)
				}
				if at != via120(t).String() {
					t.Fatalf("%v: the flow ended on %s", time.Since(j.began), at)
				}
				for _, s := range j.Status() {
					if !s.Alive {
						until = s.Until
					}
				}
			}
			asked := j.took() // after 10, 20, 40, 80, 160, 300, 300 … seconds
			if !suspect {
				asked, tried = tried, 0
			}
			if asked < 8 || asked > 40 || tried > 0 {
				t.Errorf("asked %d times, %d flows tried", asked, tried)
			}
			if d := time.Until(until); d > maxPenalty || d < -20*time.Second {
				t.Errorf("left for %v more", d)
			}
			j.lose()
			for end := time.Now().Add(maxPenalty + 20*time.Second); time.Now().Before(end); flow++ {
				j.keep(time.Second, flow)
			}
			j.wantAt(j.keep(3*time.Second, flow, flow+1, flow+2), direct1(t), direct1(t), direct1(t))
			if !strings.Contains(j.log.String(), "path is back") {
				t.Error("the log does not say that the path is back")
			}
			// It has proved itself after as long as it was left for.
			j.keep(maxPenalty+time.Second, 1)
			j.lose(direct1(t))
			j.keep(3*time.Second, 1)
			for _, s := range j.Status() {
				if !s.Alive && time.Until(s.Until) > firstPenalty {
					t.Errorf("left for %v", time.Until(s.Until))
				}
			}
		})
	}
}

func TestAnExitThatComesLateIsNoFaultOfTheRoutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := embark(t, PathsConfig{}, threeWays(t)...)
		j.silence(true)
		for range 20 {
			j.Best()
			time.Sleep(time.Second)
		}
		j.silence(false)
		for range 3 {
			j.travel(j.Best(), func() {})
			time.Sleep(time.Second)
		}
		j.keep(5*time.Second, 1)
		j.wantAt(j.keep(time.Second, 2, 3), direct1(t), direct1(t))
		for _, s := range j.Status() {
			if !s.Alive {
				t.Errorf("status\n%s", j.status())
			}
		}
	})
}

func TestADetourEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := embark(t, PathsConfig{}, threeWays(t)...)
		j.keep(time.Second, 1)
		j.lose(direct1(t))
		j.keep(3*time.Second, 1)
		j.lose()
		j.wantAt(j.keep(maxDetour/2, 1), via120(t))
		j.wantAt(j.keep(time.Second, 2), direct1(t))
		j.wantAt(j.keep(maxDetour, 1, 2), direct1(t), direct1(t))
	})
}

func TestTheLastPacketOfAConversationNeedsNoAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := embark(t, PathsConfig{}, threeWays(t)...)
		for range 20 {
			j.keep(500*time.Millisecond, 1)
			j.silence(true) // an acknowledgement
			j.send(1)
			j.silence(false)
			time.Sleep(3 * time.Second)
			if got := j.send(1); got != direct1(t).String() {
				t.Fatalf("%v: on %s", time.Since(j.began), got)
			}
		}
		if n := j.took(); n != 0 || strings.Contains(j.log.String(), "left") {
			t.Errorf("asked %d times\n%s", n, j.log)
		}
	})
}

func TestSYNsOnADeadRouteFindAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := embark(t, PathsConfig{}, threeWays(t)...)
		j.lose(direct1(t))
		var at string
		for _, pause := range []time.Duration{time.Second, 2 * time.Second, 0} {
			at = j.send(1)
			time.Sleep(pause)
		}
		j.wantAt([]string{at}, via120(t))
	})
}

func TestAFlowThatOnlySendsLeavesNoRouteInDisgrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := embark(t, PathsConfig{}, threeWays(t)...)
		moves, at := 0, ""
		for range 20 * 60 * 10 {
			now := j.Route(1).String() // and nothing comes back for it
			if now != at {
				moves, at = moves+1, now
			}
			time.Sleep(50 * time.Millisecond)
		}
		for _, s := range j.Status() {
			if !s.Alive {
				t.Errorf("status\n%s", j.status())
			}
		}
		if asked := j.took(); moves > 20 || asked == 0 {
			t.Errorf("%d moves, asked %d times", moves, asked)
		}
		j.wantAt([]string{j.send(2)}, direct1(t))
	})
}

func TestASilentFlowMovesAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := embark(t, PathsConfig{}, threeWays(t)...)
		silent := func() string { return j.Route(9).String() }
		at := silent()
		began := time.Now()
		for at == direct1(t).String() && time.Since(began) < 10*time.Second {
			j.send(1)
			time.Sleep(50 * time.Millisecond)
			at = silent()
		}
		if gap := time.Since(began); gap < silence || gap > silence+3*tickInterval {
			t.Errorf("moved after %v", gap)
		}
		j.wantAt([]string{at, j.send(1)}, via120(t), direct1(t))
		if s := j.Status(); !s[0].Alive || !s[0].Best || s[0].Flows != 1 || s[1].Flows != 1 {
			t.Errorf("status\n%s", j.status())
		}
	})
}

func TestIfAllRoutesAreBadTheyTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := embark(t, PathsConfig{}, threeWays(t)...)
		j.keep(time.Second, 1)
		j.silence(true)
		seen := map[string]int{}
		for range 60 {
			seen[j.keep(time.Second, 1, 2, 3)[0]]++
		}
		if len(seen) != 3 || seen[direct1(t).String()] < 10 || seen[via120(t).String()] < 10 || seen[via130(t).String()] < 10 {
			t.Errorf("tried %v", seen)
		}
		if err := j.Err(); err != nil {
			t.Errorf("Err() = %v", err)
		}
		if n := j.fetched(); n < 2 || n > 4 {
			t.Errorf("%d fetches while nothing worked", n)
		}
		// Only the last one works: it is found in a moment, whatever was left for
		// how long.
		j.silence(false)
		j.lose(direct1(t), via120(t))
		if took := j.await(10*time.Second, func() bool { return j.keep(time.Second, 1, 2)[0] == via130(t).String() }); took > 8*time.Second {
			t.Errorf("found after %v", took)
		}
		j.wantAt(j.keep(5*time.Second, 1, 2, 3), via130(t), via130(t), via130(t))
		if s := j.Status()[0]; !s.Alive || !s.Best {
			t.Errorf("status\n%s", j.status())
		}
		// It was us, so nothing is left for longer than at first.
		for _, s := range j.Status() {
			if time.Until(s.Until) > 2*firstPenalty {
				t.Errorf("left for %v", time.Until(s.Until))
			}
		}
	})
}

func TestOneRouteIsUsedWhateverHappens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := embark(t, PathsConfig{}, direct1(t))
		j.keep(time.Second, 1)
		j.silence(true)
		j.wantAt(j.keep(20*time.Second, 1, 2), direct1(t), direct1(t))
		if j.Status()[0].Alive {
			t.Error("looks alive")
		}
		j.silence(false)
		j.wantAt(j.keep(3*time.Second, 1, 2), direct1(t), direct1(t))
		if !j.Status()[0].Alive {
			t.Error("looks dead")
		}
	})
}

func TestHandshakesWithoutAnAnswerTakeAnotherRoute(t *testing.T) {
	for _, pause := range []time.Duration{time.Second, 1500 * time.Millisecond, 4900 * time.Millisecond, 5 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			j := embark(t, PathsConfig{}, threeWays(t)...)
			j.silence(true)
			seen := map[string]bool{}
			for range 9 {
				seen[j.Best().String()] = true
				time.Sleep(pause)
			}
			if len(seen) != 3 {
				t.Errorf("every %v: tried %v", pause, seen)
			}
		})
	}
}

func TestKeepalivesNeedNoAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := embark(t, PathsConfig{}, threeWays(t)...)
		for range 100 {
			j.wantAt([]string{j.Best().String(), j.Peek().String()}, direct1(t), direct1(t))
			time.Sleep(15 * time.Second)
		}
		for range 100 { // and handshakes that are answered do
			r := j.Best()
			j.travel(r, func() {})
			j.wantAt([]string{r.String()}, direct1(t))
			time.Sleep(time.Second)
		}
	})
}
