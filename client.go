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

	"github.com/snapproxy/snapproxy/httpconnect"
	"github.com/snapproxy/snapproxy/netstack"
	"github.com/snapproxy/snapproxy/scion"
	"github.com/snapproxy/snapproxy/tunnel"
	"github.com/snapproxy/snapproxy/tunnel/snaptun"
)

// ClientConfig configures a Client.
type ClientConfig struct {
	NetworkConfig
	// PrivateKey is the client's static key, towards SNAP and exit. If zero, a
	// fresh one is drawn, which nobody has authorized yet.
	PrivateKey snaptun.PrivateKey
	// Exit is the exit's SCION address and ExitKey its public key.
	Exit    scion.Addr
	ExitKey snaptun.PublicKey
	// ExitName is the HOST:PORT of the exit if Exit is zero. Names looks it up,
	// again and again while the exit does not answer. If nil, it is one without
	// files of its own.
	ExitName string
	Names    *Names
	// Users checks the user of a proxy connection, as socks.Users.Valid does.
	// If nil, none is asked for.
	Users func(name, password string) bool
	// MaxConnections bounds the proxy connections at a time; the next is closed. If zero, it is 16,384.
	MaxConnections int
	// MaxPerUser bounds the streams of one user. If zero, it is MaxConnections.
	MaxPerUser int
	// Logger receives what happens to the role. If nil, nothing is logged.
	Logger *slog.Logger

	timers snaptun.Timers // for tests
}

const (
	// innerKeepalive keeps the exit's knowledge of where the client is fresh.
	innerKeepalive = 15 * time.Second
	// dialTimeout bounds a dial, name lookup included.
	dialTimeout           = 15 * time.Second
	defaultMaxConnections = 16384
)

// A Client has a tunnel to a SNAP and through it one to an exit, and dials
// through them. While the tunnels do not stand, dials fail at once; nothing is
// ever dialled directly.
type Client struct {
	cfg    ClientConfig
	logger *slog.Logger
	att    *attachment
	host   *scion.Host
	inner  *tunnel.Conn[scion.Addr]
	paths  *exitPaths
	stack  *netstack.Stack
	names  *resolver
	http   *httpconnect.Server
	limits *limits
	ready  chan struct{}
	group  *group // what Run runs in; set by it before any tunnel can change

	counters clientCounters
	foreign  atomic.Uint64 // SCMP errors about packets that were not ours

	mu      sync.Mutex // guards what follows; never held while calling out
	outerUp bool
	innerUp bool
	up      context.Context         // ends, with errTunnelDown, when a tunnel goes down
	drop    context.CancelCauseFunc // ends up
	was     bool                    // ready is closed
}

// clientCounters counts the datagrams of associations that are dropped.
type clientCounters struct {
	foreignDatagrams     atomic.Uint64 // not from the association's client
	badDatagrams         atomic.Uint64 // no SOCKS header, or a fragment
	waitingDatagrams     atomic.Uint64 // too many before their name was looked up
	unresolvedDatagrams  atomic.Uint64 // to names without an address
	undeliveredDatagrams atomic.Uint64 // from elsewhere than the targets, or too large for the client
}

