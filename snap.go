package snapproxy

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/snapproxy/snapproxy/scion"
	"github.com/snapproxy/snapproxy/tunnel"
	"github.com/snapproxy/snapproxy/tunnel/snaptun"
)

// SNAPConfig configures a SNAP.
type SNAPConfig struct {
	// IA is the ISD-AS that the SNAP's tunnels belong to.
	IA scion.IA
	// Listen is the address of the data plane; port 0 takes a free one.
	Listen netip.AddrPort
	// PrivateKey is the SNAP's static key.
	PrivateKey snaptun.PrivateKey
	// Authorize reports whether a key may use the SNAP. It is asked for every
	// packet in both directions and must not block.
	Authorize func(key snaptun.PublicKey, now time.Time) bool
	// HandshakeLimit is how many handshakes a second are answered without a
	// cookie. If zero, it is 2,000 for each core.
	HandshakeLimit int
	// Topology names the border routers of the AS. If nil, the SNAP stands alone:
	// its tunnels reach each other.
	Topology *scion.Topology
	// ASHosts are the hosts of the AS that tunnels may exchange packets with on
	// the empty path. They count only with a Topology. If nil, none.
	ASHosts []netip.Prefix
	// UnderlayAddr is the host address that tunnels have in the AS, and where
	// routers deliver their packets; it must be one of this machine. If not
	// valid, it is that of Listen or, if that is unspecified, the source address
	// towards the first router. It counts only with a Topology.
	UnderlayAddr netip.Addr
	// Logger receives what happens to the role. If nil, nothing is logged.
	Logger *slog.Logger

	timers snaptun.Timers // for tests
}

// A SNAP forwards SCION packets between the tunnels that attach to it and, with
// a topology, the routers of its AS. Without one a tunnel's SCION address is the
// UDP address that the SNAP sees it at. Routers deliver packets to the SCION
// host and port that they are for, so with one it is a UDP socket that the SNAP
// binds for the tunnel: on the same port number, if that is free.
type SNAP struct {
	cfg      SNAPConfig
	logger   *slog.Logger
	udp      *tunnel.UDP
	listener *tunnel.Listener[netip.AddrPort]
	network  *snapNetwork // nil: the SNAP stands alone
	counters snapCounters
	resident atomic.Pointer[resident] // nil: there is none
	ended    chan struct{}            // closed when Run ends
}

// snapCounters counts what the SNAP does not forward.
type snapCounters struct {
	malformed, spoofed, pathType, noRoute, undeliverable atomic.Uint64
	noRouter, noPort                                     atomic.Uint64
}

// NewSNAP binds the SNAP's socket. Run must be called, which closes it.
func NewSNAP(cfg SNAPConfig) (*SNAP, error) {
	s := &SNAP{cfg: cfg, logger: orDiscard(cfg.Logger), ended: make(chan struct{})}
	if s.cfg.HandshakeLimit == 0 {
		s.cfg.HandshakeLimit = defaultHandshakeLimit()
	}
	var err error
	// First, since the network takes what port it finds free.
	s.udp, err = tunnel.ListenUDP(cfg.Listen, tunnel.UDPConfig{Logger: s.logger})
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", cfg.Listen, err)
	}
	defer func() {
		if err != nil {
			s.udp.Close()
			if s.network != nil {
				s.network.close()
			}
		}
	}()
	sealed, notify := func(a netip.AddrPort) netip.AddrPort { return a }, func(tunnel.PeerEvent[netip.AddrPort]) {}
	if cfg.Topology != nil {
		if s.network, err = newSNAPNetwork(s); err != nil {
			return nil, err
		}
		sealed, notify = s.network.ports.assign, s.network.changed
	}
	s.listener, err = tunnel.NewListener(tunnel.ListenerConfig[netip.AddrPort]{
		Config:         tunnel.Config[netip.AddrPort]{Carrier: s.udp, PrivateKey: cfg.PrivateKey, Logger: s.logger, Timers: cfg.timers},
		Authorize:      cfg.Authorize,
		SealedAddr:     sealed,
		Burst:          tunnel.MaxBurst,
		Notify:         notify,
		CookieAddr:     appendAddrPort,
		HandshakeLimit: s.cfg.HandshakeLimit,
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// defaultHandshakeLimit is 2,000 a second and core: one handshake costs a core
// about a quarter of a millisecond, so this is half of what it can do.
func defaultHandshakeLimit() int { return 2000 * runtime.GOMAXPROCS(0) }

func appendAddrPort(b []byte, a netip.AddrPort) []byte {
	ip := a.Addr().As16()
	return append(append(b, ip[:]...), byte(a.Port()>>8), byte(a.Port()))
}

// Addr returns the address that the SNAP listens on, with its real port.
func (s *SNAP) Addr() netip.AddrPort { return s.udp.LocalAddr() }

// IA returns the ISD-AS that the SNAP belongs to.
func (s *SNAP) IA() scion.IA { return s.cfg.IA }

// PublicKey returns the SNAP's public key.
func (s *SNAP) PublicKey() snaptun.PublicKey { return s.cfg.PrivateKey.PublicKey() }

// Run forwards packets until ctx ends, then says goodbye to the tunnels and
// closes the socket.
func (s *SNAP) Run(ctx context.Context) error {
	defer close(s.ended)
	defer s.udp.Close()
	s.logger.Info("SNAP listening", "address", s.Addr(), "isd_as", s.cfg.IA, "public_key", s.PublicKey())
	f := &forwarder{snap: s}
	if s.network == nil {
		return s.listener.Run(ctx, f.forward)
	}
	s.logger.Info("SNAP behind routers", "tunnels_at", s.network.ports.host, "routers", len(s.network.routers.Addrs()), "answers_echo", s.network.echo != nil)
	return s.network.run(ctx, func(ctx context.Context) error { return s.listener.Run(ctx, f.forward) })
}
