package netstack

import (
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
)

// heard notes the TCP packets of a batch that came in, and returns what of them
// and after them the senders should see.
func (f *flights) heard(runs []run) []run {
	if f.n.Load() == 0 || len(runs) == 0 {
		return runs
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.clock.NowMonotonic()
	for i := range runs {
		if p := f.take(&runs[i], now); p != nil {
			f.ended = append(f.ended, p)
		}
	}
	for _, p := range f.ended {
		f.revive(p, now, p.patience())
	}
	clear(f.ended)
	f.ended = f.ended[:0]
	runs = append(runs, f.told...)
	clear(f.told)
	f.told = f.told[:0]
	return runs
}

// take notes one packet and returns the peer if it ends a silence.
func (f *flights) take(r *run, now tcpip.MonotonicTime) *peer {
	b := r.head
	tcp := b[ipv6HeaderLen:]
	t := inboundTuple(b, tcp)
	fl := f.find(&t)
	var p *peer
	if fl != nil {
		p = fl.peer
	} else if p = f.peers[f.key(&t)]; p == nil {
		return nil
	}
	silence := now.Sub(p.heard)
	p.heard = now
	if fl != nil {
		if tcp[13]&(flagSYN|flagRST) != 0 {
			f.forget(fl)
		} else {
			f.answer(fl, r, now)
			if fl.probe.vain(tcp) {
				r.withDSACK(&fl.probe)
				f.counters.add(probesVain)
			}
		}
	}
	if silence < p.patience() {
		return nil
	}
	return p
}

// answer notes an acknowledgement.
func (f *flights) answer(fl *flight, r *run, now tcpip.MonotonicTime) {
	tcp := r.head[ipv6HeaderLen:]
	una, ack := fl.una, be32(tcp[8:])
	// What fills a hole acknowledges what has long been there.
	straight, held := len(fl.mend.holes) == 0, time.Duration(0)
	if !straight {
		held = now.Sub(fl.mend.holes[0].seen)
	}
	if at, ok := fl.acked(ack, be16(tcp[14:]) == 0, now); ok && straight && !at.Before(fl.peer.revived) {
		fl.peer.measured(now.Sub(at))
		fl.gauge.measured(now.Sub(at), ack, fl.next, now)
	}
	start, ok := firstSACK(tcp)
	if !ok && ack != fl.una { // an old one
		f.drip(fl, r, 0, now)
		return
	}
	fl.shut = be16(tcp[14:]) == 0
	if fl.lacks(start, ok, una != fl.una, now) {
		f.again(fl, now)
	}
	f.mendACK(fl, una, r.head, now)
	if una == fl.una {
		held = 0
	}
	f.drip(fl, r, held, now)
	if m := &fl.mend; len(m.holes) == 0 && m.drip.rate == 0 {
		f.unlist(fl)
	}
}

// firstSACK returns the lowest sequence number above the acknowledgement that a
// TCP header has selectively acknowledged, if there is any.
func firstSACK(tcp []byte) (start uint32, ok bool) {
	ack := be32(tcp[8:])
	for b := sackOption(tcp); len(b) >= 10; b = b[8:] {
		if s := be32(b[2:]); before(ack, s) && (!ok || before(s, start)) {
			start, ok = s, true
		}
	}
	return start, ok
}