// NewClient makes a client. Run starts it.
func NewClient(cfg ClientConfig) (*Client, error) {
	if cfg.PrivateKey.IsZero() {
		key, err := snaptun.NewPrivateKey()
		if err != nil {
			return nil, err
		}
		cfg.PrivateKey = key
	}
	if cfg.MaxConnections == 0 {
		cfg.MaxConnections = defaultMaxConnections
	}
	if cfg.MaxPerUser == 0 {
		cfg.MaxPerUser = cfg.MaxConnections
	}
	if cfg.ExitName != "" && cfg.Names == nil {
		names, err := NewNames(NamesConfig{Logger: cfg.Logger})
		if err != nil {
			return nil, err
		}
		cfg.Names = names
	}
	c := &Client{cfg: cfg, logger: orDiscard(cfg.Logger), ready: make(chan struct{})}
	c.limits = newLimits(cfg.MaxConnections, cfg.MaxPerUser)
	c.up, c.drop = context.WithCancelCause(context.Background())
	c.drop(errTunnelDown)
	var err error
	if c.att, err = newAttachment(cfg.NetworkConfig, cfg.PrivateKey, c.logger, cfg.timers, c.outerChanged); err != nil {
		return nil, err
	}
	c.host = scion.NewHost(scion.HostConfig{Underlay: c.att, Report: c.report, Logger: c.logger})
	port, err := c.host.Listen(0)
	if err != nil {
		return nil, err
	}
	c.paths = newExitPaths(cfg.Exit)
	budget := frameBudget{host: c.host, att: c.att, mtu: c.paths.mtu}
	c.paths.lookup, c.paths.policy, c.paths.logger, c.paths.overhead = c.att.lookup.routes, cfg.PathPolicy, c.logger, budget.overhead
	c.inner, err = tunnel.NewConn(tunnel.ConnConfig[scion.Addr]{
		Config: tunnel.Config[scion.Addr]{
			Carrier: port, PrivateKey: cfg.PrivateKey, Keepalive: innerKeepalive,
			FrameSize: budget.frame, Logger: c.logger, Timers: cfg.timers,
		},
		PeerKey: cfg.ExitKey,
		Peer:    cfg.Exit,
		Origin:  scion.Addr.Origin,
		Route:   c.paths.route,
		Heard:   c.paths.heardOn,
		Notify:  c.innerChanged,
	})
	if err != nil {
		return nil, err
	}
	c.paths.suspect, c.paths.found = c.inner.Initiate, c.inner.Initiate
	c.paths.watch = newPathWatch(c.inner.Initiate, func() { c.stack.Revive(netip.Addr{}) })
	addr := innerAddr(c.PublicKey(), drawProcess())
	link := &clientLink{conn: c.inner, budget: budget, paths: c.paths}
	c.stack, err = netstack.New(netstack.Config{Addr: addr, Link: link, Logger: c.logger})
	if err != nil {
		return nil, err
	}
	c.names = &resolver{
		server: netip.AddrPortFrom(innerAddr(cfg.ExitKey, 0), dnsPort),
		listen: func() (packetConn, error) { return c.stack.ListenUDP(0) },
		dial:   func(ctx context.Context, a netip.AddrPort) (net.Conn, error) { return c.stack.DialTCP(ctx, a) },
	}
	c.http = c.newHTTP()
	return c, nil
}

// PublicKey returns the client's public key, which SNAP and exit must know.
func (c *Client) PublicKey() snaptun.PublicKey { return c.cfg.PrivateKey.PublicKey() }

// Ready is closed once both tunnels stood for the first time.
func (c *Client) Ready() <-chan struct{} { return c.ready }

// Run attaches to the SNAP and the exit and stays attached until ctx ends.
func (c *Client) Run(ctx context.Context) error {
	defer c.att.close()
	g := newGroup(ctx)
	c.group = g
	runStacked(g, c.host.Run, c.stack.Run)
	g.Go(func() error { return c.paths.run(g.ctx) })
	g.Go(func() error { c.paths.watch.run(g.ctx); return nil })
	if c.cfg.ExitName != "" {
		g.Go(func() error { c.findExit(g.ctx); return nil })
	}
	defer context.AfterFunc(g.ctx, func() {
		c.mu.Lock()
		c.drop(net.ErrClosed)
		c.mu.Unlock()
	})()
	return g.wait()
}

// Silent says which side does not answer, for a person to read; it is empty
// while both tunnels stand.
func (c *Client) Silent() string {
	c.mu.Lock()
	outer, inner := c.outerUp, c.innerUp
	c.mu.Unlock()
	_, exit := c.paths.ends()
	switch {
	case !outer:
		return c.att.silence()
	case inner:
		return ""
	case !exit.Host.IsValid():
		return fmt.Sprintf("the exit %s has no address yet", c.cfg.ExitName)
	}
	if err := c.paths.err(); err != nil {
		return err.Error()
	}
	return fmt.Sprintf("the exit %s does not answer: is it running, is --exit-key its key, and is %s in its authorized keys?",
		exit, c.PublicKey())
}

