package scion

import (
	"encoding/binary"
	"sync"
)

// maxTemplates bounds a generation of prepared headers of a port.
const maxTemplates = 4096

// A template holds the SCION and UDP headers towards an address, with lengths
// and checksum left out, and the sum of what is in them.
type template struct {
	header []byte
	udp    int // where the UDP header begins
	sum    uint64
	hops   uint64 // hash of the hop fields
}

func newTemplate(from, to Addr) (*template, error) {
	header, err := AppendUDP(nil, from, to, nil)
	if err != nil {
		return nil, err
	}
	t := &template{header: header, udp: len(header) - udpLen}
	clear(header[6:8])      // PayloadLen
	clear(header[t.udp+4:]) // length, checksum
	addresses := header[addrOffset : t.udp-to.Path.Len()]
	t.sum = addSum(pseudoSum(addresses, uint8(ProtocolUDP), 0), header[t.udp:])
	t.hops = to.Path.hash()
	return t, nil
}

// appendPacket appends a packet with a payload of at most 65527 bytes.
func (t *template) appendPacket(b, payload []byte) []byte {
	start := len(b)
	length := udpLen + len(payload)
	b = append(append(b, t.header...), payload...)
	header := b[start : start+len(t.header)]
	binary.BigEndian.PutUint16(header[6:], uint16(length))
	binary.BigEndian.PutUint16(header[t.udp+4:], uint16(length))
	// The length counts twice, in the pseudo header and in the UDP header.
	sum := uint64(foldSum(addSum(t.sum, payload))) + 2*uint64(length)
	binary.BigEndian.PutUint16(header[t.udp+6:], udpChecksum(sum))
	return b
}

// A templates holds what a port has prepared, per address and path.
type templates struct {
	mu     sync.Mutex // guards what follows
	local  *Addr      // whose headers these are
	header generations[Addr, *template]
	sent   generations[sentTo, *Path] // the same, to be found by what is quoted
}

// A sentTo is what stays of an address and its path in a packet under way.
type sentTo struct {
	to   Addr   // without its path
	hops uint64 // hash of the hop fields
}

func newTemplates() templates {
	return templates{
		header: newGenerations[Addr, *template](maxTemplates),
		sent:   newGenerations[sentTo, *Path](maxTemplates),
	}
}

// get returns the headers from a port of local to an address. Number 0 is the
// port assigned to local.
func (ts *templates) get(local *Addr, number uint16, to Addr) (*template, error) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if ts.local != local {
		ts.local = local
		ts.header, ts.sent = newGenerations[Addr, *template](maxTemplates), newGenerations[sentTo, *Path](maxTemplates)
	}
	if t, ok := ts.header.young[to]; ok {
		return t, nil
	}
	if t, ok := ts.header.old[to]; ok {
		ts.put(to, t)
		return t, nil
	}
	if to.Path == nil && to.IA != local.IA {
		return nil, errNoPath
	}
	from := *local
	if number != 0 {
		from.Port = number
	}
	t, err := newTemplate(from, to)
	if err != nil {
		return nil, err
	}
	ts.put(to, t)
	return t, nil
}

// put keeps a template. Both maps grow old together.
func (ts *templates) put(to Addr, t *template) {
	ts.header.put(to, t)
	ts.sent.put(sentTo{to.Origin(), t.hops}, to.Path)
}

// sentOn returns the path of packets that local has sent to an address without
// one. It is not ok if there were none lately on a path with such hop fields.
func (ts *templates) sentOn(local *Addr, to Addr, hops uint64) (*Path, bool) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if ts.local != local {
		return nil, false
	}
	return ts.sent.get(sentTo{to, hops})
}
