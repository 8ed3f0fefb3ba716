package endhost

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/snapproxy/snapproxy/scion"
)

const (
	maxSegmentHops = 63  // the length of a segment in a path is a number of 6 bits
	maxPeers       = 256 // of an AS entry
	maxAhead       = time.Hour
)

var (
	errShort       = errors.New("it has fewer than two ASes")
	errLong        = fmt.Errorf("it has more than %d ASes", maxSegmentHops)
	errTimestamp   = errors.New("its timestamp does not fit 32 bits")
	errFuture      = errors.New("it was made in the future: is the clock right?")
	errExpired     = errors.New("it has expired")
	errMTU         = errors.New("an MTU in it is 0 or above 65535")
	errNoInterface = errors.New("an AS in the middle has no interface")
	errISDs        = errors.New("it leaves its ISD and is no core segment")
	errPeers       = fmt.Errorf("an AS in it has more than %d peers", maxPeers)
	errNoSegment   = errors.New("it is empty")
)

// refusals count the segments that were left out.
type refusals struct {
	count int
	first error
}

func (r *refusals) add(err error) {
	if r.count++; r.first == nil {
		r.first = err
	}
}

// checkUsable returns an error if no path over s could work. It takes out of s
// what it does without: peers that make no sense.
func checkUsable(s *segment, core bool, now time.Time) error {
	_, expires := s.lives()
	switch {
	case len(s.entries) < 2:
		return errShort
	case len(s.entries) > maxSegmentHops:
		return errLong
	case s.made().After(now.Add(maxAhead)):
		return errFuture
	case !expires.After(now):
		return errExpired
	}
	seen := make(map[scion.IA]bool, len(s.entries))
	for i := range s.entries {
		e := &s.entries[i]
		switch {
		case seen[e.ia]:
			return fmt.Errorf("it loops: it visits %s twice", e.ia)
		case e.mtu == 0 || e.mtu > math.MaxUint16:
			return errMTU
		case i > 0 && e.hop.in == 0, i < len(s.entries)-1 && e.hop.out == 0:
			return errNoInterface
		case !core && e.ia.ISD() != s.first().ISD():
			return errISDs
		case len(e.peers) > maxPeers:
			return errPeers
		}
		seen[e.ia] = true
		e.peers = usablePeers(e)
	}
	return nil
}

// usablePeers returns the peers of an AS that make sense, and takes a link
// whose MTU is not announced for one as wide as the AS. Of a link that is named
// twice the last word counts.
func usablePeers(e *asEntry) []peerEntry {
	var usable []peerEntry
	at := map[junction]int{}
	for _, p := range e.peers {
		if p.hop.in == 0 || p.id == 0 || p.ia == e.ia {
			continue
		}
		if p.mtu == 0 {
			p.mtu = e.mtu
		}
		link := junction{up: e.ia, upInter: p.hop.in, down: p.ia, downInter: p.id}
		if n, again := at[link]; again {
			usable[n] = p
			continue
		}
		at[link] = len(usable)
		usable = append(usable, p)
	}
	return usable
}

// decodable returns the segments that every known decoder bears.
func decodable(s Segments) (Segments, refusals) {
	var refused refusals
	keep := func(list segmentList) segmentList {
		var kept segmentList
		for _, p := range list {
			if _, err := decode(p); err != nil {
				refused.add(err)
				continue
			}
			kept = append(kept, p)
		}
		return kept
	}
	return Segments{Up: keep(s.Up), Core: keep(s.Core), Down: keep(s.Down)}, refused
}
