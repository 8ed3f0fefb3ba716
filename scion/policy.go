package scion

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// A Policy says which routes may be used and which are better. The zero Policy
// takes all, the shortest first. It does not change and may be shared.
type Policy struct {
	text     string
	latency  bool
	sequence *hopSequence
	acl      acl
}

// maxPolicy bounds the text of a policy in bytes.
const maxPolicy = 4096

// ParsePolicy parses a path policy: parts with semicolons between, each at most
// once. The first two choose the order, the others what may be used.
//
//	shortest          fewest ASes first (the default), then the least latency
//	latency           least announced latency first, then the fewest ASes
//	sequence=HOPS     hop predicates as the SCION tools take them, for instance
//	                  sequence=1-ff00:0:111 0* 1-ff00:0:112#3
//	acl=ENTRY,…       allowed and forbidden hops, the first that matches counts
//	                  and the last matches all: acl=- 1-ff00:0:120#2,+
//
// The languages of sequences and ACLs are those of
// docs.scion.org, dev/design/PathPolicy.html.
func ParsePolicy(s string) (*Policy, error) {
	p := &Policy{text: s}
	if len(s) > maxPolicy {
		return nil, fmt.Errorf("parse path policy: longer than %d bytes", maxPolicy)
	}
	seen := make(map[string]bool)
	for part := range strings.SplitSeq(s, ";") {
		name, value, assigned := strings.Cut(strings.TrimSpace(part), "=")
		name = strings.TrimSpace(name)
		if err := p.set(name, strings.TrimSpace(value), assigned); err != nil {
			return nil, fmt.Errorf("parse path policy %q: %w", s, err)
		}
		if name == "latency" || name == "shortest" {
			name = "order"
		}
		if seen[name] {
			return nil, fmt.Errorf("parse path policy %q: there are two of %q", s, strings.TrimSpace(part))
		}
		seen[name] = true
	}
	return p, nil
}

var (
	errPolicyPart  = errors.New("want shortest, latency, sequence=HOPS or acl=ENTRY,ENTRY…")
	errEmptyPolicy = errors.New("is empty")
	errNoDefault   = errors.New("the last entry must match all hops: a + or a -")
	errNotLast     = errors.New("entries follow one that matches all hops")
	errACLEntry    = errors.New("an entry is + or -, a space and a hop like 1-ff00:0:110#2")
)

func (p *Policy) set(name, value string, assigned bool) (err error) {
	switch {
	case name == "shortest" && !assigned:
	case name == "latency" && !assigned:
		p.latency = true
	case name == "sequence" && assigned:
		if p.sequence, err = parseSequence(value); err != nil {
			return fmt.Errorf("sequence: %w", err)
		}
	case name == "acl" && assigned:
		if p.acl, err = parseACL(value); err != nil {
			return fmt.Errorf("acl: %w", err)
		}
	default:
		return errPolicyPart
	}
	return nil
}

// String returns the policy as it was parsed.
func (p *Policy) String() string { return p.text }

// Apply returns the routes that the policy allows, the best first, in a slice
// of its own. Routes that are as good as each other are in the order of their
// interfaces, so that it is the same each time.
func (p *Policy) Apply(routes []*Route) []*Route {
	var allowed []*Route
	for _, r := range routes {
		if p.allows(r) {
			allowed = append(allowed, r)
		}
	}
	slices.SortStableFunc(allowed, p.compare)
	return allowed
}

func (p *Policy) allows(r *Route) bool {
	if p.sequence == nil && p.acl == nil || len(r.Interfaces) == 0 {
		return true // inside an AS there is nothing to choose
	}
	return (p.acl == nil || p.acl.allows(r.Interfaces)) && (p.sequence == nil || p.sequence.allows(r.Interfaces))
}

func (p *Policy) compare(a, b *Route) int {
	hops := cmp.Compare(len(a.Interfaces), len(b.Interfaces))
	latency := cmp.Compare(a.latency(), b.latency())
	if p.latency {
		hops, latency = latency, hops
	}
	return cmp.Or(hops, latency, cmp.Compare(b.MTU, a.MTU), slices.CompareFunc(a.Interfaces, b.Interfaces, func(a, b Interface) int {
		return cmp.Or(cmp.Compare(a.IA, b.IA), cmp.Compare(a.ID, b.ID))
	}))
}

// latency returns the announced latency, and if there is none the longest.
func (r *Route) latency() time.Duration {
	if r.Latency <= 0 {
		return math.MaxInt64
	}
	return r.Latency
}
