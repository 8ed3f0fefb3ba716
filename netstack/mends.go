package netstack

import (
	"encoding/binary"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// maxMends bounds the flights that are mended at a time. The others' senders
// mend by themselves.
const maxMends = 1024

// mendACK takes an acknowledgement for the holes in a flight, of which before it
// una was unacknowledged, and hides from the sender what it should not know.
func (f *flights) mendACK(fl *flight, una uint32, b []byte, now tcpip.MonotonicTime) {
	tcp := b[ipv6HeaderLen:]
	m := &fl.mend
	if una != fl.una {
		m.acked(fl.una, int((fl.una-una)/fl.packet)+1, now, fl.gauge.least())
	}
	sack := sackOption(tcp)
	if sack == nil {
		return
	}
	if m.listed == 0 && !f.list(fl) {
		m.stepAside(fl.next)
		m.told = true
		return
	}
	high := m.high
	for i := len(sack) - 8; i >= 2; i -= 8 { // the latest is first, often the highest
		start, end := be32(sack[i:]), be32(sack[i+4:])
		if !before(fl.una, start) || !before(start, end) || before(fl.next, end) {
			continue
		}
		if !m.sacked(start, end, now, fl.gauge.least()) {
			m.stepAside(fl.next)
		}
	}
	if before(high, m.high) {
		if i := fl.index(m.high - 1); i < len(fl.segments) && !before(fl.segments[i].seq, fl.repeated) {
			fl.gauge.measured(now.Sub(fl.segments[i].at), m.high, fl.next, now)
		}
	}
	f.mendHoles(fl, now)
	if m.aside {
		if !m.told {
			m.told = true
			f.tell(fl, b)
		}
		return
	}
	if len(sack) == 10 && before(be32(sack[2:]), be32(tcp[8:])) {
		return // only what came twice (RFC 2883)
	}
	hideSACK(tcp)
}

// mendHoles fills the holes whose time has come, and waits for the others.
func (f *flights) mendHoles(fl *flight, now tcpip.MonotonicTime) {
	m := &fl.mend
	if m.aside || len(m.holes) == 0 || fl.empty() {
		m.due = tcpip.MonotonicTime{}
		return
	}
	room := fl.packet
	var due tcpip.MonotonicTime
	for i := range m.holes {
		h := &m.holes[i]
		at := m.wait(h, room, &fl.gauge)
		if !now.Before(at) {
			cost := int((h.end-h.start+room-1)/room) * creditPerPacket
			if h.tries == maxTries || m.credit < cost || fl.gauge.queued() {
				m.stepAside(fl.next)
				f.counters.add(mendsAside)
				return
			}
			if !f.fill(fl, h) {
				at = now.Add(minReorder)
			} else {
				m.credit -= cost
				h.tries++
				h.sent = now
				at = m.wait(h, room, &fl.gauge)
			}
		}
		if due == (tcpip.MonotonicTime{}) || at.Before(due) {
			due = at
		}
	}
	m.due = due
	f.wake(now, due)
}

// fill sends again what is missing. It reports false if the queue is full.
func (f *flights) fill(fl *flight, h *hole) bool {
	fl.packet = f.room(fl)
	for i := fl.index(h.start); i < len(fl.segments); i++ {
		s := &fl.segments[i]
		if !before(s.seq, h.end) {
			break
		}
		from, to := s.acked(h.start), min(s.size, h.end-s.seq)
		item := outItem{pkt: s.pkt.IncRef(), part: part{again: true, from: from, to: to}}
		item.size = int(to-from) + ipv6HeaderLen + tcpHeaderLen
		if !f.out.tryPush(item) {
			s.pkt.DecRef()
			return false
		}
		f.counters.addN(outMended, int((to-from+fl.packet-1)/fl.packet))
	}
	return true
}

// room returns the payload that a packet of a flight has room for.
func (f *flights) room(fl *flight) uint32 {
	tcp := fl.segments[fl.first].pkt.TransportHeader().Slice()
	return uint32(usableMTU(f.link.MTU(addrAt(fl.tuple[18:]))) - ipv6HeaderLen - len(tcp))
}

// list makes fl one of those that are mended, unless there are too many.
func (f *flights) list(fl *flight) bool {
	if len(f.mends) == maxMends {
		return false
	}
	f.mends = append(f.mends, fl)
	fl.mend.listed = len(f.mends)
	return true
}

// unlist ends the mending of a flight.
func (f *flights) unlist(fl *flight) {
	i, n := fl.mend.listed, len(f.mends)
	if i == 0 {
		return
	}
	f.mends[i-1] = f.mends[n-1]
	f.mends[i-1].mend.listed = i
	f.mends[n-1] = nil
	f.mends = f.mends[:n-1]
	fl.mend.listed = 0
}

// wake makes sure that holes are looked at when they are due.
func (f *flights) wake(now, due tcpip.MonotonicTime) {
	if f.mendAt != (tcpip.MonotonicTime{}) && !due.Before(f.mendAt) {
		return
	}
	f.mendAt = due
	d := max(due.Sub(now), time.Millisecond/4)
	if f.mender == nil {
		f.mender = f.clock.AfterFunc(d, f.mendTick)
	} else {
		f.mender.Reset(d)
	}
}

// mendTick looks at the holes that are due, and at what drips.
func (f *flights) mendTick() {
	for _, pkt := range f.mendDue() {
		f.deliver(pkt)
	}
}

// mendDue returns what drips.
func (f *flights) mendDue() (drips []*stack.PacketBuffer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil
	}
	now := f.clock.NowMonotonic()
	f.mendAt = tcpip.MonotonicTime{}
	for i := len(f.mends) - 1; i >= 0; i-- {
		fl := f.mends[i]
		m := &fl.mend
		if m.drip.rate > 0 {
			if pkt := m.drip.packet(fl.una, now); pkt != nil {
				drips = append(drips, pkt)
			}
			if m.drip.rate > 0 {
				f.wake(now, now.Add(time.Millisecond))
			}
		}
		switch {
		case len(m.holes) == 0 && m.drip.rate == 0:
			f.unlist(fl)
		case m.due == (tcpip.MonotonicTime{}):
		case now.Before(m.due):
			f.wake(now, m.due)
		default:
			f.mendHoles(fl, now)
		}
	}
	return drips
}

