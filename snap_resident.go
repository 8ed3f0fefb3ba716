package snapproxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/snapproxy/snapproxy/tunnel"
)

// maxLate bounds the packets that wait for a resident: what it caused itself,
// SCMP errors above all.
const maxLate = 64

// A resident is a SCION host in the process of the SNAP. To the others it is
// one more tunnel, but its packets come and go by a call, without a cipher and
// without a socket. They are lent for the call. (A goroutine of its own to take
// copies in was tried: it carries less and costs more.)
//
//	tunnels ─ forwarder.forward ─ take ─▶ deliver       routers ─ serve ─ take ─▶ deliver
//	tunnels, routers ◀─ forwarder ─ WritePackets ◀─ the host, also from in deliver
type resident struct {
	snap *SNAP
	// port has the resident's address, bound so that no tunnel gets it, and is
	// where routers deliver.
	port       *snapPort
	forwarders sync.Pool // of *forwarder
	late       chan []byte
	failed     chan error // what deliver returned

	in, out, dropped atomic.Uint64 // packets

	mu      sync.Mutex // guards deliver and is held while it runs, so that no call is under way after Run
	deliver func(packets [][]byte) error
}

var errHoused = errors.New("the SNAP has a host in its process already")

// house takes a host into the SNAP, at the address bind as far as that is
// given, and hands packets for it to deliver, one batch at a time. Run must be
// called, which ends it.
func (s *SNAP) house(bind netip.AddrPort, deliver func(packets [][]byte) error) (*resident, error) {
	udp, err := s.bindHouse(bind)
	if err != nil {
		return nil, err
	}
	r := &resident{
		snap: s, port: &snapPort{addr: udp.LocalAddr(), udp: udp},
		late: make(chan []byte, maxLate), failed: make(chan error, 1), deliver: deliver,
	}
	r.port.resident = r
	r.forwarders.New = func() any { return &forwarder{snap: s, resident: r} }
	if !s.resident.CompareAndSwap(nil, r) {
		udp.Close()
		return nil, errHoused
	}
	return r, nil
}

// bindHouse binds the address of a resident: beside the tunnels' or, if the SNAP
// stands alone, beside its own.
func (s *SNAP) bindHouse(bind netip.AddrPort) (*tunnel.UDP, error) {
	host, port := bind.Addr().Unmap(), bind.Port()
	given := host.IsValid() && !host.IsUnspecified()
	if n := s.network; n != nil {
		p := n.ports
		switch {
		case given && host != p.host:
			return nil, fmt.Errorf("bind %s: hosts of the SNAP are at %s", bind, p.host)
		case port == 0:
			return p.bind(0)
		case p.max != 0 && (port < p.min || port > p.max):
			return nil, fmt.Errorf("bind %s: routers deliver to ports %d to %d", bind, p.min, p.max)
		}
		host = p.host
	} else if !given {
		host = s.Addr().Addr()
	}
	switch host {
	case netip.IPv4Unspecified():
		host = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	case netip.IPv6Unspecified():
		host = netip.IPv6Loopback()
	}
	addr := netip.AddrPortFrom(host, port)
	udp, err := tunnel.ListenUDP(addr, tunnel.UDPConfig{ReceiveBuffer: portBuffer, SendBuffer: portBuffer})
	if err != nil {
		return nil, fmt.Errorf("bind %s: %w", addr, err)
	}
	return udp, nil
}

// Run keeps the resident in the SNAP until ctx or the SNAP ends.
func (r *resident) Run(ctx context.Context) error {
	g := newGroup(ctx)
	if n := r.snap.network; n != nil {
		g.Go(func() error { return n.serve(g.ctx, r.port) })
	}
	g.Go(func() error { return r.stay(g.ctx) })
	err := g.wait()
	r.snap.resident.CompareAndSwap(r, nil)
	r.port.udp.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.deliver = nil
	return err
}

// stay delivers what must wait, until ctx ends.
func (r *resident) stay(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.snap.ended:
			return fmt.Errorf("the SNAP has ended: %w", net.ErrClosed)
		case err := <-r.failed:
			return err
		case b := <-r.late:
			r.take([][]byte{b})
		}
	}
}

// take delivers packets, which are lent.
func (r *resident) take(packets [][]byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.deliver == nil {
		r.dropped.Add(uint64(len(packets)))
		return
	}
	r.in.Add(uint64(len(packets)))
	if err := r.deliver(packets); err != nil {
		r.deliver = nil
		r.failed <- err
	}
}

// takeLater is take for packets that the resident is the cause of: it may be
// delivering at this moment.
func (r *resident) takeLater(packets [][]byte) {
	for _, b := range packets {
		select {
		case r.late <- bytes.Clone(b):
		default:
			r.dropped.Add(1)
		}
	}
}

// WritePackets forwards packets of the resident as the SNAP does with those out
// of tunnels, and returns how many it took. They are lent until it returns. It
// does not block, does not queue, and is safe for concurrent use, by deliver as
// well. The error is net.ErrClosed once the SNAP has ended.
func (r *resident) WritePackets(packets [][]byte) (int, error) {
	f := r.forwarders.Get().(*forwarder)
	defer r.forwarders.Put(f)
	f.begin()
	f.self, f.port = r.port.addr, r.port
	for _, b := range packets {
		f.route(b)
	}
	n, err := f.flush()
	r.out.Add(uint64(n))
	return n, err
}

// counters names them as those of a tunnel.
func (r *resident) counters() map[string]uint64 {
	return map[string]uint64{
		"packets_in":      r.in.Load(),
		"packets_out":     r.out.Load(),
		"packets_dropped": r.dropped.Load(),
	}
}
