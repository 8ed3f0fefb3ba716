package endhost

import (
	"time"

	"github.com/snapproxy/snapproxy/scion"
)

// maxLatency is the longest latency that is believed.
const maxLatency = time.Hour

// latencies are what ASes announce in their segments: between two of their
// interfaces, and across the link behind one. Where announcements differ the
// longest counts. The reference combinator does this for each path with all
// that the ASes on it announce, which may be megabytes.
type latencies struct {
	across  map[[2]scion.Interface]time.Duration // the lower interface first
	between map[scion.Interface]time.Duration    // this interface and the one at the other end of its link
}

// add adds what an AS announces in its entry.
func (l *latencies) add(e *asEntry) {
	if len(e.latency.intra)+len(e.latency.inter) == 0 {
		return
	}
	if l.across == nil {
		l.across, l.between = map[[2]scion.Interface]time.Duration{}, map[scion.Interface]time.Duration{}
	}
	egress := scion.Interface{IA: e.ia, ID: e.hop.out}
	for id, us := range e.latency.intra {
		if v := time.Duration(us) * time.Microsecond; v <= maxLatency {
			pair := ordered(egress, scion.Interface{IA: egress.IA, ID: uint16(id)})
			l.across[pair] = max(l.across[pair], v)
		}
	}
	for id, us := range e.latency.inter {
		if v := time.Duration(us) * time.Microsecond; v <= maxLatency {
			local := scion.Interface{IA: egress.IA, ID: uint16(id)}
			l.between[local] = max(l.between[local], v)
		}
	}
}

func ordered(a, b scion.Interface) [2]scion.Interface {
	if b.ID < a.ID {
		a, b = b, a
	}
	return [2]scion.Interface{a, b}
}

// of returns the sum over the interfaces of a route, or 0 if a part of it is
// not announced.
func (l *latencies) of(interfaces []scion.Interface) time.Duration {
	var sum time.Duration
	for i := 0; i+1 < len(interfaces); i++ {
		a, b := interfaces[i], interfaces[i+1]
		var v time.Duration
		var known bool
		if i%2 == 0 {
			near, ok := l.between[a]
			far, also := l.between[b]
			v, known = max(near, far), ok || also
		} else {
			v, known = l.across[ordered(a, b)]
		}
		if !known {
			return 0
		}
		sum += v
	}
	return sum
}
