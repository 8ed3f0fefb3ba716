package netstack

import (
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

const (
	// dripBurst is what a filled hole may acknowledge at a stroke.
	dripBurst = 32 << 10
	// The rest takes half as long as the hole was there, at most maxDrip.
	maxDrip = 200 * time.Millisecond
)

// A drip lets a sender learn bit by bit that a hole has been filled. All that is
// behind the hole is acknowledged with it, up to a round trip's worth; the sender,
// which gVisor does not pace, would at once send as much, and few queues hold that.
// What it is told in the meantime is true, if late.
type drip struct {
	shown uint32              // what the sender knows to be acknowledged
	rate  uint32              // bytes a millisecond; zero: it knows all
	at    tcpip.MonotonicTime // when it was told
	born  tcpip.MonotonicTime // when head came
	head  [ipv6HeaderLen + stampEnd]byte
	size  int // of head, an acknowledgement without data
}

// drip makes a packet for the sender of a flight acknowledge no more than it may
// know. One that filled a hole, which held acknowledgements back for so long,
// begins a drip.
func (f *flights) drip(fl *flight, r *run, held time.Duration, now tcpip.MonotonicTime) {
	d := &fl.mend.drip
	b := r.head
	tcp := b[ipv6HeaderLen:]
	if ms := uint32(min(held/2, maxDrip) / time.Millisecond); ms > 1 && fl.mend.listed > 0 && fl.una-d.shown > dripBurst {
		if d.rate == 0 {
			d.shown, d.at = d.shown+dripBurst, now
		}
		d.rate = max(d.rate, (fl.una-d.shown)/ms, dripBurst/8)
	}
	if d.rate > 0 {
		d.more(fl.una, now)
	}
	if d.rate == 0 || fl.mend.aside || fl.probe.on || be16(tcp[14:]) == 0 || (tcp[13]|r.flags)&flagFIN != 0 {
		d.shown, d.rate = fl.una, 0
		return
	}
	if before(d.shown, be32(tcp[8:])) {
		put32(tcp[8:], d.shown)
	}
	headers := ipv6HeaderLen + tcpHeaderLen
	if int(tcp[12]>>4)*4 >= stampEnd && be32(tcp[tcpHeaderLen:]) == stampKind {
		headers = ipv6HeaderLen + stampEnd
	}
	d.size, d.born = copy(d.head[:], b[:headers]), now
	h := d.head[ipv6HeaderLen:]
	put16(d.head[4:], uint16(headers-ipv6HeaderLen))
	put32(h[4:], r.next)
	h[12], h[13] = byte(headers-ipv6HeaderLen)/4<<4, flagACK
	f.wake(now, now.Add(time.Millisecond))
}

// more lets the sender know as much more as time has passed.
func (d *drip) more(una uint32, now tcpip.MonotonicTime) {
	ms := uint32(min(now.Sub(d.at), time.Second) / time.Millisecond)
	d.at = d.at.Add(time.Duration(ms) * time.Millisecond)
	if una-d.shown <= ms*d.rate {
		d.shown, d.rate = una, 0
		return
	}
	d.shown += ms * d.rate
}

// packet returns an acknowledgement of what the sender may know by now, or nil if
// it is nothing new.
func (d *drip) packet(una uint32, now tcpip.MonotonicTime) *stack.PacketBuffer {
	shown := d.shown
	if d.more(una, now); d.shown == shown {
		return nil
	}
	v := buffer.NewView(d.size)
	v.Write(d.head[:d.size])
	tcp := v.AsSlice()[ipv6HeaderLen:]
	put32(tcp[8:], d.shown)
	if len(tcp) == stampEnd { // that it waited here is no part of the round trip
		put32(tcp[stampEnd-4:], be32(tcp[stampEnd-4:])+uint32(now.Sub(d.born)/time.Millisecond))
	}
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithView(v)})
	pkt.RXChecksumValidated = true
	return pkt
}
