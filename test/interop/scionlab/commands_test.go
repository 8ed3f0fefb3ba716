//go:build linux

package scionlab

import (
	"encoding/json"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Our paths are those of the reference, by an endhost API of ours and by the
// control service.
func TestPathsAreThoseOfTheReference(t *testing.T) {
	l := lab(t)
	awaitAlive(t, l, allWays...)
	for _, tt := range []struct {
		name  string
		flags []string
	}{
		{"endhost API", startSNAP(t, l.AS(Leaf1)).flags(t)},
		{"control service", []string{"--topology", l.AS(Leaf1).Topology()}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for line := range strings.Lines(mustRun(t, append(append([]string{"paths"}, tt.flags...), Leaf2)...)) {
				if index, hops, ok := strings.Cut(strings.TrimSpace(line), "] "); ok && strings.HasPrefix(index, "[") {
					got = append(got, hops)
				}
			}
			if !slices.EqualFunc(got, allWays, func(hops string, w way) bool { return hops == w.hops }) {
				t.Errorf("paths %q, want %v", got, allWays)
			}

			var list struct {
				Paths []struct {
					Status, Sequence string
					MTU              int
				}
			}
			out := mustRun(t, append(append([]string{"paths"}, tt.flags...), "--json", "--path-policy", "acl=- "+isdAS(120)+",+", Leaf2)...)
			if err := json.Unmarshal([]byte(out), &list); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			for i, w := range []struct {
				way
				status string
			}{{byPeering, "chosen"}, {byUpDown, "usable"}, {byCore, "refused"}} {
				if i >= len(list.Paths) || list.Paths[i].Sequence != w.sequence || list.Paths[i].Status != w.status || list.Paths[i].MTU != mtu {
					t.Errorf("path %d is not the %s %s: %s", i, w.status, w.name, out)
				}
			}
		})
	}
}

// Our echo requests are answered by the reference, by every way.
func TestPingToTheReference(t *testing.T) {
	l := lab(t)
	for _, from := range []attachment{attachSNAP(t, l.AS(Leaf1)), attachDirectly(l.AS(Leaf1))} {
		for _, w := range allWays {
			t.Run(from.name+" by "+w.name, func(t *testing.T) {
				in, out := crossings(t, l, w)
				got := mustRun(t, append(append([]string{"ping"}, from.flags(t)...),
					"-c", "3", "-i", "50ms", "-s", "1000", "--path-policy", "sequence="+w.sequence, l.AS(Leaf2).Echo())...)
				if !strings.Contains(got, w.hops) || !strings.Contains(got, "3 packets transmitted, 3 received, 0% packet loss") {
					t.Errorf("ping by %s says\n%s", w.hops, got)
				}
				moreIn, moreOut := crossings(t, l, w)
				if moreIn-in < 3000 || moreOut-out < 3000 {
					t.Errorf("%.0f and %.0f bytes cross the link of %s", moreIn-in, moreOut-out, w.name)
				}
			})
		}
	}
}

// A host that is not there, an AS that is not there, and a link that is down:
// each has its word and its status.
func TestPingTellsWhatIsWrong(t *testing.T) {
	l := lab(t)
	flags := attachDirectly(l.AS(Leaf1)).flags(t)
	ping := func(to string, more ...string) (stdout, stderr string) {
		t.Helper()
		stdout, stderr, err := run(t, slices.Concat([]string{"ping"}, flags, []string{"-c", "2", "-i", "50ms", "-W", "500ms"}, more, []string{to})...)
		if err == nil {
			t.Errorf("ping %s succeeds", to)
		}
		return stdout, stderr
	}
	if out, _ := ping(Leaf2 + "," + l.AS(Leaf2).Host(nextHost(l.AS(Leaf2))).String()); !strings.Contains(out, "100% packet loss") {
		t.Errorf("a host that is not there: %s", out)
	}
	if _, said := ping("1-ff00:0:119,127.0.0.1"); strings.Count(said, "\n") != 1 || !strings.Contains(said, "1-ff00:0:119") {
		t.Errorf("an AS that is not there: %q", said)
	}
	if err := l.Process("br-112-2").Kill(); err != nil {
		t.Fatal(err)
	}
	if !eventually(func() bool {
		out, _ := ping(l.AS(Leaf2).Echo(), "--path-policy", "sequence="+byPeering.sequence)
		return strings.Contains(out, "1-ff00:0:111#100")
	}) {
		t.Error("the report of a router is not shown")
	}
}

// The reference's echo requests are answered by an exit of ours that has the
// port to which routers deliver them.
func TestReferencePingsUs(t *testing.T) {
	l := lab(t)
	as := l.AS(Leaf2)
	dir := t.TempDir()
	authorized := filepath.Join(dir, "keys")
	writeFile(t, authorized, mustRun(t, "keygen", "-o", filepath.Join(dir, "exit.key")))
	host := as.Host(nextHost(as))
	startRole(t, slices.Concat([]string{"exit"}, attachDirectly(as).flags(t), []string{"--key", filepath.Join(dir, "exit.key"),
		"--authorized-keys", authorized, "--bind", netip.AddrPortFrom(host, echoPort).String()})...)
	for _, w := range allWays {
		if out, err := scion(l, "ping", as.IA+","+host.String(), "-c", "2", "--interval", "50ms", "-s", "800", "--sequence", w.sequence); err != nil {
			t.Errorf("ping by %s: %v\n%s", w.name, err, out)
		}
	}
}
