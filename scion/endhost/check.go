package endhost

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/scionproto/scion/pkg/addr"
	"github.com/scionproto/scion/pkg/segment"

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

// decode decodes a segment so far as every known decoder agrees: all numbers
// fit what paths have for them, and the ASes are chained. Unsigned extensions
// are dropped.
func decode(pb *pathSegment) (*segment.PathSegment, error) {
	if pb == nil {
		return nil, errNoSegment
	}
	for _, e := range pb.AsEntries {
		if e.GetSigned() == nil {
			return nil, errUnsigned
		}
	}
	s, err := segment.SegmentFromPB(withoutUnsigned(pb))
	if err != nil {
		return nil, fmt.Errorf("malformed: %s", printable(err.Error(), maxErrorText))
	}
	if t := s.Info.Timestamp.Unix(); t < 0 || t > math.MaxUint32 {
		return nil, errTimestamp
	}
	for i := range s.ASEntries {
		e := &s.ASEntries[i]
		if e.HopEntry.IngressMTU > math.MaxUint16 {
			return nil, errMTU
		}
		for _, p := range e.PeerEntries {
			if p.PeerMTU > math.MaxUint16 {
				return nil, errMTU
			}
		}
	}
	return s, nil
}

// checkUsable returns an error if no path over s could work. It takes out of s
// what it does without: peers that make no sense.
func checkUsable(s *segment.PathSegment, core bool, now time.Time) error {
	switch {
	case len(s.ASEntries) < 2:
		return errShort
	case len(s.ASEntries) > maxSegmentHops:
		return errLong
	case s.Info.Timestamp.After(now.Add(maxAhead)):
		return errFuture
	case !s.MaxExpiry().After(now):
		return errExpired
	}
	seen := make(map[addr.IA]bool, len(s.ASEntries))
	for i := range s.ASEntries {
		e := &s.ASEntries[i]
		hop := e.HopEntry.HopField
		switch {
		case seen[e.Local]:
			return fmt.Errorf("it loops: it visits %s twice", scion.IA(e.Local))
		case e.MTU <= 0 || e.MTU > math.MaxUint16:
			return errMTU
		case i > 0 && hop.ConsIngress == 0, i < len(s.ASEntries)-1 && hop.ConsEgress == 0:
			return errNoInterface
		case !core && e.Local.ISD() != s.ASEntries[0].Local.ISD():
			return errISDs
		case len(e.PeerEntries) > maxPeers:
			return errPeers
		}
		seen[e.Local] = true
		e.PeerEntries = usablePeers(e)
	}
	return nil
}

// usablePeers returns the peers of an AS that make sense, and takes a link
// whose MTU is not announced for one as wide as the AS.
func usablePeers(e *segment.ASEntry) []segment.PeerEntry {
	var usable []segment.PeerEntry
	for _, p := range e.PeerEntries {
		if p.HopField.ConsIngress == 0 || p.PeerInterface == 0 || p.Peer == e.Local {
			continue
		}
		if p.PeerMTU == 0 {
			p.PeerMTU = e.MTU
		}
		usable = append(usable, p)
	}
	return usable
}

// decodable returns the segments that every known decoder bears.
func decodable(s Segments) (Segments, refusals) {
	var refused refusals
	keep := func(list segmentList) segmentList {
		var kept segmentList
		for _, pb := range list {
			if _, err := decode(pb); err != nil {
				refused.add(err)
				continue
			}
			kept = append(kept, pb)
		}
		return kept
	}
	return Segments{Up: keep(s.Up), Core: keep(s.Core), Down: keep(s.Down)}, refused
}
