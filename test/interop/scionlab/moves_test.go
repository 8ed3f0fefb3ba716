//go:build linux

package scionlab

import (
	"testing"
	"time"
)

// enough of a flow that it surely has come over the way it is on: a second's.
const enough = int64(time.Second / chunkRate * chunkSize)

// A flow on the peering link, whose routers are lost in each manner: that of the
// client's AS, which it sends to itself, and that of the exit's.
func TestFlowLeavesALostRouter(t *testing.T) {
	l := lab(t)
	for _, tt := range []struct {
		name, router string
		lose         func(*Process) error
	}{
		{"own, killed", "br-111-2", (*Process).Kill},
		{"own, frozen", "br-111-2", (*Process).Freeze},
		{"theirs, killed", "br-112-2", (*Process).Kill},
		{"theirs, frozen", "br-112-2", (*Process).Freeze},
	} {
		for _, attach := range []struct {
			name     string
			from, to func(*testing.T) attachment
		}{
			{"SNAP", behindSNAP(l.AS(Leaf1)), behindSNAP(l.AS(Leaf2))},
			{"direct", directly(l.AS(Leaf1)), directly(l.AS(Leaf2))},
		} {
			t.Run(attach.name+", "+tt.name, func(t *testing.T) {
				lab(t) // repaired afterwards
				p := connect(t, attach.from(t), attach.to(t))
				f := startFlow(t, p.proxy)
				f.goesOn(enough)
				usual := f.longestGap()
				if on := wayOf(t, l, f); on != byPeering {
					t.Fatalf("the flow goes %s, although the shortest way is there", on.name)
				}
				if err := tt.lose(l.Process(tt.router)); err != nil {
					t.Fatal(err)
				}
				f.goesOn(2 * enough)
				t.Logf("longest gap %v, before that %v", f.longestGap().Round(time.Millisecond), usual.Round(time.Millisecond))
				repair(t, l) // the counters of all ways are needed
				t.Logf("then it goes %s", wayOf(t, l, f).name)
				f.end()
			})
		}
	}
}

// Each link between the leaves is lost in turn, while another way is there; one
// flow lives through all of it.
func TestFlowOutlivesEachLink(t *testing.T) {
	l := lab(t)
	p := connect(t, attachSNAP(t, l.AS(Leaf1)), attachSNAP(t, l.AS(Leaf2)))
	f := startFlow(t, p.proxy)
	f.goesOn(enough)
	for _, step := range []struct {
		lost string
		do   func(*Process) error
	}{
		{"br-111-2", (*Process).Kill},
		{"br-110-1", (*Process).Freeze},
		{"br-112-2", (*Process).Freeze},
		{"br-110-1", (*Process).Kill},
	} {
		if err := step.do(l.Process(step.lost)); err != nil {
			t.Fatal(err)
		}
		f.goesOn(2 * enough)
		t.Logf("without %s: longest gap %v", step.lost, f.longestGap().Round(time.Millisecond))
		repair(t, l)
		f.goesOn(enough)
		t.Logf("with it again: longest gap %v", f.longestGap().Round(time.Millisecond))
	}
	f.end()
}

// wayOf is the way that most of a flow takes while it goes on for a while.
func wayOf(t *testing.T, l *Lab, f *flow) way {
	t.Helper()
	before := crossedLinks(t, l)
	f.goesOn(enough / 4)
	after := crossedLinks(t, l)
	most := allWays[0]
	crossed := func(w way) float64 {
		return after[w.name][1] - before[w.name][1] + after[w.name][0] - before[w.name][0]
	}
	for _, w := range allWays {
		if crossed(w) > crossed(most) {
			most = w
		}
	}
	return most
}
