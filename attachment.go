package snapproxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/snapproxy/snapproxy/scion"
	"github.com/snapproxy/snapproxy/tunnel"
	"github.com/snapproxy/snapproxy/tunnel/snaptun"
)

const (
	// snapKeepalive keeps the SNAP from starting handshakes of its own (it does
	// after 15 s of silence) and holds NAT bindings.
	snapKeepalive = 10 * time.Second
	// foreignBurst is the largest burst that a SNAP which may not be ours takes
	// whole: the Rust gateway receives into buffers of this size.
	foreignBurst = 9216
	// The largest SCION packets that the outer tunnel carries in a datagram of
	// 1,500 bytes, over IPv4 and IPv6. Without a tunnel they are larger by its
	// overhead, which nothing needs.
	outerMTU4 = 1440
	outerMTU6 = 1420
)

// errTunnelDown is what a dial gets while the tunnel does not stand; it is an
// ENETDOWN.
var errTunnelDown = fmt.Errorf("tunnel down: %w", syscall.ENETDOWN)

// An attachment is how a host is attached to SCION, as its underlay: a tunnel
// to a SNAP, one after the other if need be, or the routers of its AS. It binds
// its socket when it runs.
type attachment struct {
	cfg    NetworkConfig
	key    snaptun.PrivateKey
	logger *slog.Logger
	timers snaptun.Timers
	notify func(attached) // called in order, without locks
	lookup *pathLookup

	below atomic.Pointer[below]
	down  chan struct{} // has an element when the tunnel went down
	six   atomic.Bool   // the underlay is IPv6
	port  uint16        // that was bound last; belongs to Run

	mu      sync.Mutex // guards what follows
	problem error      // why there is nothing to attach to
	using   string     // the SNAP that is asked to answer, for a person
}

// attached is the state of an attachment.
type attached struct {
	up    bool
	local scion.Addr // if up: the host's address
	via   string     // what it is attached to, for a person
}

// below is what an attachment writes to at the moment.
type below struct {
	write    func(packets [][]byte) (int, error)
	counters func() map[string]uint64
}

var _ scion.Underlay = (*attachment)(nil)

func newAttachment(cfg NetworkConfig, key snaptun.PrivateKey, logger *slog.Logger, timers snaptun.Timers, notify func(attached)) (*attachment, error) {
	a := &attachment{cfg: cfg, key: key, logger: logger, timers: timers, notify: notify, down: make(chan struct{}, 1)}
	var err error
	a.lookup, err = newPathLookup(cfg, logger)
	return a, err
}

// Run attaches and stays attached until ctx ends.
func (a *attachment) Run(ctx context.Context, deliver func(packets [][]byte) error) error {
	switch {
	case a.cfg.Within != nil:
		return a.runWithin(ctx, deliver)
	case a.cfg.Direct:
		return a.runDirect(ctx, deliver)
	case len(a.cfg.EndhostAPIs)+len(a.cfg.Discovery) > 0:
		return a.runOffered(ctx, deliver)
	default:
		return a.runNamed(ctx, deliver)
	}
}

// close ends what may still go on after Run.
func (a *attachment) close() {
	if a.cfg.Token != nil {
		a.cfg.Token.Close()
	}
	a.lookup.close()
}

// WritePackets sends SCION packets to what the host is attached to.
func (a *attachment) WritePackets(packets [][]byte) (int, error) {
	b := a.below.Load()
	if b == nil {
		return 0, errTunnelDown
	}
	return b.write(packets)
}

// mtu returns the largest SCION packet that the attachment carries.
func (a *attachment) mtu() int {
	if a.six.Load() {
		return outerMTU6
	}
	return outerMTU4
}

// A snapTarget is a SNAP to attach to.
type snapTarget struct {
	name string // for a person
	key  snaptun.PublicKey
	ia   scion.IA
	addr netip.AddrPort
}

