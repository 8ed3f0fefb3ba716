package endhost

import (
	"bytes"
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/snapproxy/snapproxy/scion"
)

// The messages of scion.endhost.v1.SegmentsService, and PathSegment of the
// control plane:
//
//	ListSegmentsRequest  1 uint64 src, 2 uint64 dst, 3 int32 page_size, 4 string page_token
//	ListSegmentsResponse 1 up, 2 down, 3 core: repeated PathSegment; 4 string next_page_token
//	PathSegment          1 bytes segment_info, 2 repeated ASEntry{1 SignedMessage, 2 extensions}

const (
	maxSegments  = 1000     // of an answer, all its pages together
	maxEntries   = 64       // AS entries of a segment
	maxEntry     = 64 << 10 // bytes of an AS entry
	maxPageToken = 4096     // bytes
)

var (
	errSegmentCount = fmt.Errorf("it has more than %d segments", maxSegments)
	errEntryCount   = fmt.Errorf("a segment has more than %d AS entries", maxEntries)
	errEntryLength  = errors.New("an AS entry is too long")
	errUnsigned     = errors.New("an AS entry has no signed part")
	errPageToken    = errors.New("its page token is too long")
)

// A segmentsRequest is a ListSegmentsRequest.
type segmentsRequest struct {
	src, dst scion.IA
	size     int32
	token    string
}

func (r segmentsRequest) append(b []byte) []byte {
	b = appendNumber(b, 1, uint64(r.src))
	b = appendNumber(b, 2, uint64(r.dst))
	b = appendNumber(b, 3, uint64(int64(r.size)))
	return appendText(b, 4, r.token)
}

func parseSegmentsRequest(b []byte) (r segmentsRequest, err error) {
	err = eachField(b, func(f field) (err error) {
		var v uint64
		switch f.num {
		case 1:
			v, err = f.uint64()
			r.src = scion.IA(v)
		case 2:
			v, err = f.uint64()
			r.dst = scion.IA(v)
		case 3:
			v, err = f.uint64()
			r.size = int32(v)
		case 4:
			r.token, err = f.text()
			if len(r.token) > maxPageToken {
				err = errPageToken
			}
		}
		return err
	})
	return r, err
}

// appendSegments appends a ListSegmentsResponse.
func appendSegments(b []byte, s Segments, next string) []byte {
	for _, part := range []struct {
		num      protowire.Number
		segments segmentList
	}{{1, s.Up}, {2, s.Down}, {3, s.Core}} {
		for _, s := range part.segments {
			b = appendMessage(b, part.num, s.append(nil))
		}
	}
	return appendText(b, 4, next)
}

// append appends a PathSegment.
func (s *PathSegment) append(b []byte) []byte {
	b = appendBytes(b, 1, s.Info)
	for _, e := range s.Entries {
		signed := appendBytes(appendBytes(nil, 1, e.HeaderAndBody), 2, e.Signature)
		b = appendMessage(b, 2, appendMessage(nil, 1, signed))
	}
	return b
}

// parseSegments appends the segments of a ListSegmentsResponse to s.
func parseSegments(s *Segments, b []byte) (next string, err error) {
	err = eachField(b, func(f field) (err error) {
		switch f.num {
		case 1:
			return s.append(&s.Up, f)
		case 2:
			return s.append(&s.Down, f)
		case 3:
			return s.append(&s.Core, f)
		case 4:
			next, err = f.text()
			if len(next) > maxPageToken {
				err = errPageToken
			}
		}
		return err
	})
	return next, err
}

// append appends the segment in f to a part of s. One that is malformed or too
// long becomes an empty one, which Combine counts: the others may be good.
func (s *Segments) append(part *segmentList, f field) error {
	if s.Len() >= maxSegments {
		return errSegmentCount
	}
	m, err := f.message()
	if err != nil {
		return err
	}
	segment, err := parsePathSegment(m)
	if err != nil {
		segment = &PathSegment{}
	}
	*part = append(*part, segment)
	return nil
}

// parsePathSegment parses the outer layers of a PathSegment and leaves what is
// signed as it is. Unsigned extensions, which concern EPIC, are dropped.
func parsePathSegment(b []byte) (*PathSegment, error) {
	segment := &PathSegment{}
	err := eachField(b, func(f field) error {
		if f.num != 1 && f.num != 2 {
			return nil
		}
		m, err := f.message()
		switch {
		case err != nil:
			return err
		case len(m) > maxEntry:
			return errEntryLength
		case f.num == 1:
			segment.Info = bytes.Clone(m)
			return nil
		case len(segment.Entries) >= maxEntries:
			return errEntryCount
		}
		entry, err := parseEntry(m)
		segment.Entries = append(segment.Entries, entry)
		return err
	})
	return segment, err
}

// parseEntry parses an ASEntry as far as its signed message, which is copied.
func parseEntry(b []byte) (e SignedEntry, err error) {
	signed := false
	err = eachField(b, func(f field) error {
		if f.num != 1 {
			return nil
		}
		m, err := f.message()
		if err != nil {
			return err
		}
		e, signed = SignedEntry{}, true
		return eachField(m, func(f field) (err error) {
			var v []byte
			switch f.num {
			case 1:
				v, err = f.message()
				e.HeaderAndBody = bytes.Clone(v)
			case 2:
				v, err = f.message()
				e.Signature = bytes.Clone(v)
			}
			return err
		})
	})
	if err == nil && !signed {
		err = errUnsigned
	}
	return e, err
}