// tell adds acknowledgements after those of the batch that tell the sender all
// that the far side has selectively acknowledged, which it has not heard of. b
// is such a packet.
func (f *flights) tell(fl *flight, b []byte) {
	headers := ipv6HeaderLen + tcpHeaderLen
	if tcp := b[ipv6HeaderLen:]; int(tcp[12]>>4)*4 >= stampEnd && be32(tcp[tcpHeaderLen:]) == stampKind {
		headers = ipv6HeaderLen + stampEnd
	}
	m := &fl.mend
	for i := 0; i < len(m.holes); {
		head := append(make([]byte, 0, headers+28), b[:headers]...)
		head = append(head, 1, 1, 5, 2)
		tcp := head[ipv6HeaderLen:]
		for n := 0; n < 3 && i < len(m.holes); n, i = n+1, i+1 {
			end := m.high
			if i+1 < len(m.holes) {
				end = m.holes[i+1].start
			}
			head = binary.BigEndian.AppendUint32(head, m.holes[i].end)
			head = binary.BigEndian.AppendUint32(head, end)
			tcp[headers-ipv6HeaderLen+3] += 8
		}
		tcp = head[ipv6HeaderLen:]
		tcp[12], tcp[13] = byte(len(tcp)/4)<<4, flagACK
		f.told = append(f.told, run{head: head, headers: len(head), next: be32(tcp[4:]), total: len(head)})
	}
}
