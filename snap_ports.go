package snapproxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/snapproxy/snapproxy/tunnel"
)

const (
	// maxSNAPPorts bounds the ports that tunnels have towards the network. Each
	// is a socket.
	maxSNAPPorts = 16384
	// maxWaitingPorts bounds those of handshakes that are not confirmed: who may
	// attach could make handshakes from forged addresses, for which nobody else
	// should lack a port. The one that has waited longest makes way.
	maxWaitingPorts = 1024
	// portLife is how long a port is kept without a tunnel, from the handshake in
	// which it was assigned.
	portLife = 30 * time.Second
	// portSweep is how often ports are looked for that outlived that.
	portSweep = 10 * time.Second
	// portTries is how many ports of a range are tried.
	portTries = 64
	// Socket buffers of a port, in bytes: a few milliseconds of a fast link.
	portBuffer = 2 << 20
)

// A snapPort is what a tunnel is in the AS: a UDP socket of its own. Routers
// deliver packets to their SCION destination host and port, so it is there that
// the tunnel's packets arrive, and from there that they leave.
type snapPort struct {
	origin netip.AddrPort // of the tunnel
	addr   netip.AddrPort // assigned to it
	udp    *tunnel.UDP
	// resident is who has the port, if that is no tunnel.
	resident *resident
	// confirmed is set while a tunnel is known to stand.
	confirmed atomic.Bool

	asked time.Time // when it was last assigned; guarded by snapPorts.mu
}

// snapPorts are the ports of the tunnels of a SNAP. The tunnel at an origin
// keeps its port over rekeys.
type snapPorts struct {
	host     netip.Addr // of all ports
	min, max uint16     // bounds of their numbers; zero: none
	logger   *slog.Logger
	now      func() time.Time
	limit    int // of all ports
	waitMax  int // of those that wait
	// serve receives on a port until it is closed. stands reports whether there
	// is a tunnel at an origin; it is asked without mu held.
	serve  func(ctx context.Context, p *snapPort) error
	stands func(origin netip.AddrPort) bool

	refused atomic.Uint64 // handshakes for which there was no port

	mu       sync.RWMutex // guards what follows
	byOrigin map[netip.AddrPort]*snapPort
	byNumber map[uint16]*snapPort
	waiting  map[*snapPort]struct{} // not confirmed
	ctx      context.Context        // of Run; nil: no port is assigned
	wg       sync.WaitGroup
}

func newSNAPPorts(host netip.Addr, logger *slog.Logger) *snapPorts {
	return &snapPorts{
		host: host, logger: logger, now: time.Now, limit: maxSNAPPorts, waitMax: maxWaitingPorts,
		byOrigin: make(map[netip.AddrPort]*snapPort), byNumber: make(map[uint16]*snapPort),
		waiting: make(map[*snapPort]struct{}),
	}
}

// check finds out whether ports can be bound at all.
func (t *snapPorts) check() error {
	udp, err := tunnel.ListenUDP(netip.AddrPortFrom(t.host, 0), tunnel.UDPConfig{})
	if err != nil {
		return fmt.Errorf("bind the address towards the routers, %s: %w", t.host, err)
	}
	return udp.Close()
}

// run serves ports while f runs, and closes them then.
func (t *snapPorts) run(ctx context.Context, f func(context.Context) error) error {
	portCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	t.mu.Lock()
	t.ctx = portCtx
	t.mu.Unlock()
	sweepCtx, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { t.sweepUntil(sweepCtx) })
	err := f(ctx)
	stop()
	wg.Wait()

	t.mu.Lock()
	t.ctx = nil
	for _, p := range t.byOrigin {
		t.remove(p)
	}
	t.mu.Unlock()
	cancel()
	t.wg.Wait()
	return err
}

// assign returns the address of the tunnel at an origin, the zero AddrPort if
// there is none to have. The port is bound if the tunnel has none yet. It does
// not block and calls nobody.
func (t *snapPorts) assign(origin netip.AddrPort) netip.AddrPort {
	t.mu.Lock()
	p := t.byOrigin[origin]
	if p != nil {
		p.asked = t.now()
		t.mu.Unlock()
		return p.addr
	}
	ctx := t.ctx
	t.makeRoom()
	full := len(t.byOrigin) >= t.limit
	t.mu.Unlock()
	if ctx == nil {
		return netip.AddrPort{}
	}
	if full {
		t.refuse(origin, errPortsInUse)
		return netip.AddrPort{}
	}
	udp, err := t.bind(origin.Port())
	if err != nil {
		t.refuse(origin, err)
		return netip.AddrPort{}
	}
	p = &snapPort{origin: origin, addr: udp.LocalAddr(), udp: udp}

	t.mu.Lock()
	defer t.mu.Unlock()
	if other := t.byOrigin[origin]; other != nil || t.ctx == nil { // meanwhile
		udp.Close()
		if other == nil {
			return netip.AddrPort{}
		}
		return other.addr
	}
	if len(t.byOrigin) >= t.limit {
		udp.Close()
		t.refuse(origin, errPortsInUse)
		return netip.AddrPort{}
	}
	p.asked = t.now()
	t.byOrigin[origin], t.byNumber[p.addr.Port()] = p, p
	t.waiting[p] = struct{}{}
	t.wg.Go(func() { t.receive(ctx, p) })
	t.logger.Debug("port assigned", "origin", origin, "assigned", p.addr)
	return p.addr
}

