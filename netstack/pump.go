package netstack

import (
	"net/netip"

	"gvisor.dev/gvisor/pkg/buffer"
)

const (
	// scratchSize is the memory that a batch is cut into: four super-segments,
	// which the layers below find in the cache.
	scratchSize = 256 << 10
	// batchPackets is the most packets in a batch.
	batchPackets = 512
)

// A pump takes what is queued, cuts it into packets that fit a frame, and
// writes them in batches.
type pump struct {
	link     Link
	counters *counters
	flights  *flights // nil: nothing is sent again

	scratch []byte   // packets of the batch, back to back
	used    int      // bytes of scratch in use
	lent    int      // bytes of the raw items
	packets [][]byte // of the batch, in scratch or in a raw item
	held    []outItem

	dst [16]byte // of the packet before, whose MTU is known for this batch
	mtu int
}

func newPump(link Link, c *counters) *pump {
	return &pump{link: link, counters: c, scratch: make([]byte, scratchSize)}
}

// run pumps until the queue is closed. A batch is written when it is full, or
// when nothing more is queued.
func (p *pump) run(q *outbound) {
	var items []outItem
	for ok := true; ok; {
		// An empty batch may wait for the first packet, another one not.
		if items, ok = q.take(items, len(p.packets) == 0); len(items) == 0 {
			p.flush()
			continue
		}
		p.mtu = 0
		for i := range items {
			p.add(&items[i])
		}
	}
}

// add puts a packet, which it takes over, into the batch.
func (p *pump) add(i *outItem) {
	if i.raw != nil {
		if len(p.packets) == batchPackets || p.lent >= len(p.scratch) {
			p.flush()
		}
		p.lent += i.size
		p.packets = append(p.packets, i.raw.AsSlice())
		p.held = append(p.held, *i)
		*i = outItem{}
		return
	}
	ip := i.pkt.NetworkHeader().Slice()
	transport := i.pkt.TransportHeader().Slice()
	var payload cursor
	payload.init(i.pkt.AsViewList())
	payload.skip(len(ip) + len(transport))
	if ip[6] == protoTCP && len(ip) == ipv6HeaderLen && len(transport) >= tcpHeaderLen {
		if i.part.again {
			p.addPart(ip, transport, &payload, i)
		} else {
			size := i.size - len(ip) - len(transport)
			if p.flights != nil {
				p.flights.sent(i.pkt, ip, transport, size)
			}
			p.addTCP(ip, transport, &payload, size, i.pkt.GSOOptions.NeedsCsum)
		}
	} else {
		b := p.room(i.size)
		n := copy(b, ip)
		n += copy(b[n:], transport)
		payload.read(b[n:])
		p.keep(b)
	}
	i.release()
}

// addTCP cuts a TCP segment with size bytes of payload to what fits a frame.
// If sum, its checksum is yet to be made.
func (p *pump) addTCP(ip, tcp []byte, payload *cursor, size int, sum bool) {
	mtu := p.mtuTo(ip)
	headers := len(ip) + len(tcp)
	if tcp[13]&flagSYN != 0 {
		b := p.room(headers + size)
		copy(b, ip)
		copy(b[len(ip):], tcp)
		payload.read(b[headers:])
		if clampMSS(b[len(ip):headers], mtu) || sum {
			putChecksum(b, protoTCP, 16)
		}
		p.keep(b)
		return
	}
	if headers+size <= mtu && !sum {
		b := p.room(headers + size)
		copy(b, ip)
		copy(b[len(ip):], tcp)
		payload.read(b[headers:])
		p.keep(b)
		return
	}
	p.cut(ip, tcp, payload, size, mtu)
}

// addPart sends a part of a segment again, if it is still in flight.
func (p *pump) addPart(ip, tcp []byte, payload *cursor, i *outItem) {
	var header [60]byte
	size := i.pkt.Size() - len(ip) - len(tcp)
	tcp = header[:copy(header[:], tcp)]
	if !p.flights.renew(ip, tcp) {
		return
	}
	put32(tcp[4:], be32(tcp[4:])+i.part.from)
	if int(i.part.to) < size {
		tcp[13] &^= flagFIN | flagPSH
	}
	payload.skip(int(i.part.from))
	p.cut(ip, tcp, payload, int(i.part.to-i.part.from), p.mtuTo(ip))
}

// cut makes packets of size bytes of payload.
func (p *pump) cut(ip, tcp []byte, payload *cursor, size, mtu int) {
	headers := len(ip) + len(tcp)
	seq, flags := be32(tcp[4:]), tcp[13]
	for offset := 0; ; {
		n := min(size-offset, mtu-headers)
		last := offset+n == size
		b := p.room(headers + n)
		copy(b, ip)
		copy(b[len(ip):], tcp)
		payload.read(b[headers:])
		put16(b[4:], uint16(len(tcp)+n))
		put32(b[len(ip)+4:], seq+uint32(offset))
		f := flags
		if !last {
			f &^= flagFIN | flagPSH
		}
		if offset > 0 {
			f &^= flagCWR
		}
		b[len(ip)+13] = f
		putChecksum(b, protoTCP, 16)
		p.keep(b)
		if offset += n; last {
			return
		}
	}
}

// mtuTo returns what fits a frame to the destination of a packet. The link is
// asked once for a run of packets to one destination.
func (p *pump) mtuTo(ip []byte) int {
	if dst := [16]byte(ip[24:40]); p.mtu == 0 || dst != p.dst {
		p.dst, p.mtu = dst, usableMTU(p.link.MTU(netip.AddrFrom16(dst)))
	}
	return p.mtu
}

// room returns n bytes of scratch for the next packet.
func (p *pump) room(n int) []byte {
	if p.used+n > len(p.scratch) || len(p.packets) == batchPackets {
		p.flush()
	}
	return p.scratch[p.used : p.used+n : p.used+n]
}

// keep adds b, which room returned, to the batch.
func (p *pump) keep(b []byte) {
	p.used += len(b)
	p.packets = append(p.packets, b)
}

// flush writes the batch.
func (p *pump) flush() {
	if len(p.packets) > 0 {
		n, err := p.link.WritePackets(p.packets)
		if err != nil {
			n = min(n, len(p.packets))
			p.counters.addN(outLink, len(p.packets)-n)
		}
		p.counters.addN(outPackets, len(p.packets))
	}
	for i := range p.held {
		p.held[i].release()
	}
	clear(p.packets)
	p.packets, p.held, p.used, p.lent = p.packets[:0], p.held[:0], 0, 0
}

// A cursor reads the bytes of a gVisor packet one after the other.
type cursor struct {
	view *buffer.View
	rest []byte // of view
}

func (c *cursor) init(views buffer.ViewList, offset int) {
	*c = cursor{view: views.Front()}
	if c.view != nil {
		c.rest = c.view.AsSlice()
	}
	c.skip(offset)
}

// next makes rest non-empty, or reports that nothing is left.
func (c *cursor) next() bool {
	for len(c.rest) == 0 {
		if c.view == nil {
			return false
		}
		if c.view = c.view.Next(); c.view != nil {
			c.rest = c.view.AsSlice()
		}
	}
	return true
}

func (c *cursor) skip(n int) {
	for n > 0 && c.next() {
		m := min(n, len(c.rest))
		c.rest = c.rest[m:]
		n -= m
	}
}

// read fills b.
func (c *cursor) read(b []byte) {
	for len(b) > 0 && c.next() {
		n := copy(b, c.rest)
		b, c.rest = b[n:], c.rest[n:]
	}
}
