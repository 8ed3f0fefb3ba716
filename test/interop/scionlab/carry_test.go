//go:build linux

package scionlab

import (
	"fmt"
	"testing"
)

// Every kind of attachment, and every way between the ASes: a megabyte there and
// back crosses just the link that it should.
func TestCarriesByEveryWay(t *testing.T) {
	l := lab(t)
	leaf1, leaf2 := l.AS(Leaf1), l.AS(Leaf2)
	for _, tt := range []struct{ from, to func(*testing.T) attachment }{
		{behindSNAP(leaf1), behindSNAP(leaf2)},
		{directly(leaf1), directly(leaf2)},
		{directly(leaf1), behindSNAP(leaf2)},
		{behindSNAP(leaf1), directly(leaf2)},
	} {
		from, to := tt.from(t), tt.to(t)
		t.Run(from.name+" to "+to.name, func(t *testing.T) {
			p := connect(t, from, to)
			t.Run("any way", func(t *testing.T) { carries(t, p.proxy) })
			for _, w := range allWays {
				t.Run(w.name, func(t *testing.T) {
					client := p.startClient(t, "--path-policy", "sequence="+w.sequence)
					before := crossedLinks(t, l)
					carries(t, listener(t, client))
					after := crossedLinks(t, l)
					for _, other := range allWays {
						in, out := after[other.name][0]-before[other.name][0], after[other.name][1]-before[other.name][1]
						if taken := in > 1<<20 && out > 1<<20; taken != (other.name == w.name) {
							t.Errorf("%.0f bytes to and %.0f from the link of %s", out, in, other.name)
						}
					}
				})
			}
		})
	}
}

// An AS that two ends share has no path between them.
func TestCarriesInsideAnAS(t *testing.T) {
	l := lab(t)
	snap := attachSNAP(t, l.AS(Leaf1))
	p := connect(t, snap, snap)
	carries(t, p.proxy)
}

func behindSNAP(as *AS) func(*testing.T) attachment {
	return func(t *testing.T) attachment { return attachSNAP(t, as) }
}

func directly(as *AS) func(*testing.T) attachment {
	return func(*testing.T) attachment { return attachDirectly(as) }
}

// crossedLinks tells of each way how much has crossed its link, in and out.
func crossedLinks(t *testing.T, l *Lab) map[string][2]float64 {
	t.Helper()
	all := map[string][2]float64{}
	for _, w := range allWays {
		in, out := crossings(t, l, w)
		all[w.name] = [2]float64{in, out}
	}
	return all
}

// A policy that no path meets is said in one line, and nothing goes another way.
func TestNoWayByPolicy(t *testing.T) {
	l := lab(t)
	p := connect(t, attachSNAP(t, l.AS(Leaf1)), attachSNAP(t, l.AS(Leaf2)))
	stdout, stderr, err := run(t, append(append([]string{"client"}, p.from.flags(t)...), append(p.exitFlags,
		"--key", p.clientKey, "--socks", "127.0.0.1:0", "--http", "off", "--ready-timeout", "3s",
		"--path-policy", fmt.Sprintf("acl=- %s,- %s,+", isdAS(110), Leaf2))...)...)
	if err == nil || stdout != "" {
		t.Errorf("a client without a path is ready: %q, %v", stdout, err)
	}
	t.Logf("it says: %s", stderr)
}
