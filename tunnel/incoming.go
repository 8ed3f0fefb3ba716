package tunnel

import (
	"time"

	"github.com/snapproxy/snapproxy/tunnel/snaptun"
)

// A flow is what framing needs per peer.
type flow struct {
	out stream
	in  reassembler
}

func newFlow(queues int, now time.Time) *flow {
	f := new(flow)
	f.out.start(now)
	f.in.init(queues)
	return f
}

// An incoming is a batch on its way from the carrier. It belongs to the
// goroutine that receives. P is what tells the peers of a Listener apart.
type incoming[A any, P any] struct {
	jobs    []job[A, P]
	from    []P
	packets [][]byte
	buffers []*reassemblyBuffer // of packets
}

// A job is a data message to open.
type job[A any, P any] struct {
	keys    *snaptun.Keypair
	peer    P
	from    A
	message []byte
	payload []byte
	flow    *flow
	err     error
}

func (in *incoming[A, P]) reset() {
	clear(in.jobs)
	clear(in.from)
	clear(in.packets)
	in.jobs, in.from, in.packets = in.jobs[:0], in.from[:0], in.packets[:0]
	for i, b := range in.buffers {
		reassemblyBuffers.Put(b)
		in.buffers[i] = nil
	}
	in.buffers = in.buffers[:0]
}

// open decrypts the messages in place, without a lock held.
func (in *incoming[A, P]) open() {
	for i := range in.jobs {
		j := &in.jobs[i]
		j.payload, j.err = j.keys.Open(j.message)
	}
}

// assemble makes packets of the payloads that were accepted. It reports whether
// some stay incomplete.
func (in *incoming[A, P]) assemble(framed bool, now time.Time, c *counters) (incomplete bool) {
	for i := range in.jobs {
		j := &in.jobs[i]
		switch {
		case j.err != nil:
			c.drop(j.err)
			continue
		case len(j.payload) == 0:
			c.keepalivesIn.Add(1)
			continue
		case !framed:
			in.add(j.peer, j.payload)
			continue
		}
		c.framesIn.Add(1)
		if j.flow == nil {
			continue // gone within this batch
		}
		packet, buffer, err := j.flow.in.add(j.payload, now)
		if err != nil {
			c.drop(err)
			continue
		}
		if buffer != nil {
			in.buffers = append(in.buffers, buffer)
			c.reassembled.Add(1)
		}
		if packet == nil {
			incomplete = true
			continue
		}
		in.add(j.peer, packet)
	}
	c.packetsIn.Add(uint64(len(in.packets)))
	return incomplete
}

func (in *incoming[A, P]) add(peer P, packet []byte) {
	in.from = append(in.from, peer)
	in.packets = append(in.packets, packet)
}
