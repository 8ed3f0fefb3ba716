package tunnel

import (
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/snapproxy/snapproxy/tunnel/snaptun"
)

var errListenerClosed = fmt.Errorf("tunnel listener: %w", net.ErrClosed)

// WritePackets sends packets[i] to the peer that owns the origin to[i], on the
// route it used last. While a peer has no session 256 packets are kept for it;
// what is dropped is counted. It returns how many were sent or kept. The error is
// net.ErrClosed after Run, or that of a carrier that is closed.
func (l *Listener[A]) WritePackets(to []A, packets [][]byte) (int, error) {
	if len(packets) == 0 {
		return 0, nil
	}
	out := l.batches.get()
	defer l.batches.put(out)
	framed := l.cfg.FrameSize != nil
	for begin := 0; begin < len(packets); {
		end := begin + 1
		for end < len(packets) && to[end] == to[begin] {
			end++
		}
		// Where the packets stand until they are cut.
		out.runs = append(out.runs, run[A]{origin: to[begin], route: to[begin], packets: end - begin})
		begin = end
	}
	if framed {
		l.mu.Lock()
		for i := range out.runs {
			r := &out.runs[i]
			if p := l.responder.Peer(r.origin); p != nil {
				r.route, r.flow = p.Route(), l.flows[p]
			}
		}
		l.mu.Unlock()
	}
	dropped, begin := 0, 0
	for i := range out.runs {
		r := &out.runs[i]
		run := packets[begin : begin+r.packets]
		begin += r.packets
		size := 0
		var s *stream
		if framed {
			if r.flow == nil {
				l.counters.drop(snaptun.ErrNoPeer)
				dropped += r.packets
				continue
			}
			s = &r.flow.out
			size = max(l.cfg.FrameSize(r.route), minFrameSize)
		}
		dropped += out.cut(r, run, size, s, &l.counters)
	}

	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return 0, errListenerClosed
	}
	now := l.now()
	for i := range out.runs {
		dropped += l.reserve(&out.runs[i], out, framed, now)
	}
	l.settle(out, now)
	l.mu.Unlock()

	out.grow()
	for i := range out.runs {
		if r := &out.runs[i]; r.keys != nil {
			out.seal(r, framed)
		}
	}
	missing, err := out.transmit(l.cfg.Carrier, &l.counters)
	if framed {
		l.counters.framesOut.Add(uint64(len(out.frames)))
	}
	n := max(len(packets)-dropped-missing, 0)
	l.counters.packetsOut.Add(uint64(n))
	return n, err
}

// reserve takes the counters for the frames of a run, or gives them to the core
// to keep. It returns how many packets or frames were dropped. It is called with
// mu held.
func (l *Listener[A]) reserve(r *run[A], out *outgoing[A], framed bool, now time.Time) (dropped int) {
	if r.begin == r.end {
		return 0
	}
	if p, k, counter, ok := l.responder.Reserve(r.origin, r.end-r.begin, now); ok {
		r.keys, r.counter, r.route = k, counter, p.Route()
		return 0
	}
	for i := r.begin; i < r.end; i++ {
		sealed, route, err := l.responder.Seal(nil, r.origin, out.plain(i, framed), now)
		if err != nil {
			l.counters.drop(err)
			dropped++
			continue
		}
		if len(sealed) > 0 {
			out.add(route, sealed)
			continue
		}
		l.counters.queued.Add(1)
	}
	return dropped
}

// receive takes a batch from the carrier. The messages are opened without the
// lock; only looking up their keys and accounting for them needs it.
func (l *Listener[A]) receive(from []A, packets [][]byte, deliver func([]*snaptun.Peer[A], [][]byte) error) error {
	in := &l.incoming
	in.reset()
	defer in.reset()
	out := l.batches.get()
	defer l.batches.put(out)
	l.counters.datagramsIn.Add(uint64(len(packets)))
	framed := l.cfg.FrameSize != nil

	l.mu.Lock()
	now := l.now()
	for i, b := range packets {
		if b == nil {
			l.counters.hints.Add(1) // a peer that is gone expires by itself
			continue
		}
		k, p, err := l.responder.Keypair(b, from[i])
		if err == nil {
			in.jobs = append(in.jobs, job[A, *snaptun.Peer[A]]{keys: k, peer: p, from: from[i], message: b})
			continue
		}
		if snaptun.IsInitiation(b) {
			if err = l.begin(b, from[i], now); err == nil {
				continue
			}
		} else if errors.Is(err, snaptun.ErrNotData) {
			if _, _, err = l.responder.HandleDatagram(b, from[i], now); err == nil {
				l.counters.handshakesIn.Add(1)
				continue
			}
		}
		l.counters.drop(err)
	}
	if len(in.jobs) > 0 {
		l.mu.Unlock()
		in.open()
		l.mu.Lock()
		for i := range in.jobs {
			if j := &in.jobs[i]; j.err == nil {
				j.err = l.responder.Accept(j.peer, j.keys, j.message, j.from, len(j.payload), now)
			}
		}
	}
	l.settle(out, now)
	if framed {
		for i := range in.jobs {
			in.jobs[i].flow = l.flows[in.jobs[i].peer]
		}
	}
	l.mu.Unlock()

	// What cannot be sent is lost; a carrier that is closed says so to its Run.
	_, _ = out.transmit(l.cfg.Carrier, &l.counters)
	if in.assemble(framed, now, &l.counters) {
		l.mu.Lock()
		l.expireAt(now.Add(reassemblyLifetime))
		l.mu.Unlock()
	}
	if len(in.packets) == 0 {
		return nil
	}
	return deliver(in.from, in.packets)
}
