package netstack

import "encoding/binary"

// A probe is what the sender of a flight has sent again because nothing came back
// for two round trips (RFC 8985 section 7). If all it has sent is acknowledged
// after that, gVisor takes the probe for what made it so, and for a sign of
// congestion, unless a duplicate selective acknowledgement (RFC 2883) says that
// the probe came twice. No gVisor sends one, and on a busy machine, where answers
// are late, each such probe costs a third of the window.
type probe struct {
	on         bool
	start, end uint32
	stamp      uint32 // its timestamp
	high       uint32 // what had been sent by then
}

// vain reports whether an acknowledgement of all that had been sent when the probe
// was shows, by the timestamp it echoes, that the probe is not what brought it
// (RFC 3522).
func (p *probe) vain(tcp []byte) bool {
	if !p.on || before(be32(tcp[8:]), p.high) {
		return false
	}
	p.on = false
	return int(tcp[12]>>4)*4 >= stampEnd && be32(tcp[tcpHeaderLen:]) == stampKind && before(be32(tcp[stampEnd-4:]), p.stamp)
}

// withDSACK makes an acknowledgement say that the probe came twice.
func (r *run) withDSACK(p *probe) {
	const option = 12
	if r.headers-ipv6HeaderLen+option > 60 || sackOption(r.head[ipv6HeaderLen:]) != nil {
		return
	}
	head := append(make([]byte, 0, len(r.head)+option), r.head[:r.headers]...)
	head = append(head, 1, 1, 5, 10)
	head = binary.BigEndian.AppendUint32(head, p.start)
	head = binary.BigEndian.AppendUint32(head, p.end)
	head = append(head, r.head[r.headers:]...)
	head[ipv6HeaderLen+12] += option / 4 << 4
	r.head, r.headers, r.total = head, r.headers+option, r.total+option
}
