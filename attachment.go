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
	// resolveInterval is how often the name of a SNAP that does not answer is
	// looked up again.
	resolveInterval = 5 * time.Second
	// foreignBurst is the largest burst that a SNAP which may not be ours takes
	// whole: the Rust gateway receives into buffers of this size.
	foreignBurst = 9216
	// The largest SCION packets that the outer tunnel carries in a datagram of
	// 1,500 bytes, over IPv4 and IPv6.
	outerMTU4 = 1440
	outerMTU6 = 1420
)

// errTunnelDown is what a dial gets while the tunnel does not stand; it is an
// ENETDOWN.
var errTunnelDown = fmt.Errorf("tunnel down: %w", syscall.ENETDOWN)

// An attachment is a host's tunnel to a SNAP, as the underlay of a SCION host.
// It binds its socket and resolves the SNAP when it runs.
type attachment struct {
	snap    string // HOST:PORT
	snapKey snaptun.PublicKey
	key     snaptun.PrivateKey
	bind    netip.AddrPort // zero: any address and port
	logger  *slog.Logger
	timers  snaptun.Timers
	notify  func(tunnel.Status) // called in order, without locks

	conn atomic.Pointer[tunnel.Conn[netip.AddrPort]]
	down chan struct{} // has an element when the tunnel went down

	mu      sync.Mutex // guards what follows
	problem error      // why the SNAP's name gives no address
	peer    netip.AddrPort
}

var _ scion.Underlay = (*attachment)(nil)

// Run attaches to the SNAP and stays attached until ctx ends.
func (a *attachment) Run(ctx context.Context, deliver func(packets [][]byte) error) error {
	peer, err := a.firstPeer(ctx)
	if err != nil {
		return err
	}
	bind := a.bind
	if !bind.IsValid() {
		bind = netip.AddrPortFrom(netip.IPv4Unspecified(), 0)
		if peer.Addr().Is6() {
			bind = netip.AddrPortFrom(netip.IPv6Unspecified(), 0)
		}
	}
	udp, err := tunnel.ListenUDP(bind, tunnel.UDPConfig{Logger: a.logger, CoalesceLimit: foreignBurst})
	if err != nil {
		return fmt.Errorf("bind %s: %w", bind, err)
	}
	defer udp.Close()
	a.logger.Debug("socket bound", "local", udp.LocalAddr())
	conn, err := tunnel.NewConn(tunnel.ConnConfig[netip.AddrPort]{
		Config: tunnel.Config[netip.AddrPort]{
			Carrier:    udp,
			PrivateKey: a.key,
			Keepalive:  snapKeepalive,
			Logger:     a.logger,
			Timers:     a.timers,
		},
		PeerKey: a.snapKey,
		Peer:    peer,
		Notify:  a.changed,
	})
	if err != nil {
		return err
	}
	a.conn.Store(conn)
	defer a.conn.Store(nil)

	g := newGroup(ctx)
	g.Go(func() error { return conn.Run(g.ctx, deliver) })
	g.Go(func() error { a.follow(g.ctx, conn); return nil })
	return g.wait()
}

// WritePackets sends SCION packets to the SNAP.
func (a *attachment) WritePackets(packets [][]byte) (int, error) {
	conn := a.conn.Load()
	if conn == nil {
		return 0, errTunnelDown
	}
	return conn.WritePackets(packets)
}

// mtu returns the largest SCION packet that the attachment carries.
func (a *attachment) mtu() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.peer.Addr().Is6() {
		return outerMTU6
	}
	return outerMTU4
}

func (a *attachment) changed(s tunnel.Status) {
	if !s.Up {
		select {
		case a.down <- struct{}{}:
		default:
		}
	}
	a.notify(s)
}

// firstPeer resolves the SNAP's name, again and again until it has an address.
func (a *attachment) firstPeer(ctx context.Context) (netip.AddrPort, error) {
	for {
		peer, err := a.resolve(ctx)
		if err == nil {
			a.mu.Lock()
			a.peer = peer
			a.mu.Unlock()
			return peer, nil
		}
		a.logger.Warn("SNAP has no address", "error", err)
		select {
		case <-ctx.Done():
			return netip.AddrPort{}, nil
		case <-time.After(resolveInterval):
		}
	}
}

// follow looks the SNAP up again while it does not answer.
func (a *attachment) follow(ctx context.Context, conn *tunnel.Conn[netip.AddrPort]) {
	if _, err := netip.ParseAddrPort(a.snap); err == nil {
		return
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.down:
		}
		for ctx.Err() == nil && !conn.Status().Up {
			if peer, err := a.resolve(ctx); err == nil && peer != a.peer {
				a.logger.Info("SNAP moved", "address", peer)
				a.mu.Lock()
				a.peer = peer
				a.mu.Unlock()
				conn.SetPeer(peer)
			}
			select {
			case <-ctx.Done():
			case <-time.After(resolveInterval):
			}
		}
	}
}

// resolve returns the SNAP's address, of the family of the socket once there
// is one.
func (a *attachment) resolve(ctx context.Context) (netip.AddrPort, error) {
	peer, err := a.lookup(ctx)
	a.mu.Lock()
	a.problem = err
	a.mu.Unlock()
	return peer, err
}

func (a *attachment) lookup(ctx context.Context) (netip.AddrPort, error) {
	host, service, err := net.SplitHostPort(a.snap)
	if err != nil {
		return netip.AddrPort{}, err
	}
	port, err := net.DefaultResolver.LookupPort(ctx, "udp", service)
	if err != nil {
		return netip.AddrPort{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*resolveInterval)
	defer cancel()
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return netip.AddrPort{}, err
	}
	family := a.bind.Addr()
	if a.peer.IsValid() {
		family = a.peer.Addr()
	}
	for _, ip := range addrs {
		ip = ip.Unmap()
		if !family.IsValid() || ip.Is4() == family.Is4() {
			return netip.AddrPortFrom(ip, uint16(port)), nil
		}
	}
	return netip.AddrPort{}, errors.New("lookup " + host + ": no address of the socket's family")
}

// silence says why the SNAP does not answer, as far as one can know.
func (a *attachment) silence() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.problem != nil {
		return fmt.Sprintf("the SNAP cannot be found: %v", a.problem)
	}
	return fmt.Sprintf("the SNAP %s does not answer: is it running, is --snap-key its key, and is %s in its authorized keys?",
		a.snap, a.key.PublicKey())
}
