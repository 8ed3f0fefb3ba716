package netstack

import "gvisor.dev/gvisor/pkg/tcpip"

const (
	// wholeFlight is how many packets a flight, or a hole in it, may have to be
	// sent again whole.
	wholeFlight = 8
	// spreadPackets of a larger flight are. They suffice to tell the sender that
	// all before them is lost: it wants three duplicate acknowledgements, two
	// packets' worth of bytes above a hole (RFC 6675 section 4), and one segment
	// that it sent last and once (RFC 8985).
	spreadPackets = 5
	// maxFill is how many packets of a hole are sent again at a time, when those
	// before have arrived.
	maxFill = 128
)

// again sends part of the flight once more; room is the payload that a packet
// has room for. It returns how many packets that are.
//
//	una                    hole                next
//	 |  segment  | segment |  segment  | segm. |
//	 #############                                 what a SACK says is lacking
//	 #                             #    #  #  #    of a large flight
//	 ###########################################   of a small flight
//
// The first packet of a large flight goes only if there was no answer before:
// the sender's own retransmission of it is what makes it slow down.
func (f *flight) again(room uint32, now tcpip.MonotonicTime, send func(outItem) bool) (packets int) {
	f.tried, f.repeated, f.own = now, f.next, 0
	f.tries++
	push := func(s *segmentSent, from, to uint32) {
		i := outItem{pkt: s.pkt.IncRef(), part: part{again: true, from: from, to: to}}
		i.size = int(to-from) + ipv6HeaderLen + tcpHeaderLen
		if !send(i) {
			s.pkt.DecRef()
			return
		}
		packets += max(1, int((to-from+room-1)/room))
	}
	rest := f.segments[f.first:]
	if f.shut && f.una != f.next {
		// Behind a closed window, gVisor takes no acknowledgement that is not where
		// the window begins; both sides may wait for the other's.
		from := rest[0].acked(f.una)
		push(&rest[0], from, from)
	}
	switch {
	case f.una == f.next:
		// A byte that the far side has makes it tell its window, as gVisor's own
		// probe does.
		s := &rest[len(rest)-1]
		push(s, s.size-min(s.size, 1), s.size)
	case before(f.una, f.hole):
		f.fill = max(f.fill, wholeFlight)
		f.filled = f.una + min(f.hole-f.una, f.fill*room)
		for i := range rest {
			s := &rest[i]
			if packets >= 2*int(f.fill) { // the segments are small
				f.filled = s.seq
			}
			if !before(s.seq, f.filled) {
				break
			}
			push(s, s.acked(f.una), min(s.size, f.filled-s.seq))
		}
	case f.next-f.una <= wholeFlight*room && len(rest) <= wholeFlight:
		for i := range rest {
			push(&rest[i], rest[i].acked(f.una), rest[i].size)
		}
	default:
		if f.tries > 1 {
			from := rest[0].acked(f.una)
			push(&rest[0], from, min(from+room, rest[0].size))
		}
		f.spread(rest, room, push)
	}
	return packets
}

// spread chooses packets near the end of a large flight, none next to another,
// so that the far side reports each apart.
func (f *flight) spread(rest []segmentSent, room uint32, push func(s *segmentSent, from, to uint32)) {
	chosen, limit := 0, f.next+1 // nothing that ends at limit or later
	choose := func(s *segmentSent, from uint32) {
		to := min(from+room, s.size)
		if chosen < spreadPackets && from < to && before(s.seq+to, limit) && !before(s.seq+from, f.una) {
			push(s, from, to)
			chosen, limit = chosen+1, s.seq+from
		}
	}
	for i := len(rest) - 1; i > 0; i-- {
		s := &rest[i]
		if i == len(rest)-1 && s.size > room {
			// The sender's own probe was the first packet of this segment, so
			// what follows is by now a segment of its own.
			choose(s, 3*room)
			choose(s, room)
			continue
		}
		choose(s, 0) // what the sender notices is how a segment begins
	}
	if chosen < 3 {
		for n := rest[0].size / room; n > 0; n-- {
			choose(&rest[0], n*room)
		}
	}
}
