package endhost

import (
	"crypto/sha256"
	"fmt"
	"math"
	"syscall"
	"time"

	"github.com/snapproxy/snapproxy/scion"
)

const maxRoutes = 512

// Combine makes routes from src to dst of segments, the ones of the fewest hops
// first: over up, core and down segments, shortcuts and peering links. It
// checks every segment and leaves out the ones that are malformed, expired, or
// end where no such path begins or ends; and of the routes those that loop. Of
// what is too much for one process it takes the shortest. If nothing is left
// the error is syscall.ENETUNREACH and says why. From an AS to itself there is
// one route, without a path.
func Combine(src, dst scion.IA, segments Segments) ([]*scion.Route, error) {
	routes, _, err := combineNow(src, dst, segments)
	return routes, err
}

func combineNow(src, dst scion.IA, segments Segments) ([]*scion.Route, refusals, error) {
	return combine(src, dst, segments, time.Now())
}

func combine(src, dst scion.IA, segments Segments, now time.Time) ([]*scion.Route, refusals, error) {
	if src.IsWildcard() || dst.IsWildcard() {
		return nil, refusals{}, fmt.Errorf("no path from %s to %s: one of them is a wildcard: %w", src, dst, syscall.ENETUNREACH)
	}
	if src == dst {
		// Its MTU is not announced; what the underlay carries is the limit.
		return []*scion.Route{{Src: src, Dst: dst, MTU: math.MaxUint16}}, refusals{}, nil
	}
	c := checked(src, dst, segments, now)
	var routes []*scion.Route
	var err error
	for _, p := range join(c.within(maxWork).ways(dst)) {
		r, refused := newRoute(src, dst, p, now)
		if refused != nil {
			err = refused
		} else if len(routes) < maxRoutes {
			r.Latency = c.latencies.of(r.Interfaces)
			routes = append(routes, r)
		}
	}
	if len(routes) > 0 {
		return routes, c.refused, nil
	}
	why := ""
	switch {
	case err != nil:
		why = err.Error()
	case segments.Len() == 0:
		why = "there are no segments"
	case c.refused.count > 0:
		why = fmt.Sprintf("%d of %d segments are unusable (%s)", c.refused.count, segments.Len(), c.refused.first)
	case len(c.cores)+len(c.downs) == 0: // a stray core segment is none any more
		why = fmt.Sprintf("none of %d segments leads there", segments.Len())
	default:
		why = fmt.Sprintf("the %d segments do not meet", segments.Len())
	}
	return nil, c.refused, fmt.Errorf("no path to %s: %s: %w", dst, why, syscall.ENETUNREACH)
}

// checked decodes the segments and keeps those of which a path from src to dst
// could be made.
func checked(src, dst scion.IA, segments Segments, now time.Time) candidates {
	c := candidates{src: src}
	take := func(kind string, list segmentList, core bool, end scion.IA) []*segment {
		var kept []*segment
		for _, p := range list {
			s, err := decode(p)
			if err == nil {
				err = checkUsable(s, core, now)
			}
			if err == nil && !core && s.last() != end {
				err = fmt.Errorf("it ends in %s, not in %s", s.last(), end)
			}
			if err != nil {
				c.refused.add(fmt.Errorf("%s segment: %w", kind, err))
				continue
			}
			for i := range s.entries {
				e := &s.entries[i]
				c.latencies.add(e)
				e.latency = announced{}
			}
			s.hash = sha256.Sum256(s.appendHops(nil, false))
			kept = append(kept, s)
		}
		return newest(kept)
	}
	c.ups = take("up", segments.Up, false, src)
	c.downs = take("down", segments.Down, false, dst)
	c.cores = take("core", segments.Core, true, 0)
	c.dropStrayCores(dst)
	return c
}

// newRoute makes a route of a path, or says what is wrong with it.
func newRoute(src, dst scion.IA, p joined, now time.Time) (*scion.Route, error) {
	r := &scion.Route{
		Src: src, Dst: dst,
		MTU: int(p.mtu), Expiry: p.expiry,
		Interfaces: p.interfaces,
	}
	if !r.Expiry.After(now) {
		return nil, errExpired
	}
	if err := checkHops(r); err != nil {
		return nil, err
	}
	var err error
	r.Path, err = scion.NewPath(p.raw)
	return r, err
}

// checkHops returns an error unless the interfaces of r lead from Src to Dst
// and visit no AS twice.
func checkHops(r *scion.Route) error {
	n := len(r.Interfaces)
	if n < 2 || n%2 != 0 || r.Interfaces[0].IA != r.Src || r.Interfaces[n-1].IA != r.Dst {
		return fmt.Errorf("a path does not lead from %s to %s", r.Src, r.Dst)
	}
	seen := map[scion.IA]bool{r.Src: true}
	for i := 1; i < n; i += 2 {
		ia := r.Interfaces[i].IA
		if i+1 < n && r.Interfaces[i+1].IA != ia {
			return fmt.Errorf("a path jumps from %s to %s", ia, r.Interfaces[i+1].IA)
		}
		if seen[ia] {
			return fmt.Errorf("a path visits %s twice", ia)
		}
		seen[ia] = true
	}
	return nil
}
