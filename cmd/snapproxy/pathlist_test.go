package main

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"github.com/snapproxy/snapproxy/scion"
)

var pathsNow = time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)

func TestPathsArePrintedInTheOrderOfThePolicy(t *testing.T) {
	policy, err := scion.ParsePolicy("acl=- 1-ff00:0:120,+")
	if err != nil {
		t.Fatal(err)
	}
	l := newPathList(mustIA(t, "1-ff00:0:112"), testRoutes(t), policy)
	var out bytes.Buffer
	if err := l.print(&out, pathsNow); err != nil {
		t.Fatal(err)
	}
	want := `Paths from 1-ff00:0:111 to 1-ff00:0:112
[0] 1-ff00:0:111 100>100 1-ff00:0:112
    2 ASes, MTU 1280, expires in 10m0s at 2026-11-21T10:10:00Z, latency not announced, chosen
[1] 1-ff00:0:111 41>1 1-ff00:0:110 2>1 1-ff00:0:112
    3 ASes, MTU 1472, expires in 5h59m at 2026-11-21T15:59:59Z, latency 12.500 ms, usable
[2] 1-ff00:0:111 41>1 1-ff00:0:110 3>1 1-ff00:0:120 2>5 1-ff00:0:112
    4 ASes, MTU 1400, expired at 2026-11-21T09:00:00Z, latency not announced, refused by acl=- 1-ff00:0:120,+
`
	if got := out.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if l.usable != 2 {
		t.Errorf("%d are usable", l.usable)
	}
}

func TestWhatHasNoPathsIsSaid(t *testing.T) {
	dst := mustIA(t, "1-ff00:0:112")
	for want, routes := range map[string][]*scion.Route{
		"No path to 1-ff00:0:112\n": nil,
		"1-ff00:0:112 is the AS itself: hosts in it are reached without a path\n": {{Src: dst, Dst: dst}},
	} {
		var out bytes.Buffer
		if err := newPathList(dst, routes, new(scion.Policy)).print(&out, pathsNow); err != nil || out.String() != want {
			t.Errorf("%q, %v; want %q", &out, err, want)
		}
	}
}

func TestPathsAsJSON(t *testing.T) {
	routes := testRoutes(t)
	var out bytes.Buffer
	if err := newPathList(mustIA(t, "1-ff00:0:112"), routes[1:2], new(scion.Policy)).printJSON(&out, pathsNow); err != nil {
		t.Fatal(err)
	}
	want := `{"source":"1-ff00:0:111","destination":"1-ff00:0:112","paths":[{"status":"chosen","ases":3,` +
		`"interfaces":[{"isd_as":"1-ff00:0:111","id":41},{"isd_as":"1-ff00:0:110","id":1},{"isd_as":"1-ff00:0:110","id":2},{"isd_as":"1-ff00:0:112","id":1}],` +
		`"sequence":"1-ff00:0:111#0,41 1-ff00:0:110#1,2 1-ff00:0:112#1,0","mtu":1472,"expiry":"2026-11-21T15:59:59Z","latency_ms":12.5}]}` + "\n"
	if got := out.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	out.Reset()
	if err := newPathList(mustIA(t, "1-ff00:0:112"), nil, new(scion.Policy)).printJSON(&out, pathsNow); err != nil {
		t.Fatal(err)
	}
	var none map[string]any
	if err := json.Unmarshal(out.Bytes(), &none); err != nil || none["paths"] == nil {
		t.Errorf("without paths: %s", &out)
	}
}

func TestASequenceTakesItsPathAlone(t *testing.T) {
	routes := testRoutes(t)
	for _, r := range routes {
		policy, err := scion.ParsePolicy("sequence=" + sequence(r))
		if err != nil {
			t.Fatal(err)
		}
		if got := policy.Apply(routes); len(got) != 1 || got[0] != r {
			t.Errorf("%s takes %v", sequence(r), got)
		}
	}
}

// testRoutes are three ways from one AS to another.
func testRoutes(t *testing.T) []*scion.Route {
	t.Helper()
	route := func(mtu int, expiry time.Duration, latency time.Duration, hops ...string) *scion.Route {
		r := &scion.Route{MTU: mtu, Expiry: pathsNow.Add(expiry), Latency: latency}
		for i, ia := range hops {
			id := []uint16{41, 1, 2, 1}[i%4]
			switch {
			case len(hops) == 2:
				id = 100
			case len(hops) == 6:
				id = []uint16{41, 1, 3, 1, 2, 5}[i]
			}
			r.Interfaces = append(r.Interfaces, scion.Interface{IA: mustIA(t, ia), ID: id})
		}
		r.Src, r.Dst = r.Interfaces[0].IA, r.Interfaces[len(hops)-1].IA
		return r
	}
	const a, b, core, detour = "1-ff00:0:111", "1-ff00:0:112", "1-ff00:0:110", "1-ff00:0:120"
	return []*scion.Route{
		route(1400, -time.Hour, 0, a, core, core, detour, detour, b),
		route(1472, 6*time.Hour-time.Second, 12500*time.Microsecond, a, core, core, b),
		route(1280, 10*time.Minute, 0, a, b),
	}
}

func mustIA(t *testing.T, s string) scion.IA {
	t.Helper()
	ia, err := scion.ParseIA(s)
	if err != nil {
		t.Fatal(err)
	}
	return ia
}
