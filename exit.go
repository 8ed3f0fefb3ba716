package snapproxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/snapproxy/snapproxy/netstack"
	"github.com/snapproxy/snapproxy/scion"
	"github.com/snapproxy/snapproxy/tunnel"
	"github.com/snapproxy/snapproxy/tunnel/snaptun"
)

// ExitConfig configures an Exit.
type ExitConfig struct {
	NetworkConfig
	// PrivateKey is the exit's static key, towards the SNAP and its clients.
	PrivateKey snaptun.PrivateKey
	// Authorize reports whether a client's key may use the exit. It is asked
	// for every packet in both directions and must not block.
	Authorize func(key snaptun.PublicKey, now time.Time) bool
	// Allow opens ranges of targets, Deny closes them; the longest prefix wins.
	// Without them only globally reachable addresses that are not the host's
	// own are dialled. Loopback, link-local and metadata addresses are opened
	// only by a prefix inside their block.
	Allow, Deny []netip.Prefix
	// HandshakeLimit is as in SNAPConfig.
	HandshakeLimit int
	// Resolver looks up the names that clients ask for. If nil, the host's
	// files and DNS servers.
	Resolver Resolver
	// Page, if not nil, is served as http://demo.snapproxy.internal/ on the
	// exit's inner address.
	Page http.Handler
	// Logger receives what happens to the role. If nil, nothing is logged.
	Logger *slog.Logger

	timers snaptun.Timers // for tests
}

// demoName is the name of ExitConfig.Page.
const demoName = "demo.snapproxy.internal."

// An Exit ends the inner tunnels of its clients in a TCP/IP stack of its own
// and reaches their targets with ordinary sockets.
type Exit struct {
	cfg      ExitConfig
	logger   *slog.Logger
	policy   *policy
	names    *nameService
	att      *attachment
	host     *scion.Host
	link     *exitLink
	stack    *netstack.Stack
	limits   *limits
	group    *group // what flows run in; set by Run before any flow can come
	attached sync.Once
	ready    chan struct{}
}

// NewExit makes an exit. Run starts it.
func NewExit(cfg ExitConfig) (*Exit, error) {
	e := &Exit{cfg: cfg, logger: orDiscard(cfg.Logger), ready: make(chan struct{}), limits: newLimits(0, maxFlows)}
	if cfg.HandshakeLimit == 0 {
		e.cfg.HandshakeLimit = defaultHandshakeLimit()
	}
	var err error
	if e.policy, err = newPolicy(cfg.Allow, cfg.Deny, isOwn); err != nil {
		return nil, err
	}
	inner := innerAddr(e.PublicKey(), 0)
	names := map[string]netip.Addr{}
	if cfg.Page != nil {
		names[demoName] = inner
	}
	e.names = newNameService(cfg.Resolver, e.policy, names)
	if e.att, err = newAttachment(cfg.NetworkConfig, cfg.PrivateKey, e.logger, cfg.timers, e.attachmentChanged); err != nil {
		return nil, err
	}
	e.host = scion.NewHost(scion.HostConfig{Underlay: e.att, Logger: e.logger})
	port, err := e.host.Listen(0)
	if err != nil {
		return nil, err
	}
	budget := frameBudget{host: e.host, att: e.att, mtu: func(*scion.Path) int { return replyMTU }}
	listener, err := tunnel.NewListener(tunnel.ListenerConfig[scion.Addr]{
		Config: tunnel.Config[scion.Addr]{
			Carrier: port, PrivateKey: cfg.PrivateKey, FrameSize: budget.frame, Logger: e.logger, Timers: cfg.timers,
		},
		Authorize:      cfg.Authorize,
		Origin:         scion.Addr.Origin,
		CookieAddr:     appendSCIONAddr,
		HandshakeLimit: e.cfg.HandshakeLimit,
		Notify:         e.peerChanged,
	})
	if err != nil {
		return nil, err
	}
	e.link = newExitLink(listener, budget)
	e.stack, err = netstack.New(netstack.Config{Addr: inner, Link: e.link, Logger: e.logger, TCP: e.tcp, UDP: e.udp})
	return e, err
}

// PublicKey returns the exit's public key.
func (e *Exit) PublicKey() snaptun.PublicKey { return e.cfg.PrivateKey.PublicKey() }

// Ready is closed once the exit is attached and Addr is known.
func (e *Exit) Ready() <-chan struct{} { return e.ready }

// Addr returns the exit's SCION address, which the SNAP assigned. It is zero
// before the exit is ready.
func (e *Exit) Addr() scion.Addr { return e.host.Local() }

// Silent says why the exit is not ready, for a person to read.
func (e *Exit) Silent() string { return e.att.silence() }

// Run attaches to the SNAP and serves clients until ctx ends.
func (e *Exit) Run(ctx context.Context) error {
	defer e.att.close()
	g := newGroup(ctx)
	e.group = g
	dnsUDP, err := e.stack.ListenUDP(dnsPort)
	if err != nil {
		return fmt.Errorf("name service: %w", err)
	}
	dnsTCP, err := e.stack.ListenTCP(dnsPort)
	if err != nil {
		return fmt.Errorf("name service: %w", err)
	}
	g.Go(func() error { return e.names.serveUDP(g.ctx, g, dnsUDP) })
	g.Go(func() error {
		return acceptAll(g.ctx, dnsTCP, e.logger, func(c net.Conn) { e.names.serveTCP(g.ctx, c) })
	})
	if e.cfg.Page != nil {
		page, err := e.stack.ListenTCP(80)
		if err != nil {
			return fmt.Errorf("page: %w", err)
		}
		srv := &http.Server{Handler: e.cfg.Page, ReadHeaderTimeout: 10 * time.Second}
		g.Go(func() error {
			if err := srv.Serve(page); !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
				return err
			}
			return nil
		})
		defer context.AfterFunc(g.ctx, func() { srv.Close() })()
	}
	defer context.AfterFunc(g.ctx, func() {
		dnsUDP.Close()
		dnsTCP.Close()
	})()
	runStacked(g, e.host.Run, e.stack.Run)
	return g.wait()
}

func (e *Exit) attachmentChanged(s attached) {
	if !s.up {
		e.group.logDown(e.logger, "tunnel to the SNAP down", "snap", s.via)
		return
	}
	before := e.host.Local()
	e.host.SetLocal(s.local)
	if now := e.host.Local(); now != before {
		e.logger.Info("exit attached", "address", now, "public_key", e.PublicKey())
		if before.Port != 0 {
			e.logger.Warn("the exit's address changed: clients that know the old one do not find it", "before", before)
		}
	} else {
		e.logger.Info(e.att.upWord(), "to", s.via)
	}
	e.attached.Do(func() { close(e.ready) })
}

func (e *Exit) peerChanged(ev tunnel.PeerEvent[scion.Addr]) {
	if ev.Gone {
		e.link.forget(ev.Peer)
	}
}

// appendSCIONAddr appends what a cookie binds: ISD-AS, host and port.
func appendSCIONAddr(b []byte, a scion.Addr) []byte {
	for shift := 56; shift >= 0; shift -= 8 {
		b = append(b, byte(uint64(a.IA)>>shift))
	}
	return appendAddrPort(b, netip.AddrPortFrom(a.Host, a.Port))
}
