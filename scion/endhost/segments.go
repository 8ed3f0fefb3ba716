package endhost

import (
	"github.com/scionproto/scion/pkg/proto/control_plane"
)

// Segments are path segments by the part that they can play in a path. They
// are shared and must not be changed.
type Segments struct {
	Up   []*control_plane.PathSegment // from a core AS down to the source
	Core []*control_plane.PathSegment // between core ASes, from the destination's side to the source's
	Down []*control_plane.PathSegment // from a core AS down to the destination
}

type (
	pathSegment = control_plane.PathSegment
	segmentList = []*pathSegment
)

// Len returns how many segments there are.
func (s Segments) Len() int { return len(s.Up) + len(s.Core) + len(s.Down) }

// withoutUnsigned returns a segment without the unsigned extensions of its
// entries.
func withoutUnsigned(s *pathSegment) *pathSegment {
	for _, e := range s.AsEntries {
		if e.Unsigned != nil {
			bare := &pathSegment{SegmentInfo: s.SegmentInfo}
			for _, e := range s.AsEntries {
				bare.AsEntries = append(bare.AsEntries, &control_plane.ASEntry{Signed: e.Signed})
			}
			return bare
		}
	}
	return s
}
