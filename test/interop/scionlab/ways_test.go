//go:build linux

package scionlab

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

// A way is a path from Leaf1 to Leaf2.
type way struct {
	name string
	// hops is what the SCION tools and ours write.
	hops string
	// sequence chooses it, in the language of the SCION tools.
	sequence string
	// crossing is an interface that no other way crosses: AS and id.
	crossing end
}

type end struct {
	ia string
	id int
}

var (
	byPeering = way{"peering", "1-ff00:0:111 100>100 1-ff00:0:112",
		"1-ff00:0:111#0,100 1-ff00:0:112#100,0", end{Leaf1, 100}}
	byUpDown = way{"up and down", "1-ff00:0:111 41>1 1-ff00:0:110 2>1 1-ff00:0:112",
		"1-ff00:0:111#0,41 1-ff00:0:110#1,2 1-ff00:0:112#1,0", end{Leaf2, 1}}
	byCore = way{"up, core and down", "1-ff00:0:111 41>1 1-ff00:0:110 3>3 1-ff00:0:120 5>5 1-ff00:0:112",
		"1-ff00:0:111#0,41 1-ff00:0:110#1,3 1-ff00:0:120#3,5 1-ff00:0:112#5,0", end{Leaf2, 5}}
	allWays = []way{byPeering, byUpDown, byCore}
)

// TestWays is about the network alone: all of it is the reference's.
func TestWays(t *testing.T) {
	l := lab(t)
	awaitAlive(t, l, allWays...)
	for _, w := range allWays {
		in, out := crossings(t, l, w)
		if out, err := scion(l, "ping", l.AS(Leaf2).Echo(), "-c", "1", "-s", "1000", "--sequence", w.sequence); err != nil {
			t.Errorf("ping by %s: %v\n%s", w.name, err, out)
		}
		moreIn, moreOut := crossings(t, l, w)
		if moreIn-in < 1000 || moreOut-out < 1000 {
			t.Errorf("a ping by %s: %.0f and %.0f bytes cross its link", w.name, moreIn-in, moreOut-out)
		}
	}
}

// Each way of losing a router, and that the network recovers from it. A leaf
// whose only core is lost finds no path at all: its control service forwards
// questions for down segments, and answers with none.
func TestLosingRouters(t *testing.T) {
	l := lab(t)
	for _, tt := range []struct {
		router string
		lose   func(*Process) error
		left   []way
	}{
		{"br-111-2", (*Process).Kill, []way{byUpDown, byCore}},
		{"br-112-2", (*Process).Freeze, []way{byUpDown, byCore}},
		{"br-120-1", (*Process).Freeze, []way{byPeering, byUpDown}},
		{"br-110-1", (*Process).Kill, nil},
	} {
		if err := tt.lose(l.Process(tt.router)); err != nil {
			t.Fatal(err)
		}
		awaitAlive(t, l, tt.left...)
		repair(t, l)
	}
}

// A network must not outlive the process that started it.
func TestWardenKills(t *testing.T) {
	w, err := newWarden()
	if err != nil {
		t.Fatal(err)
	}
	p := &Process{Name: "sleep", Log: t.TempDir() + "/log", path: "sleep", args: []string{"3600"}, warden: w}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	w.dismiss()
	if !eventually(p.Ended) {
		t.Error("the process lives on")
		p.Kill()
	}
}

// A shownPath is a path as scion showpaths tells of it.
type shownPath struct {
	Hops []struct {
		IA   string `json:"isd_as"`
		Ifid int    `json:"interface"`
	} `json:"hops"`
	Status string `json:"status"`
}

func (p shownPath) String() string {
	var b strings.Builder
	for i, h := range p.Hops {
		switch {
		case i == 0:
			fmt.Fprintf(&b, "%s %d>", h.IA, h.Ifid)
		case i == len(p.Hops)-1:
			fmt.Fprintf(&b, "%d %s", h.Ifid, h.IA)
		case i%2 == 1:
			fmt.Fprintf(&b, "%d %s ", h.Ifid, h.IA)
		default:
			fmt.Fprintf(&b, "%d>", h.Ifid)
		}
	}
	return b.String()
}

// showPaths asks the reference which ways there are from Leaf1 to Leaf2, and
// tries them.
func showPaths(t *testing.T, l *Lab) []shownPath {
	t.Helper()
	out, err := scion(l, "showpaths", Leaf2, "--format", "json", "--timeout", "1s")
	var shown struct{ Paths []shownPath }
	if jsonErr := json.Unmarshal(out, &shown); jsonErr != nil {
		t.Logf("showpaths: %v, %v\n%s", err, jsonErr, out)
	}
	return shown.Paths
}

// awaitAlive waits until just these ways pass packets.
func awaitAlive(t *testing.T, l *Lab, want ...way) {
	t.Helper()
	var paths []shownPath
	if !eventually(func() bool {
		paths = showPaths(t, l)
		var alive []string
		for _, p := range paths {
			if p.Status == "alive" {
				alive = append(alive, p.String())
			}
		}
		return slices.EqualFunc(alive, want, func(hops string, w way) bool { return hops == w.hops })
	}) {
		t.Errorf("ways %v, want those alive: %v", paths, want)
	}
}

// scion runs the scion tool in Leaf1 and returns its standard output.
func scion(l *Lab, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	as := l.AS(Leaf1)
	cmd := exec.CommandContext(ctx, l.Tools.Path("scion"), append(args,
		"--config-dir", as.Dir, "--local", as.Host(FirstHost).String())...)
	return cmd.Output()
}

// crossings is how much has crossed the link that is the way's alone.
func crossings(t *testing.T, l *Lab, w way) (in, out float64) {
	t.Helper()
	in, out, err := l.Crossed(t.Context(), w.crossing.ia, w.crossing.id)
	if err != nil {
		t.Fatal(err)
	}
	return in, out
}
