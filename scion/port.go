package scion

import (
	"context"
	"errors"
	"net"
	"sync"
)

// A Port is a UDP port of a host. It carries datagrams as a tunnel.Carrier of
// addresses does.
type Port struct {
	host      *Host
	number    uint16 // 0: the one assigned to the host
	templates templates
	batches   sync.Pool // of *batch

	// delivering is held while the receiver runs, so that Run does not return
	// before it: the one lock here that is held calling up.
	delivering sync.Mutex
	receiver   *receiver // nil: nobody receives
}

type receiver struct {
	deliver func(from []Addr, packets [][]byte) error
	failed  chan error
}

func newPort(h *Host, number uint16) *Port {
	p := &Port{host: h, number: number, templates: newTemplates()}
	p.batches.New = func() any { return new(batch) }
	return p
}

// Run hands the payloads of received datagrams to deliver until ctx ends or
// deliver returns an error, which it returns. Each has the address of its
// sender with the path back to it, so that it can be answered. Bytes and slices
// are lent until deliver returns.
//
// A nil packet says that the network reported the address unreachable, which
// was sent to lately; the address has no path. Who has seen a packet to it can
// forge that. HostConfig.Report is told more.
//
// The host receives for its ports only while its own Run runs.
func (p *Port) Run(ctx context.Context, deliver func(from []Addr, packets [][]byte) error) error {
	r := &receiver{deliver: deliver, failed: make(chan error, 1)}
	p.delivering.Lock()
	if p.receiver != nil {
		p.delivering.Unlock()
		return errReceiving
	}
	p.receiver = r
	p.delivering.Unlock()

	select {
	case <-ctx.Done():
		p.delivering.Lock()
		defer p.delivering.Unlock()
		if p.receiver == r {
			p.receiver = nil
		}
		return nil
	case err := <-r.failed:
		return err
	}
}

// receive hands datagrams to the receiver. It is called by one goroutine at a
// time, that of the host.
func (p *Port) receive(from []Addr, packets [][]byte) {
	p.delivering.Lock()
	defer p.delivering.Unlock()
	r := p.receiver
	if r == nil {
		p.host.counters.noPort.Add(uint64(len(packets)))
		return
	}
	p.host.counters.received.Add(uint64(len(packets)))
	if err := r.deliver(from, packets); err != nil {
		p.receiver = nil
		r.failed <- err
	}
}

// A batch is the memory of datagrams that are being sent.
type batch struct {
	packets [][]byte
	bytes   []byte
}

// maxBatchMemory is what a batch keeps for the next one: twice the five
// super-segments of 64 KiB that a stack sends at a time, and their headers.
const maxBatchMemory = 768 << 10

// WritePackets sends datagrams to the addresses in to, on their paths, as one
// batch. It returns how many the underlay took; the others are dropped and
// counted, and that is no error. The error is net.ErrClosed if the underlay
// will not send again. It does not block, does not queue, and is safe for
// concurrent use.
func (p *Port) WritePackets(to []Addr, packets [][]byte) (n int, err error) {
	c := &p.host.counters
	local := p.host.local.Load()
	if local == nil {
		c.notAttached.Add(uint64(len(packets)))
		return 0, nil
	}
	b := p.batches.Get().(*batch)
	defer p.recycle(b)
	var t *template
	for i, payload := range packets {
		if t == nil || to[i] != to[i-1] {
			t = p.prepared(local, to[i])
		}
		switch {
		case t == nil:
		case len(payload) > maxPayload-udpLen:
			c.unsendable.Add(1)
		default:
			b.add(t, payload)
		}
	}
	if len(b.packets) == 0 {
		return 0, nil
	}
	n, err = p.host.cfg.Underlay.WritePackets(b.packets)
	c.sent.Add(uint64(n))
	c.refused.Add(uint64(len(b.packets) - n))
	if !errors.Is(err, net.ErrClosed) {
		err = nil // it may send again
	}
	return n, err
}

// prepared returns the template of headers to an address, or nil if there can
// be none, which it counts.
func (p *Port) prepared(local *Addr, to Addr) *template {
	t, err := p.templates.get(local, p.number, to)
	switch {
	case errors.Is(err, errNoPath):
		p.host.counters.noPath.Add(1)
	case err != nil:
		p.host.counters.unsendable.Add(1)
	}
	return t
}

// add puts a datagram behind the others. Should the memory have to grow, the
// packets before stay where they were.
func (b *batch) add(t *template, payload []byte) {
	start := len(b.bytes)
	b.bytes = t.appendPacket(b.bytes, payload)
	b.packets = append(b.packets, b.bytes[start:len(b.bytes):len(b.bytes)])
}

func (p *Port) recycle(b *batch) {
	if cap(b.bytes) > maxBatchMemory {
		b.bytes = nil
	}
	clear(b.packets)
	b.packets, b.bytes = b.packets[:0], b.bytes[:0]
	p.batches.Put(b)
}
