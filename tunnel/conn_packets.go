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
	framed := c.cfg.FrameSize != nil
	dropped := c.cut(out, packets, framed)
	if len(out.frames) == 0 {
		return 0, nil
	}

	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return 0, errConnClosed
	}
	now := c.now()
	keys, counter, ok := c.session.Reserve(len(out.frames), now)
	if ok {
		c.alarm.set(c.deadline())
	} else {
		dropped += c.queue(out, framed)
	}
	c.mu.Unlock()

	if ok {
		out.grow()
		for i := range out.runs {
			r := &out.runs[i]
			r.keys, r.counter = keys, counter
			counter += uint64(r.end - r.begin)
			out.seal(r, framed)
		}
	}
	missing, err := out.transmit(c.cfg.Carrier, &c.counters)
	if framed {
		c.counters.framesOut.Add(uint64(len(out.frames)))
	}
	if ok {
		dropped += missing
	}
	n := max(len(packets)-dropped, 0)
	c.counters.packetsOut.Add(uint64(n))
	return n, err
}

// cut turns packets into frames, in a run for all that follow each other on one
// route. It returns how many cannot be sent.
func (c *Conn[A]) cut(out *outgoing[A], packets [][]byte, framed bool) (dropped int) {
	route := c.route(packets[0])
	for begin := 0; begin < len(packets); {
		next, end := route, begin+1
		for ; end < len(packets); end++ {
			if next = c.route(packets[end]); next != route {
				break
			}
		}
		r, size := run[A]{route: route}, 0
		if framed {
			size = max(c.cfg.FrameSize(route), minFrameSize)
		}
		dropped += out.cut(&r, packets[begin:end], size, &c.flow.out, &c.counters)
		out.runs = append(out.runs, r)
		route, begin = next, end
	}
	return dropped
}

// queue gives all frames to the session to keep, and returns how many it
// refused. It is called with mu held.
func (c *Conn[A]) queue(out *outgoing[A], framed bool) (dropped int) {
	now := c.now()
	for i := range out.frames {
		sealed, err := c.session.Seal(nil, out.plain(i, framed), now)
		if err != nil {
			c.counters.drop(err)
			dropped++
			continue
		}
		if len(sealed) > 0 {
			out.add(c.route(nil), sealed)
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

	var heard A // of the newest that was authenticated
	authentic := false
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
			in.jobs = append(in.jobs, job[A, struct{}]{keys: k, from: from[i], message: b, flow: c.flow})
			continue
		}
		if errors.Is(err, snaptun.ErrNotData) {
			if _, err = c.session.HandleDatagram(b, now); err == nil {
				c.counters.handshakesIn.Add(1)
				heard, authentic = from[i], true
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
				if j.err = c.session.Accept(j.keys, j.message, len(j.payload), now); j.err == nil {
					heard, authentic = j.from, true
					if len(j.payload) > 0 {
						c.live.data()
					}
				}
			}
		}
	}
	if authentic && c.asked {
		c.live.hears()
	}
	c.settle(out, now)
	c.mu.Unlock()
	if authentic && c.cfg.Heard != nil {
		c.cfg.Heard(heard)
	}

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
