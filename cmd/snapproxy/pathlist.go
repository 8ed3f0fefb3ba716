package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/snapproxy/snapproxy/scion"
)

// A pathList is what there is of paths to an AS.
type pathList struct {
	dst    scion.IA
	routes []*scion.Route // the usable first, the best of them first
	usable int
	policy *scion.Policy
}

// newPathList sorts routes by a policy; those that it refuses come last.
func newPathList(dst scion.IA, routes []*scion.Route, policy *scion.Policy) *pathList {
	l := &pathList{dst: dst, routes: policy.Apply(routes), policy: policy}
	l.usable = len(l.routes)
	for _, r := range routes {
		if !slices.Contains(l.routes[:l.usable], r) {
			l.routes = append(l.routes, r)
		}
	}
	return l
}

// status says what becomes of a route of the list.
func (l *pathList) status(i int) string {
	switch {
	case i == 0 && l.usable > 0:
		return "chosen"
	case i < l.usable:
		return "usable"
	}
	return "refused"
}

// print writes the list for a person.
func (l *pathList) print(w io.Writer, now time.Time) error {
	var b strings.Builder
	switch {
	case len(l.routes) == 0:
		fmt.Fprintf(&b, "No path to %s\n", l.dst)
	case local(l.routes[0]):
		fmt.Fprintf(&b, "%s is the AS itself: hosts in it are reached without a path\n", l.dst)
	default:
		fmt.Fprintf(&b, "Paths from %s to %s\n", l.routes[0].Src, l.dst)
		for i, r := range l.routes {
			status := l.status(i)
			if status == "refused" {
				status = fmt.Sprintf("refused by %s", l.policy)
			}
			fmt.Fprintf(&b, "[%d] %s\n    %d ASes, MTU %d, %s, latency %s, %s\n", i, r, length(r), r.MTU, expires(r, now), latency(r), status)
		}
		if l.usable == 0 {
			fmt.Fprintf(&b, "No path to %s that %s allows\n", l.dst, l.policy)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// local reports whether a route stays inside its AS.
func local(r *scion.Route) bool { return r.Src == r.Dst && len(r.Interfaces) == 0 }

// length counts the ASes of a route, its ends included, as the SCION tools do.
func length(r *scion.Route) int { return r.Hops() + 1 }

// expiry is when routers begin to refuse the path of a route.
func expiry(r *scion.Route) time.Time {
	if r.Expiry.IsZero() && r.Path != nil {
		return r.Path.Expiry()
	}
	return r.Expiry
}

func expires(r *scion.Route, now time.Time) string {
	end := expiry(r)
	left := end.Sub(now)
	switch {
	case end.IsZero():
		return "does not expire"
	case left <= 0:
		return "expired at " + stamp(end)
	case left >= time.Hour:
		return fmt.Sprintf("expires in %s at %s", strings.TrimSuffix(left.Truncate(time.Minute).String(), "0s"), stamp(end))
	}
	return fmt.Sprintf("expires in %s at %s", left.Truncate(time.Second), stamp(end))
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func latency(r *scion.Route) string {
	if r.Latency == 0 {
		return "not announced"
	}
	return millis(r.Latency) + " ms"
}

// millis writes a duration in milliseconds, to the microsecond.
func millis(d time.Duration) string {
	return fmt.Sprintf("%.3f", float64(d)/float64(time.Millisecond))
}

// sequence writes a route as the policy sequence= that takes it alone.
func sequence(r *scion.Route) string {
	hops := make([]string, 0, len(r.Interfaces)/2+1)
	in := uint16(0)
	for i := 0; i+1 < len(r.Interfaces); i += 2 {
		out := r.Interfaces[i]
		hops = append(hops, fmt.Sprintf("%s#%d,%d", out.IA, in, out.ID))
		in = r.Interfaces[i+1].ID
	}
	hops = append(hops, fmt.Sprintf("%s#%d,0", r.Dst, in))
	return strings.Join(hops, " ")
}

// The JSON form of a pathList.
type (
	jsonPaths struct {
		Source      string     `json:"source,omitempty"`
		Destination string     `json:"destination"`
		Paths       []jsonPath `json:"paths"`
	}
	jsonPath struct {
		Status     string          `json:"status"` // chosen, usable or refused
		ASes       int             `json:"ases"`
		Interfaces []jsonInterface `json:"interfaces"`
		Sequence   string          `json:"sequence"`
		MTU        int             `json:"mtu,omitempty"`
		Expiry     string          `json:"expiry,omitempty"`
		LatencyMS  *float64        `json:"latency_ms"` // null: not announced
	}
	jsonInterface struct {
		ISDAS string `json:"isd_as"`
		ID    uint16 `json:"id"`
	}
)

// printJSON writes the list for a program, on one line.
func (l *pathList) printJSON(w io.Writer, _ time.Time) error {
	list := jsonPaths{Destination: l.dst.String(), Paths: []jsonPath{}}
	for i, r := range l.routes {
		list.Source = r.Src.String()
		p := jsonPath{Status: l.status(i), ASes: length(r), Interfaces: []jsonInterface{}, Sequence: sequence(r), MTU: r.MTU}
		for _, f := range r.Interfaces {
			p.Interfaces = append(p.Interfaces, jsonInterface{f.IA.String(), f.ID})
		}
		if end := expiry(r); !end.IsZero() {
			p.Expiry = stamp(end)
		}
		if r.Latency > 0 {
			ms := float64(r.Latency) / float64(time.Millisecond)
			p.LatencyMS = &ms
		}
		list.Paths = append(list.Paths, p)
	}
	return json.NewEncoder(w).Encode(list)
}
