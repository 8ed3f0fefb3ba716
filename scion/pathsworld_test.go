package scion

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/scionproto/scion/pkg/slayers/path"
	slayerspath "github.com/scionproto/scion/pkg/slayers/path/scion"
)

var ia120, ia130 = mustIA("1-ff00:0:120"), mustIA("1-ff00:0:130")

// newRoute is a route from 1-ff00:0:110 to 2-ff00:0:211 over interfaces, two of
// each AS in between, in one segment. Its path expires with it.
func newRoute(t testing.TB, lifetime time.Duration, interfaces ...Interface) *Route {
	t.Helper()
	d := &slayerspath.Decoded{}
	d.NumINF, d.NumHops = 1, len(interfaces)/2+1
	d.PathMeta.SegLen[0] = uint8(d.NumHops)
	begun := time.Now().Add(lifetime - 24*time.Hour)
	d.InfoFields = []path.InfoField{{ConsDir: true, Timestamp: uint32(begun.Unix())}}
	for i := range d.NumHops {
		h := path.HopField{ExpTime: 255, Mac: [6]byte{1, 2, 3, 4, 5, byte(i)}}
		if i > 0 {
			h.ConsIngress = interfaces[2*i-1].ID
		}
		if i < d.NumHops-1 {
			h.ConsEgress = interfaces[2*i].ID
		}
		d.HopFields = append(d.HopFields, h)
	}
	raw := make([]byte, d.Len())
	if err := d.SerializeTo(raw); err != nil {
		t.Fatal(err)
	}
	return &Route{Path: mustPath(raw), Src: ia110, Dst: ia211, Interfaces: interfaces, MTU: 1400}
}

// Three ways from 1-ff00:0:110 to 2-ff00:0:211, the best first. The second and
// the third have a link in common.

func direct1(t testing.TB) *Route {
	return newRoute(t, 6*time.Hour, Interface{ia110, 1}, Interface{ia211, 1})
}

func via120(t testing.TB) *Route {
	return newRoute(t, 6*time.Hour, Interface{ia110, 2}, Interface{ia120, 1}, Interface{ia120, 2}, Interface{ia211, 2})
}

func via130(t testing.TB) *Route {
	return newRoute(t, 6*time.Hour, Interface{ia110, 2}, Interface{ia120, 1}, Interface{ia120, 3}, Interface{ia130, 1}, Interface{ia130, 2}, Interface{ia211, 3})
}

func threeWays(t testing.TB) []*Route { return []*Route{via130(t), direct1(t), via120(t)} }

// A journey is Paths in a synctest bubble, and a network of which some routes
// are dead.
type journey struct {
	*Paths
	t   *testing.T
	log *strings.Builder

	mu      sync.Mutex
	routes  []*Route
	err     error
	fetches []time.Time
	began   time.Time
	dead    map[string]bool  // routes that lose everything, by what String says
	mute    bool             // nothing comes back from anywhere
	back    map[string]*Path // paths of what comes back
	asked   int              // calls of Suspect, for took
}

const roundTrip = 30 * time.Millisecond

// embark runs Paths to the end of the test. Their Suspect asks the far end.
func embark(t *testing.T, cfg PathsConfig, routes ...*Route) *journey {
	t.Helper()
	return embarkWith(t, true, cfg, routes...)
}

func embarkWith(t *testing.T, suspect bool, cfg PathsConfig, routes ...*Route) *journey {
	t.Helper()
	j := &journey{t: t, routes: routes, began: time.Now(), dead: make(map[string]bool), back: make(map[string]*Path), log: &strings.Builder{}}
	cfg.Dst, cfg.Src = ia211, ia110
	cfg.Fetch = j.fetch
	if suspect {
		cfg.Suspect = func() {
			j.mu.Lock()
			j.asked++
			j.mu.Unlock()
			if r := j.Best(); r != nil {
				j.travel(r, func() {})
			}
		}
	}
	cfg.Logger = slog.New(slog.NewTextHandler(j.log, nil))
	j.Paths = NewPaths(cfg)
	run(t, j.Run)
	synctest.Wait()
	return j
}

func (j *journey) fetch(context.Context) ([]*Route, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.fetches = append(j.fetches, time.Now())
	return slices.Clone(j.routes), j.err
}

func (j *journey) set(err error, routes ...*Route) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.routes, j.err = routes, err
}

// lose makes the network lose what is sent over some routes.
func (j *journey) lose(routes ...*Route) {
	j.mu.Lock()
	defer j.mu.Unlock()
	clear(j.dead)
	for _, r := range routes {
		j.dead[r.String()] = true
	}
}

// silence makes the network lose everything, or no longer.
func (j *journey) silence(mute bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.mute = mute
}

// took returns how often Suspect was called since the last time.
func (j *journey) took() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	n := j.asked
	j.asked = 0
	return n
}

func (j *journey) fetched() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.fetches)
}

// travel lets a packet make the way there and back over a route, if it is
// alive when it starts.
func (j *journey) travel(r *Route, heard func()) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.dead[r.String()] || j.mute {
		return
	}
	path := j.back[string(r.Path.Append(nil))]
	if path == nil { // a pointer of its own, as a host has it
		path = mustPath(r.Path.Append(nil))
		j.back[string(r.Path.Append(nil))] = path
	}
	time.AfterFunc(roundTrip, func() {
		j.HeardOn(path)
		heard()
	})
}

// send sends a packet of a flow and returns the route it takes.
func (j *journey) send(flow uint32) string {
	r := j.Route(flow)
	if r == nil {
		return "none"
	}
	j.travel(r, func() { j.Heard(flow) })
	return r.String()
}

// keep sends packets of flows every 50 ms for a while, and returns the
// routes that they are on at the end.
func (j *journey) keep(d time.Duration, flows ...uint32) []string {
	at := make([]string, len(flows))
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		for i, flow := range flows {
			at[i] = j.send(flow)
		}
	}
	return at
}

func (j *journey) wantAt(got []string, want ...*Route) {
	j.t.Helper()
	for i, r := range want {
		if got[i] != r.String() {
			j.t.Errorf("%v: flow %d is on %q, want %q", time.Since(j.began), i, got[i], r)
		}
	}
}

// status is a line for each route: whether it is alive, why not, and how many
// flows are on it.
func (j *journey) status() string {
	var b strings.Builder
	for _, s := range j.Status() {
		fmt.Fprintf(&b, "%s: alive %v, %d flows %s\n", s.Route, s.Alive, s.Flows, s.Reason)
	}
	return b.String()
}

// await calls f a thousand times within the limit until it is true, and
// returns after how long.
func (j *journey) await(limit time.Duration, f func() bool) time.Duration {
	j.t.Helper()
	began := time.Now()
	for !f() {
		if time.Since(began) > limit {
			j.t.Fatalf("not within %v\n%s", limit, j.status())
		}
		time.Sleep(limit / 1000)
	}
	return time.Since(began)
}

var errLookup = errors.New("endhost API does not answer")