var errPortsInUse = errors.New("all ports are in use")

func (t *snapPorts) refuse(origin netip.AddrPort, err error) {
	if t.refused.Add(1) == 1 { // one line is enough; it is counted
		t.logger.Warn("no port for a tunnel", "error", err)
	}
	t.logger.Debug("no port for a tunnel", "origin", origin, "error", err)
}

// bind binds a port, the wanted one if it is free: a host with a fixed port
// keeps its SCION address. Where routers deliver to some ports only, it is always
// the same of these that is tried first.
func (t *snapPorts) bind(wanted uint16) (*tunnel.UDP, error) {
	cfg := tunnel.UDPConfig{ReceiveBuffer: portBuffer, SendBuffer: portBuffer}
	listen := func(port uint16) (*tunnel.UDP, error) {
		return tunnel.ListenUDP(netip.AddrPortFrom(t.host, port), cfg)
	}
	if t.max == 0 {
		if udp, err := listen(wanted); err == nil {
			return udp, nil
		}
		return listen(0)
	}
	size := int(t.max) - int(t.min) + 1
	first := int(wanted) - int(t.min)
	if first < 0 || first >= size {
		first = int(wanted) % size
	}
	var err error
	for i := range min(size, portTries) {
		var udp *tunnel.UDP
		if udp, err = listen(t.min + uint16((first+i)%size)); err == nil {
			return udp, nil
		}
	}
	return nil, err
}

// receive serves a port until it is closed.
func (t *snapPorts) receive(ctx context.Context, p *snapPort) {
	err := t.serve(ctx, p)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.byOrigin[p.origin] == p { // nobody closed it
		if !errors.Is(err, net.ErrClosed) {
			t.logger.Warn("port of a tunnel broke", "error", err)
		}
		t.remove(p)
	}
	t.logger.Debug("port released", "origin", p.origin, "assigned", p.addr)
}

// makeRoom removes a port that waits if too many do. mu is held.
func (t *snapPorts) makeRoom() {
	if len(t.waiting) < t.waitMax && len(t.byOrigin) < t.limit {
		return
	}
	var oldest *snapPort
	for p := range t.waiting {
		if oldest == nil || p.asked.Before(oldest.asked) {
			oldest = p
		}
	}
	if oldest != nil {
		t.remove(oldest)
	}
}

// remove closes a port. mu is held.
func (t *snapPorts) remove(p *snapPort) {
	delete(t.byOrigin, p.origin)
	delete(t.byNumber, p.addr.Port())
	delete(t.waiting, p)
	p.confirmed.Store(false)
	p.udp.Close()
}

// confirm notes that a tunnel stands at an origin.
func (t *snapPorts) confirm(origin netip.AddrPort) {
	t.assign(origin) // if it had to make way since the handshake
	t.mu.Lock()
	defer t.mu.Unlock()
	if p := t.byOrigin[origin]; p != nil {
		p.confirmed.Store(true)
		delete(t.waiting, p)
	}
}

// drop closes the port of a tunnel that must not have one.
func (t *snapPorts) drop(origin netip.AddrPort) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p := t.byOrigin[origin]; p != nil {
		t.remove(p)
	}
}

// gone notes that a tunnel stands no more. Its port is closed, or soon if it
// was just assigned again: a handshake may be under way.
func (t *snapPorts) gone(origin netip.AddrPort) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.byOrigin[origin]
	if p == nil {
		return
	}
	p.confirmed.Store(false)
	t.waiting[p] = struct{}{}
	if t.now().Sub(p.asked) >= portLife {
		t.remove(p)
	}
}

func (t *snapPorts) sweepUntil(ctx context.Context) {
	for pause(ctx, portSweep) {
		t.sweep()
	}
}

// sweep closes ports that were not confirmed in time.
func (t *snapPorts) sweep() {
	t.mu.RLock()
	now := t.now()
	var late []*snapPort
	for p := range t.waiting {
		if now.Sub(p.asked) >= portLife {
			late = append(late, p)
		}
	}
	t.mu.RUnlock()
	for _, p := range late {
		if t.stands(p.origin) { // its port was bound again in a rekey
			continue
		}
		t.mu.Lock()
		if _, ok := t.waiting[p]; ok && now.Sub(p.asked) >= portLife {
			t.remove(p)
		}
		t.mu.Unlock()
	}
}

// of returns the port of the tunnel at an origin, or nil.
func (t *snapPorts) of(origin netip.AddrPort) *snapPort {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.byOrigin[origin]
}

// at returns the port that has an address, or nil.
func (t *snapPorts) at(a netip.AddrPort) *snapPort {
	if a.Addr() != t.host {
		return nil
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.byNumber[a.Port()]
}

// len returns how many ports there are.
func (t *snapPorts) len() int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return len(t.byOrigin)
}
