package endhost

import (
	"errors"
	"net/netip"
	"slices"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// The extensions of an AS entry (proto/control_plane/v1/seg_extensions.proto).
// Only announced latencies are used. What else there is must be well-formed, as
// other decoders refuse the whole segment if it is not.
//
//	PathSegmentExtensions 1 StaticInfoExtension, 2 HiddenPathExtension, 3 DiscoveryExtension, 1000 DigestExtension
//	StaticInfoExtension   1 LatencyInfo, 2 BandwidthInfo, 3 map geo, 4 map link_type, 5 map internal_hops, 6 string note
//	LatencyInfo           1 map<uint64, uint32> intra, 2 map<uint64, uint32> inter: microseconds by interface
//	DiscoveryExtension    1 uint32 version, 2 repeated string control_service_addresses, 3 repeated string discovery_service_addresses

// A schema says which fields of a message can be malformed in themselves: those
// that are messages and texts. An entry of a map is a message of a key and a
// value. The nil schema has none.
type schema struct {
	messages map[protowire.Number]*schema
	texts    []protowire.Number
}

var (
	twoMaps = &schema{messages: map[protowire.Number]*schema{1: nil, 2: nil}}

	// signedHeader is Header of proto/crypto/v1/signed.proto: 3 is the timestamp.
	signedHeader = &schema{messages: map[protowire.Number]*schema{3: nil}}

	pathSegmentExtensions = &schema{messages: map[protowire.Number]*schema{
		1: {
			messages: map[protowire.Number]*schema{
				1: twoMaps, 2: twoMaps, 4: nil, 5: nil,
				3: {messages: map[protowire.Number]*schema{2: {texts: []protowire.Number{3}}}}, // coordinates with an address
			},
			texts: []protowire.Number{6},
		},
		2:    nil,
		3:    {texts: []protowire.Number{2, 3}},
		1000: {messages: map[protowire.Number]*schema{1000: nil}},
	}}
)

// check returns an error if a message, or a message or text within, is
// malformed.
func (s *schema) check(b []byte) error {
	return eachField(b, func(f field) error {
		if s == nil || f.typ != protowire.BytesType {
			return nil
		}
		if slices.Contains(s.texts, f.num) && !utf8.Valid(f.bytes) {
			return errNotText
		}
		if within, ok := s.messages[f.num]; ok {
			return within.check(f.bytes)
		}
		return nil
	})
}

// announced are the latencies that an AS announces, in microseconds: through
// the AS from the interface where the beacon left it to another, and over the
// link behind one.
type announced struct{ intra, inter map[uint64]uint32 }

// extensions are what is known of those of an AS entry.
type extensions struct {
	latency            announced
	control, discovery addresses
}

// addresses count those of services, and of these the ones that are addresses.
type addresses struct{ count, good int }

var errAddresses = errors.New("none of the addresses it announces is one")

// check returns an error if services have addresses and none that is one.
func (x *extensions) check() error {
	for _, a := range []addresses{x.control, x.discovery} {
		if a.count > 0 && a.good == 0 {
			return errAddresses
		}
	}
	return nil
}

// decode adds a PathSegmentExtensions.
func (x *extensions) decode(b []byte) error {
	if err := pathSegmentExtensions.check(b); err != nil {
		return err
	}
	return eachField(b, func(f field) error {
		switch {
		case f.isBytes(1):
			return eachField(f.bytes, func(f field) error {
				if f.isBytes(1) {
					return x.latency.decode(f.bytes)
				}
				return nil
			})
		case f.isBytes(3):
			return eachField(f.bytes, func(f field) error {
				switch {
				case f.isBytes(2):
					x.control.add(f.bytes)
				case f.isBytes(3):
					x.discovery.add(f.bytes)
				}
				return nil
			})
		}
		return nil
	})
}

func (a *addresses) add(text []byte) {
	a.count++
	if _, err := netip.ParseAddrPort(string(text)); err == nil {
		a.good++
	}
}

// decode adds a LatencyInfo.
func (a *announced) decode(b []byte) error {
	return eachField(b, func(f field) error {
		switch {
		case f.isBytes(1):
			return addMapEntry(&a.intra, f.bytes)
		case f.isBytes(2):
			return addMapEntry(&a.inter, f.bytes)
		}
		return nil
	})
}

func addMapEntry(m *map[uint64]uint32, b []byte) error {
	var key uint64
	var value uint32
	err := eachField(b, func(f field) error {
		switch {
		case f.isNumber(1):
			key = f.number
		case f.isNumber(2):
			value = uint32(f.number)
		}
		return nil
	})
	if *m == nil {
		*m = map[uint64]uint32{}
	}
	(*m)[key] = value
	return err
}
