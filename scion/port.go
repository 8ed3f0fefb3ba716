package scion

import (
	"context"
	"errors"
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
// A nil packet says that the network reported the address unreachable, as it
// was when it was sent to but without its path. Such a report can be forged.
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

// maxBatchMemory is what a batch keeps for the next one: the pieces of two
// super-segments of 64 KiB and their headers.
const maxBatchMemory = 256 << 10

// WritePackets sends datagrams to the addresses in to, on their paths. It
// returns how many the underlay took. Those that cannot be sent are dropped and
// counted; the error is that of the first, ENETDOWN while the host has no
// address and ENETUNREACH without a path. It does not block, does not queue,
// and is safe for concurrent use.
func (p *Port) WritePackets(to []Addr, packets [][]byte) (n int, err error) {
	local := p.host.local.Load()
	if local == nil {
		p.host.counters.notAttached.Add(uint64(len(packets)))
		return 0, errNotAttached
	}
	b := p.batches.Get().(*batch)
	defer p.recycle(b)
	var t *template
	for i, payload := range packets {
		if t == nil || to[i] != to[i-1] {
			t, err = p.prepared(local, to[i], err)
		}
		if t == nil {
			continue
		}
		if len(payload) > maxPayload-udpLen {
			p.host.counters.unsendable.Add(1)
			if err == nil {
				err = errLongPacket
			}
			continue
		}
		b.add(t, payload)
	}
	if len(b.packets) == 0 {
		return 0, err
	}
	n, writeErr := p.host.cfg.Underlay.WritePackets(b.packets)
	p.host.counters.sent.Add(uint64(n))
	p.host.counters.refused.Add(uint64(len(b.packets) - n))
	if writeErr != nil {
		return n, writeErr
	}
	return n, err
}

// prepared returns the template of headers to an address, or nil. It keeps the
// first error that there was.
func (p *Port) prepared(local *Addr, to Addr, first error) (*template, error) {
	t, err := p.templates.get(local, p.number, to)
	if err == nil {
		return t, first
	}
	if errors.Is(err, errNoPath) {
		p.host.counters.noPath.Add(1)
	} else {
		p.host.counters.unsendable.Add(1)
	}
	if first == nil {
		first = err
	}
	return nil, first
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
