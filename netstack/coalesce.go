package netstack

import (
	"bytes"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

const (
	runBuckets = 64
	// maxRun is the most payload: it fits an IPv6 packet, whatever the headers,
	// and the largest chunk of memory that gVisor pools.
	maxRun = 65535 - 60
)

// A coalescer merges the TCP segments of a batch that follow one another into
// super-segments, each copied once into one piece of memory. (gVisor's own GRO
// links a buffer per segment, and its Flush forgets all but the first flow of
// each bucket.) Segments are lent until flush.
type coalescer struct {
	runs     []run
	segments []segment
	buckets  [runBuckets]int32 // index + 1 of the run that may grow
}

// A run is a super-segment in the making.
type run struct {
	head        []byte // first packet, with its headers
	headers     int    // length of the headers
	next        uint32 // sequence number that continues the run
	total       int    // length of the packet
	flags       byte   // FIN and PSH of the segments after the first
	first, last int32  // in segments, after the head; first is 0 if there is none
}

// A segment is the payload that continues a run.
type segment struct {
	payload []byte
	next    int32
}

// add takes a well-formed TCP packet without extension headers. Packets of a
// flow stay in order: only the newest run of a bucket can grow.
func (c *coalescer) add(b []byte) {
	tcp := b[ipv6HeaderLen:]
	headers := ipv6HeaderLen + int(tcp[12]>>4)*4
	size := len(b) - headers
	bucket := &c.buckets[(be32(tcp)^uint32(b[23])^uint32(b[39]))*0x9e3779b1>>26%runBuckets]
	mergeable := size > 0 && tcp[13]&^(flagPSH|flagFIN) == flagACK
	if i := *bucket; i != 0 && mergeable && c.runs[i-1].continues(b, headers, size) {
		r := &c.runs[i-1]
		if len(c.segments) == 0 {
			c.segments = append(c.segments, segment{}) // 0 means none
		}
		n := int32(len(c.segments))
		c.segments = append(c.segments, segment{payload: b[headers:]})
		if r.first == 0 {
			r.first = n
		} else {
			c.segments[r.last].next = n
		}
		r.last = n
		r.next += uint32(size)
		r.total += size
		r.flags |= tcp[13] & (flagPSH | flagFIN)
		if tcp[13]&flagFIN != 0 {
			*bucket = 0
		}
		return
	}
	c.runs = append(c.runs, run{head: b, headers: headers, next: be32(tcp[4:]) + uint32(size), total: len(b)})
	*bucket = 0
	if mergeable && tcp[13]&flagFIN == 0 {
		*bucket = int32(len(c.runs))
	}
}

// continues reports whether packet b follows the run and says nothing else
// than its data, FIN and PSH.
func (r *run) continues(b []byte, headers, size int) bool {
	h, t, rt := r.head, b[ipv6HeaderLen:], r.head[ipv6HeaderLen:]
	return headers == r.headers && be32(t[4:]) == r.next && r.total-headers+size <= maxRun &&
		bytes.Equal(b[6:40], h[6:40]) && // protocol, hop limit, addresses
		be32(b) == be32(h) && // class, flow label
		be32(t) == be32(rt) && // ports
		be32(t[8:]) == be32(rt[8:]) && // acknowledgement
		be16(t[14:]) == be16(rt[14:]) && // window
		bytes.Equal(t[20:headers-ipv6HeaderLen], rt[20:headers-ipv6HeaderLen])
}

// flush copies what was added and delivers it in order.
func (c *coalescer) flush(to *endpoint, count *counters) {
	if len(c.runs) == 0 {
		return
	}
	for i := range c.runs {
		to.deliver(c.packet(&c.runs[i]))
	}
	if n := len(c.segments); n > 0 {
		count.addN(inMerged, n-1)
	}
	clear(c.runs)
	clear(c.segments)
	clear(c.buckets[:])
	c.runs, c.segments = c.runs[:0], c.segments[:0]
}

// packet copies a run into a packet.
//
// The headers are in memory of their own: gVisor shares a packet with itself
// while it reads the headers, and copies the memory that they are in to have
// it for itself.
func (c *coalescer) packet(r *run) *stack.PacketBuffer {
	head := buffer.NewView(r.headers)
	head.Write(r.head[:r.headers])
	b := head.AsSlice()
	put16(b[4:], uint16(r.total-ipv6HeaderLen))
	b[ipv6HeaderLen+13] |= r.flags
	data := buffer.MakeWithView(head)
	if r.total > r.headers {
		v := buffer.NewView(r.total - r.headers)
		v.Write(r.head[r.headers:])
		for i := r.first; i != 0; i = c.segments[i].next {
			v.Write(c.segments[i].payload)
		}
		payload := buffer.MakeWithView(v)
		data.Merge(&payload)
	}
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: data})
	pkt.RXChecksumValidated = true
	return pkt
}