// runTunnel runs a tunnel to a SNAP until ctx ends or beside returns an error.
func (a *attachment) runTunnel(ctx context.Context, t snapTarget, deliver func([][]byte) error, beside func(context.Context, *tunnel.Conn[netip.AddrPort]) error) error {
	udp, err := a.listen(t.addr.Addr())
	if err != nil {
		return err
	}
	defer udp.Close()
	conn, err := tunnel.NewConn(tunnel.ConnConfig[netip.AddrPort]{
		Config: tunnel.Config[netip.AddrPort]{
			Carrier:    udp,
			PrivateKey: a.key,
			Keepalive:  snapKeepalive,
			Logger:     a.logger,
			Timers:     a.timers,
		},
		PeerKey: t.key,
		Peer:    t.addr,
		Notify: func(s tunnel.Status) {
			udp.SetCoalesceLimit(max(s.Burst, foreignBurst))
			a.changed(t, s)
		},
	})
	if err != nil {
		return err
	}
	a.below.Store(&below{conn.WritePackets, conn.Counters})
	defer a.below.Store(nil)

	g := newGroup(ctx)
	g.Go(func() error { return conn.Run(g.ctx, deliver) })
	g.Go(func() error { return beside(g.ctx, conn) })
	return g.wait()
}

// listen binds the local socket, of the family of what is to be reached.
func (a *attachment) listen(towards netip.Addr) (*tunnel.UDP, error) {
	bind := a.cfg.Bind
	switch ip := bind.Addr(); {
	case ip.IsValid() && ip.Is4() != towards.Is4():
		return nil, fmt.Errorf("bind %s: %s is an address of another family", bind, towards)
	case ip.IsValid():
	case towards.Is6():
		bind = netip.AddrPortFrom(netip.IPv6Unspecified(), bind.Port())
	default:
		bind = netip.AddrPortFrom(netip.IPv4Unspecified(), bind.Port())
	}
	a.six.Store(towards.Is6())
	cfg := tunnel.UDPConfig{Logger: a.logger, CoalesceLimit: foreignBurst}
	var udp *tunnel.UDP
	err := errors.New("no port was bound before")
	if bind.Port() == 0 && a.port != 0 { // the port is the SCION address of an exit
		udp, err = tunnel.ListenUDP(netip.AddrPortFrom(bind.Addr(), a.port), cfg)
	}
	if err != nil {
		udp, err = tunnel.ListenUDP(bind, cfg)
	}
	if err != nil {
		return nil, &bindError{fmt.Errorf("bind %s: %w", bind, err)}
	}
	a.port = udp.LocalAddr().Port()
	a.logger.Debug("socket bound", "local", udp.LocalAddr())
	return udp, nil
}

// A bindError is that of a local address, which no other SNAP would cure.
type bindError struct{ error }

func (e *bindError) Unwrap() error { return e.error }

func (a *attachment) changed(t snapTarget, s tunnel.Status) {
	if !s.Up {
		a.wentDown()
		a.notify(attached{via: t.name})
		return
	}
	local := scion.Addr{IA: t.ia, Host: s.Assigned.Addr(), Port: s.Assigned.Port()}
	a.notify(attached{up: true, local: local, via: t.name})
}

// upWord says for the log that the attachment stands.
func (a *attachment) upWord() string {
	switch {
	case a.cfg.Within != nil:
		return "attached within the SNAP"
	case a.cfg.Direct:
		return "attached to the routers"
	}
	return "tunnel to the SNAP up"
}

func (a *attachment) wentDown() {
	select {
	case a.down <- struct{}{}:
	default:
	}
}

// blame notes why there is nothing to attach to, nil if there is.
func (a *attachment) blame(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.problem = err
}

// try notes which SNAP is asked.
func (a *attachment) try(name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.using, a.problem = name, nil
}

// silence says why nothing answers, as far as one can know.
func (a *attachment) silence() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.problem != nil:
		return a.problem.Error()
	case a.using == "":
		return "not attached yet"
	case a.cfg.SNAP == "":
		return fmt.Sprintf("the SNAP %s has registered the key but does not answer", a.using)
	}
	return fmt.Sprintf("the SNAP %s does not answer: is it running, is --snap-key its key, and is %s in its authorized keys?",
		a.using, a.key.PublicKey())
}

// addCounters adds those of the tunnel or routers, once there are some.
func (a *attachment) addCounters(c map[string]uint64) {
	if b := a.below.Load(); b != nil {
		addCounters(c, "outer_", b.counters())
	}
}