func (c *Client) outerChanged(s attached) {
	if s.up {
		before := c.host.Local()
		c.host.SetLocal(s.local)
		c.paths.setSource(s.local.IA)
		c.logger.Info(c.att.upWord(), "to", s.via, "address", c.host.Local())
		if before != c.host.Local() || !c.inner.Status().Up {
			c.inner.Initiate()
		}
	} else {
		c.group.logDown(c.logger, "tunnel to the SNAP down", "snap", s.via)
	}
	c.changed(func() { c.outerUp = s.up })
}

// report takes an SCMP error, which anybody may have made up, unless it quotes
// what the inner tunnel has sent.
func (c *Client) report(r scion.Report) {
	if !c.inner.Sent(r.Payload) {
		c.foreign.Add(1)
		return
	}
	c.paths.report(r)
}

// findExit looks up where the exit is, at first and while it does not answer.
func (c *Client) findExit(ctx context.Context) {
	for ; ctx.Err() == nil; pause(ctx, resolveInterval) {
		c.mu.Lock()
		known := c.innerUp
		c.mu.Unlock()
		if known {
			continue
		}
		exit, err := c.cfg.Names.LookupPort(ctx, c.cfg.ExitName)
		if err != nil {
			c.logger.Warn("exit has no address", "error", err)
			continue
		}
		if _, before := c.paths.ends(); exit[0] != before {
			c.logger.Info("exit found", "exit", exit[0])
			c.paths.setExit(exit[0])
			c.inner.SetPeer(exit[0])
		}
	}
}

func (c *Client) innerChanged(s tunnel.Status) {
	if s.Up {
		c.logger.Info("tunnel to the exit up", "exit", c.exitName())
	} else {
		c.group.logDown(c.logger, "tunnel to the exit down", "exit", c.exitName())
	}
	c.changed(func() { c.innerUp = s.Up })
}

func (c *Client) exitName() string {
	if c.cfg.ExitName != "" {
		return c.cfg.ExitName
	}
	return c.cfg.Exit.String()
}

func (c *Client) changed(set func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	set()
	if up := c.outerUp && c.innerUp; up == (c.up.Err() == nil) {
		return
	} else if !up {
		c.drop(errTunnelDown)
		return
	}
	c.up, c.drop = context.WithCancelCause(context.Background())
	if !c.was {
		c.was = true
		close(c.ready)
	}
}

// tunnelUp returns a context that ends when a tunnel goes down, with the
// reason as its cause.
func (c *Client) tunnelUp() context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.up
}

// while returns a context that ends with ctx and when a tunnel goes down, or
// the error of a tunnel that is down now.
func (c *Client) while(ctx context.Context) (context.Context, context.CancelFunc, error) {
	up := c.tunnelUp()
	if up.Err() != nil {
		return nil, nil, context.Cause(up)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(up, func() { cancel(context.Cause(up)) })
	return ctx, func() { stop(); cancel(context.Canceled) }, nil
}

// A clientLink is the link under a client's stack: all of it is one tunnel.
type clientLink struct {
	conn   *tunnel.Conn[scion.Addr]
	budget frameBudget
	paths  *exitPaths
}

var _ netstack.Link = (*clientLink)(nil)

func (l *clientLink) Run(ctx context.Context, deliver func(packets [][]byte) error) error {
	return l.conn.Run(ctx, func(packets [][]byte) error {
		l.paths.heard(packets)
		return deliver(packets)
	})
}
func (l *clientLink) WritePackets(packets [][]byte) (int, error) { return l.conn.WritePackets(packets) }
func (l *clientLink) MTU(netip.Addr) int                         { return l.budget.packet(l.paths.best()) }

// cause replaces an error that a cancelled context brought about by the reason
// for which it was cancelled.
func cause(ctx context.Context, err error) error {
	if err == nil || ctx.Err() == nil {
		return err
	}
	if c := context.Cause(ctx); !errors.Is(err, c) {
		return c
	}
	return err
}
