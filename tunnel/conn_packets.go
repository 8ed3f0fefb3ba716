package tunnel

import (
	"errors"

	"github.com/snapproxy/snapproxy/tunnel/snaptun"
)

// WritePackets sends packets to the peer. Before the first session 256 of them
// are kept; what is dropped is counted. It returns how many were sent or kept.
// The error is net.ErrClosed after Run, or that of a carrier that is closed.
func (c *Conn[A]) WritePackets(packets [][]byte) (int, error) {
	if len(packets) == 0 {
		return 0, nil
	}
	out := c.batches.get()
	defer c.batches.put(out)
	peer := *c.peer.Load()
	size, framed := 0, c.cfg.FrameSize != nil
	if framed {
		size = max(c.cfg.FrameSize(peer), minFrameSize)
	}
	r := run[A]{route: peer}
	dropped := out.cut(&r, packets, size, &c.flow.out, &c.counters)
	if r.begin == r.end {
		return 0, nil
	}

	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return 0, errConnClosed
	}
	now := c.now()
	var ok bool
	if r.keys, r.counter, ok = c.session.Reserve(r.end-r.begin, now); ok {
		c.alarm.set(c.deadline())
	} else {
		dropped += c.queue(out, &r, framed)
	}
	c.mu.Unlock()

	if ok {
		out.grow()
		out.seal(&r, framed)
	}
	missing, err := out.transmit(c.cfg.Carrier, &c.counters)
	if framed {
		c.counters.framesOut.Add(uint64(r.end - r.begin))
	}
	if ok {
		dropped += missing
	}
	n := max(len(packets)-dropped, 0)
	c.counters.packetsOut.Add(uint64(n))
	return n, err
}

// queue gives the frames of r to the session to keep, and returns how many it
// refused. It is called with mu held.
func (c *Conn[A]) queue(out *outgoing[A], r *run[A], framed bool) (dropped int) {
	now := c.now()
	for i := r.begin; i < r.end; i++ {
		sealed, err := c.session.Seal(nil, out.plain(i, framed), now)
		if err != nil {
			c.counters.drop(err)
			dropped++
			continue
		}
		if len(sealed) > 0 {
			out.add(r.route, sealed)
			continue
		}
		c.counters.queued.Add(1)
	}
	c.settle(out, now)
	return dropped
}

// receive takes a batch from the carrier. The messages are opened without the
// lock; only looking up their keys and accounting for them needs it.
func (c *Conn[A]) receive(from []A, packets [][]byte, deliver func([][]byte) error) error {
	in := &c.incoming
	in.reset()
	defer in.reset()
	out := c.batches.get()
	defer c.batches.put(out)
	c.counters.datagramsIn.Add(uint64(len(packets)))
	peer := c.cfg.Origin(*c.peer.Load())

	c.mu.Lock()
	now := c.now()
	for i, b := range packets {
		if c.cfg.Origin(from[i]) != peer {
			c.counters.drop(snaptun.ErrAddrMismatch)
			continue
		}
		if b == nil {
			c.counters.hints.Add(1)
			if c.live.hint(now, c.session.LastReceived()) {
				c.initiate(now, true)
			}
			continue
		}
		k, err := c.session.Keypair(b)
		if err == nil {
			in.jobs = append(in.jobs, job[A, struct{}]{keys: k, message: b, flow: c.flow})
			continue
		}
		if errors.Is(err, snaptun.ErrNotData) {
			if _, err = c.session.HandleDatagram(b, now); err == nil {
				c.counters.handshakesIn.Add(1)
				continue
			}
		}
		c.counters.drop(err)
	}
	if len(in.jobs) > 0 {
		c.mu.Unlock()
		in.open()
		c.mu.Lock()
		for i := range in.jobs {
			if j := &in.jobs[i]; j.err == nil {
				j.err = c.session.Accept(j.keys, j.message, len(j.payload), now)
			}
		}
	}
	c.settle(out, now)
	c.mu.Unlock()

	// What cannot be sent is lost; a carrier that is closed says so to its Run.
	_, _ = out.transmit(c.cfg.Carrier, &c.counters)
	if in.assemble(c.cfg.FrameSize != nil, now, &c.counters) {
		c.mu.Lock()
		c.alarm.set(now.Add(reassemblyLifetime))
		c.mu.Unlock()
	}
	if len(in.packets) == 0 {
		return nil
	}
	return deliver(in.packets)
}
