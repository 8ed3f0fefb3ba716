package scion

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestPolicies(t *testing.T) {
	fast, slow, unknown := via130(t), via120(t), direct1(t)
	fast.Latency, slow.Latency = 10*time.Millisecond, 20*time.Millisecond
	wide := via120(t)
	wide.MTU = 1472
	wide.Interfaces[0].ID = 9
	routes := []*Route{fast, slow, unknown, wide}
	tests := []struct {
		policy string
		want   []*Route
	}{
		{"shortest", []*Route{unknown, slow, wide, fast}},
		{" latency ", []*Route{fast, slow, unknown, wide}},
		{"sequence=1-ff00:0:110#2 0* 2-ff00:0:211#2", []*Route{slow}},
		{"sequence=0 0", []*Route{unknown}},
		{"sequence=0* 1-ff00:0:130 0*; shortest", []*Route{fast}},
		{"sequence=1-ff00:0:110 1-ff00:0:120#1,2 2-ff00:0:211", []*Route{slow, wide}},
		{"sequence=3", nil},
		{"acl=+", []*Route{unknown, slow, wide, fast}},
		{"acl=-", nil},
		{"acl=- 1-ff00:0:130,+", []*Route{unknown, slow, wide}},
		{"acl=- 1-ff00:0:120#1,2 , +", []*Route{unknown}},
		{"acl=-  1-ff00:0:120#3,+;latency", []*Route{slow, unknown, wide}},
		{"acl=+ 1-0, + 2-0, -; sequence=0* 1-ff00:0:120 0*; latency", []*Route{fast, slow, wide}},
	}
	for _, tt := range tests {
		p, err := ParsePolicy(tt.policy)
		if err != nil {
			t.Errorf("ParsePolicy(%q): %v", tt.policy, err)
			continue
		}
		for range 2 {
			got := p.Apply(routes)
			if !slices.Equal(got, tt.want) {
				t.Errorf("%q: %v, want %v", tt.policy, got, tt.want)
			}
			slices.Reverse(routes)
		}
		if p.String() != tt.policy {
			t.Errorf("%q became %q", tt.policy, p)
		}
	}
	if got := (&Policy{}).Apply(routes); len(got) != len(routes) || got[0] != unknown {
		t.Errorf("the zero policy: %v", got)
	}
}

func TestPoliciesThatCannotBe(t *testing.T) {
	for policy, want := range map[string]string{
		"":                        `parse path policy "": want shortest, latency, sequence=HOPS or acl=ENTRY,ENTRY…`,
		"fastest":                 `want shortest, latency`,
		"shortest=1":              `want shortest, latency`,
		"acl":                     `want shortest, latency`,
		"shortest;":               `want shortest, latency`,
		"shortest;latency":        `there are two of "latency"`,
		"acl=+;acl=-":             `there are two of "acl=-"`,
		"acl=":                    `acl: is empty`,
		"sequence= ":              `sequence: is empty`,
		"sequence=1-ff00:0:110#":  `sequence: "1-ff00:0:110#" is no sequence of hops like`,
		"sequence=(((":            `sequence: "(((" is no sequence of hops like`,
		"sequence=)":              `sequence: ")" is no sequence of hops`,
		"sequence=*":              `sequence: "*" is no sequence of hops`,
		"acl=1-0,+":               `acl: "1-0": an entry is + or -`,
		"acl=- 1-ff00:0:zzz,+":    `acl: "- 1-ff00:0:zzz": an entry is`,
		"acl=- 1 2,+":             `acl: "- 1 2": an entry is`,
		"acl=*,+":                 `acl: "*": an entry is`,
		"acl=- 1-ff00:0:110":      `acl: the last entry must match all hops: a + or a -`,
		"acl=+,- 1-ff00:0:110":    `acl: entries follow one that matches all hops`,
		strings.Repeat("x", 5000): `longer than 4096 bytes`,
	} {
		p, err := ParsePolicy(policy)
		if err == nil || !strings.Contains(err.Error(), want) || strings.ContainsAny(err.Error(), "\n\t") || len(err.Error()) > 300 {
			t.Errorf("ParsePolicy(%q) = %v, %v; want %s", policy, p, err, want)
		}
	}
}

func FuzzParsePolicy(f *testing.F) {
	for _, s := range []string{
		"shortest", "latency;acl=- 1-ff00:0:120#1,2,+", "sequence=1-ff00:0:110#2 0* 2-ff00:0:211#2", "sequence=(1 | 2)+ 0? 0*", "acl=+", "sequence=1-0#0,0",
	} {
		f.Add(s)
	}
	routes := threeWays(f)
	f.Fuzz(func(t *testing.T, s string) {
		if len(s) > 200 {
			return
		}
		p, err := ParsePolicy(s)
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("%q", err)
			}
			return
		}
		for _, r := range p.Apply(routes) {
			if !slices.Contains(routes, r) {
				t.Errorf("%v is not one of the routes", r)
			}
		}
	})
}

func TestRouteReadsLikeShowpaths(t *testing.T) {
	r := newRoute(t, time.Hour, Interface{ia110, 41}, Interface{ia120, 1}, Interface{ia120, 2}, Interface{ia211, 1})
	if got := r.String(); got != "1-ff00:0:110 41>1 1-ff00:0:120 2>1 2-ff00:0:211" || r.Hops() != 2 {
		t.Errorf("%q, %d hops", got, r.Hops())
	}
	if got := r.Interfaces[0].String(); got != "1-ff00:0:110#41" {
		t.Error(got)
	}
}
