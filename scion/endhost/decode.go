package endhost

import (
	"errors"
	"fmt"
	"math"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/snapproxy/snapproxy/scion"
)

// The messages within a PathSegment (proto/control_plane/v1/seg.proto):
//
//	SegmentInformation 1 int64 timestamp, 2 uint32 segment_id
//	HeaderAndBody      1 bytes header, 2 bytes body, an ASEntrySignedBody
//	ASEntrySignedBody  1 uint64 isd_as, 2 uint64 next_isd_as, 3 HopEntry, 4 repeated PeerEntry, 5 uint32 mtu, 6 extensions
//	HopEntry           1 HopField, 2 uint32 ingress_mtu
//	PeerEntry          1 uint64 peer_isd_as, 2 uint64 peer_interface, 3 uint32 peer_mtu, 4 HopField
//	HopField           1 uint64 ingress, 2 uint64 egress, 3 uint32 exp_time, 4 bytes mac
//
// As the reference decoder has it (pkg/segment), a field of another wire type is
// an unknown one, a field that comes again replaces the number it had, and a
// message that comes again adds to itself.

var (
	errSegmentID  = errors.New("its ID is above 65535")
	errNoEntry    = errors.New("it has no AS entry")
	errWildcard   = errors.New("an AS in it is a wildcard")
	errNoHopField = errors.New("an AS in it has no hop field")
	errHopField   = errors.New("a number of a hop field is too large")
	errMAC        = errors.New("a MAC has not 6 bytes")
	errFirst      = errors.New("its first AS has an interface before it")
	errLast       = errors.New("its last AS has something behind it")
	errChain      = errors.New("an AS names another as the next")
	errPeerEgress = errors.New("a peer leads elsewhere than its AS")
)

// decode decodes a segment so far as every known decoder agrees: all numbers
// fit what paths have for them, and the ASes are chained.
func decode(p *PathSegment) (*segment, error) {
	if p == nil {
		return nil, errNoSegment
	}
	s := &segment{entries: make([]asEntry, len(p.Entries))}
	if err := s.decodeInfo(p.Info); err != nil {
		return nil, fmt.Errorf("malformed: %w", err)
	}
	for i := range p.Entries {
		if err := s.entries[i].decode(p.Entries[i].HeaderAndBody); err != nil {
			return nil, fmt.Errorf("malformed: AS entry %d: %w", i+1, err)
		}
	}
	if err := s.checkChain(); err != nil {
		return nil, fmt.Errorf("malformed: %w", err)
	}
	return s, nil
}

func (s *segment) decodeInfo(b []byte) error {
	var made int64
	var id uint32
	err := eachField(b, func(f field) error {
		switch {
		case f.isNumber(1):
			made = int64(f.number)
		case f.isNumber(2):
			id = uint32(f.number)
		}
		return nil
	})
	switch {
	case err != nil:
		return err
	case id > math.MaxUint16:
		return errSegmentID
	case made < 0 || made > math.MaxUint32:
		return errTimestamp
	}
	s.timestamp, s.id = uint32(made), uint16(id)
	return nil
}

// checkChain returns an error unless each AS leads to the next.
func (s *segment) checkChain() error {
	last := len(s.entries) - 1
	if last < 0 {
		return errNoEntry
	}
	if s.entries[0].hop.in != 0 {
		return errFirst
	}
	for i := range s.entries {
		e := &s.entries[i]
		switch {
		case i < last && e.next != s.entries[i+1].ia:
			return errChain
		case i == last && (e.next != 0 || e.hop.out != 0):
			return errLast
		}
		for _, p := range e.peers {
			if p.hop.out != e.hop.out {
				return errPeerEgress
			}
		}
	}
	return nil
}

// decode decodes a HeaderAndBody.
func (e *asEntry) decode(b []byte) error {
	var header, body []byte
	err := eachField(b, func(f field) error {
		switch {
		case f.isBytes(1):
			header = f.bytes
		case f.isBytes(2):
			body = f.bytes
		}
		return nil
	})
	if err == nil {
		err = signedHeader.check(header)
	}
	if err == nil {
		err = e.decodeBody(body)
	}
	return err
}

func (e *asEntry) decodeBody(b []byte) error {
	var hop hopFieldMessage
	var x extensions
	err := eachField(b, func(f field) error {
		switch {
		case f.isNumber(1):
			e.ia = scion.IA(f.number)
		case f.isNumber(2):
			e.next = scion.IA(f.number)
		case f.isBytes(3):
			return e.decodeHop(f.bytes, &hop)
		case f.isBytes(4):
			return e.decodePeer(f.bytes)
		case f.isNumber(5):
			e.mtu = uint32(f.number)
		case f.isBytes(6):
			return x.decode(f.bytes)
		}
		return nil
	})
	if err == nil {
		err = x.check()
	}
	switch {
	case err != nil:
		return err
	case e.ia.IsWildcard():
		return errWildcard
	case e.mtu > math.MaxInt32 || e.ingressMTU > math.MaxUint16:
		return errMTU
	}
	e.latency = x.latency
	e.hop, err = hop.hopField()
	return err
}

func (e *asEntry) decodeHop(b []byte, hop *hopFieldMessage) error {
	return eachField(b, func(f field) error {
		switch {
		case f.isBytes(1):
			return hop.decode(f.bytes)
		case f.isNumber(2):
			e.ingressMTU = uint32(f.number)
		}
		return nil
	})
}

func (e *asEntry) decodePeer(b []byte) error {
	var p peerEntry
	var id uint64
	var hop hopFieldMessage
	err := eachField(b, func(f field) error {
		switch {
		case f.isNumber(1):
			p.ia = scion.IA(f.number)
		case f.isNumber(2):
			id = f.number
		case f.isNumber(3):
			p.mtu = uint32(f.number)
		case f.isBytes(4):
			return hop.decode(f.bytes)
		}
		return nil
	})
	switch {
	case err != nil:
		return err
	case p.ia.IsWildcard():
		return errWildcard
	case id > math.MaxUint16:
		return errHopField
	case p.mtu > math.MaxUint16:
		return errMTU
	}
	p.id = uint16(id)
	p.hop, err = hop.hopField()
	e.peers = append(e.peers, p)
	return err
}

// A hopFieldMessage is a HopField before its numbers are checked.
type hopFieldMessage struct {
	in, out uint64
	expTime uint32
	mac     []byte
}

func (h *hopFieldMessage) decode(b []byte) error {
	return eachField(b, func(f field) error {
		switch {
		case f.isNumber(1):
			h.in = f.number
		case f.isNumber(2):
			h.out = f.number
		case f.isNumber(3):
			h.expTime = uint32(f.number)
		case f.isBytes(4):
			h.mac = f.bytes
		}
		return nil
	})
}

// hopField returns the hop field, or an error if it is none. One that is
// missing has no MAC.
func (h *hopFieldMessage) hopField() (hopField, error) {
	switch {
	case h.in > math.MaxUint16 || h.out > math.MaxUint16 || h.expTime > math.MaxUint8:
		return hopField{}, errHopField
	case h.mac == nil:
		return hopField{}, errNoHopField
	case len(h.mac) != 6:
		return hopField{}, errMAC
	}
	return hopField{in: uint16(h.in), out: uint16(h.out), expTime: uint8(h.expTime), mac: [6]byte(h.mac)}, nil
}

func (f field) isNumber(num protowire.Number) bool {
	return f.num == num && f.typ == protowire.VarintType
}

func (f field) isBytes(num protowire.Number) bool {
	return f.num == num && f.typ == protowire.BytesType
}
