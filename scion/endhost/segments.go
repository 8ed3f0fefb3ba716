package endhost

// Segments are path segments by the part that they can play in a path. They
// are shared and must not be changed.
type Segments struct {
	Up   []*PathSegment // from a core AS down to the source
	Core []*PathSegment // between core ASes, from the destination's side to the source's
	Down []*PathSegment // from a core AS down to the destination
}

// A PathSegment is a path segment as ASes have made and signed it, encoded as
// PathSegment of proto/control_plane/v1/seg.proto has it. Unsigned extensions,
// which concern EPIC, are left out.
type PathSegment struct {
	Info    []byte        // SegmentInformation
	Entries []SignedEntry // one for each AS, in the order of the beacon
}

// A SignedEntry is what an AS says of itself in a segment.
type SignedEntry struct {
	HeaderAndBody []byte // of a header of proto/crypto/v1/signed.proto, and an ASEntrySignedBody
	Signature     []byte
}

type segmentList = []*PathSegment

// Len returns how many segments there are.
func (s Segments) Len() int { return len(s.Up) + len(s.Core) + len(s.Down) }
