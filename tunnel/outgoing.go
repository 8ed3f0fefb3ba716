package tunnel

import (
	"slices"
	"sync"

	"github.com/snapproxy/snapproxy/tunnel/snaptun"
)

// maxScratch is the size up to which the memory of a batch is kept for the next.
const maxScratch = 4 << 20

// An outgoing is a batch on its way to the carrier: the frames to seal, and the
// messages that came of it, which lie one after the other in one block.
type outgoing[A any] struct {
	frames   []frame
	runs     []run[A]
	block    []byte
	to       []A
	messages [][]byte
}

// A run is a part of a batch that goes to one peer.
type run[A any] struct {
	origin     A
	route      A
	packets    int // how many
	begin, end int // frames
	keys       *snaptun.Keypair
	counter    uint64
	flow       *flow
}

type outgoingPool[A any] struct{ sync.Pool }

func (p *outgoingPool[A]) get() *outgoing[A] {
	if o, ok := p.Get().(*outgoing[A]); ok {
		return o
	}
	return new(outgoing[A])
}

// put keeps o for the next batch, without what it was lent.
func (p *outgoingPool[A]) put(o *outgoing[A]) {
	if cap(o.block) > maxScratch {
		return
	}
	clear(o.frames)
	clear(o.runs)
	clear(o.to)
	clear(o.messages)
	o.frames, o.runs, o.block, o.to, o.messages = o.frames[:0], o.runs[:0], o.block[:0], o.to[:0], o.messages[:0]
	p.Put(o)
}

// add copies a message.
func (o *outgoing[A]) add(to A, message []byte) {
	begin := len(o.block)
	o.block = append(o.block, message...)
	o.put(to, begin)
}

// put adds what was appended to the block since begin as a message.
func (o *outgoing[A]) put(to A, begin int) {
	o.to = append(o.to, to)
	o.messages = append(o.messages, o.block[begin:len(o.block):len(o.block)])
}

// cut turns packets into the frames of a run, all to one peer. size is that of a
// frame, 0 if there is no framing. It returns how many packets cannot be sent.
func (o *outgoing[A]) cut(r *run[A], packets [][]byte, size int, s *stream, c *counters) (dropped int) {
	r.begin = len(o.frames)
	for _, p := range packets {
		switch {
		case size == 0 && snaptun.Reserved(p):
			c.drop(snaptun.ErrReservedPayload)
			dropped++
		case size == 0:
			o.frames = append(o.frames, frame{data: p})
		case len(p) == 0 || len(p) > maxPacket:
			c.packetSize.Add(1)
			dropped++
		default:
			o.frames = s.appendFrames(o.frames, p, size)
		}
	}
	r.end = len(o.frames)
	return dropped
}

// grow makes room for all frames sealed, so that the block does not move.
func (o *outgoing[A]) grow() {
	n := 0
	for i := range o.frames {
		n += len(o.frames[i].data) + frameHeader + snaptun.Overhead
	}
	o.block = slices.Grow(o.block, n)
}

// seal seals the frames of a run. There must be room in the block.
func (o *outgoing[A]) seal(r *run[A], framed bool) {
	counter := r.counter
	for i := range o.frames[r.begin:r.end] {
		f := &o.frames[r.begin+i]
		begin := len(o.block)
		payload := f.data
		if framed {
			payload = f.append(o.block[:begin+dataHeader])[begin+dataHeader:] // where it is sealed
		}
		o.block = r.keys.Seal(o.block, counter, payload)
		counter++
		o.put(r.route, begin)
	}
}

// dataHeader is what stands before the payload of a data message.
const dataHeader = 16

// plain appends the payload of frame i to the block and takes it off again; it
// is valid until the next use of the block.
func (o *outgoing[A]) plain(i int, framed bool) []byte {
	f := &o.frames[i]
	if !framed {
		return f.data
	}
	begin := len(o.block)
	b := f.append(o.block)
	o.block = b[:begin]
	return b[begin:]
}

// transmit hands the messages to the carrier, without a lock held, and returns
// how many it did not take.
func (o *outgoing[A]) transmit(carrier Carrier[A], c *counters) (missing int, err error) {
	if len(o.messages) == 0 {
		return 0, nil
	}
	n, err := carrier.WritePackets(o.to, o.messages)
	missing = max(len(o.messages)-n, 0)
	c.datagramsOut.Add(uint64(n))
	c.carrierDropped.Add(uint64(missing))
	return missing, err
}
