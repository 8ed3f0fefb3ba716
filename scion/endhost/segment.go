package endhost

import (
	"crypto/sha256"
	"encoding/binary"
	"time"

	"github.com/snapproxy/snapproxy/scion"
)

// A segment is a decoded path segment; its signatures are not checked.
type segment struct {
	timestamp uint32 // seconds since 1970
	id        uint16 // what the chain of MACs begins with
	entries   []asEntry
	hash      [sha256.Size]byte // of its hops, once it is checked
}

// An asEntry is what an AS of a segment says of itself.
type asEntry struct {
	ia, next   scion.IA
	mtu        uint32 // of the AS
	ingressMTU uint32 // of the link to the AS before; 0: unknown
	hop        hopField
	peers      []peerEntry
	latency    announced
}

// A peerEntry is a peering link of an AS.
type peerEntry struct {
	ia  scion.IA // the peer
	id  uint16   // the peer's interface
	mtu uint32   // of the link
	hop hopField // hop.in is the AS's own interface
}

// A hopField is what a router of the AS asks of a packet. In and out are the
// interfaces in the direction of the beacon.
type hopField struct {
	in, out uint16
	expTime uint8
	mac     [6]byte
}

// life returns how long a hop field lives from the timestamp of its segment on.
func life(expTime uint8) time.Duration {
	return (time.Duration(expTime) + 1) * (24 * time.Hour / 256)
}

func (s *segment) first() scion.IA { return s.entries[0].ia }

func (s *segment) last() scion.IA { return s.entries[len(s.entries)-1].ia }

func (s *segment) made() time.Time { return time.Unix(int64(s.timestamp), 0) }

// expires returns when the first of its hop fields expires.
func (s *segment) expires() time.Time {
	first, _ := s.lives()
	return first
}

// lives returns when the first and when the last of its hop fields expires.
func (s *segment) lives() (first, last time.Time) {
	shortest, longest := uint8(255), uint8(0)
	for i := range s.entries {
		e := &s.entries[i]
		shortest, longest = min(shortest, e.hop.expTime), max(longest, e.hop.expTime)
		for _, p := range e.peers {
			shortest, longest = min(shortest, p.hop.expTime), max(longest, p.hop.expTime)
		}
	}
	return s.made().Add(life(shortest)), s.made().Add(life(longest))
}

// appendHops appends what tells segments apart for whom it is only the way
// that counts: the ASes and their interfaces, and the peers if wanted.
func (s *segment) appendHops(b []byte, peers bool) []byte {
	add := func(ia scion.IA, h hopField) {
		b = binary.BigEndian.AppendUint64(b, uint64(ia))
		b = binary.BigEndian.AppendUint16(b, h.in)
		b = binary.BigEndian.AppendUint16(b, h.out)
	}
	for i := range s.entries {
		e := &s.entries[i]
		add(e.ia, e.hop)
		for _, p := range e.peers {
			if peers {
				add(p.ia, p.hop)
			}
		}
	}
	return b
}
