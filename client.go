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
	// SNAP is the HOST:PORT of the SNAP to attach to, SNAPKey its public key,
	// and IA the ISD-AS it belongs to.
	SNAP    string
	SNAPKey snaptun.PublicKey
	IA      scion.IA
	// PrivateKey is the client's static key, towards SNAP and exit. If zero, a
	// fresh one is drawn, which nobody has authorized yet.
	PrivateKey snaptun.PrivateKey
	// Exit is the exit's SCION address and ExitKey its public key.
	Exit    scion.Addr
	ExitKey snaptun.PublicKey
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
	stack  *netstack.Stack
	names  *resolver
	http   *httpconnect.Server
	limits *limits
	ready  chan struct{}
	group  *group // what Run runs in; set by it before any tunnel can change

	counters clientCounters

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
	c := &Client{cfg: cfg, logger: orDiscard(cfg.Logger), ready: make(chan struct{})}
	c.limits = newLimits(cfg.MaxConnections, cfg.MaxPerUser)
	c.up, c.drop = context.WithCancelCause(context.Background())
	c.drop(errTunnelDown)
	c.att = &attachment{
		snap: cfg.SNAP, snapKey: cfg.SNAPKey, key: cfg.PrivateKey,
		logger: c.logger, timers: cfg.timers, notify: c.outerChanged, down: make(chan struct{}, 1),
	}
	c.host = scion.NewHost(scion.HostConfig{Underlay: c.att, Logger: c.logger})
	port, err := c.host.Listen(0)
	if err != nil {
		return nil, err
	}
	budget := frameBudget{host: c.host, att: c.att}
	c.inner, err = tunnel.NewConn(tunnel.ConnConfig[scion.Addr]{
		Config: tunnel.Config[scion.Addr]{
			Carrier: port, PrivateKey: cfg.PrivateKey, Keepalive: innerKeepalive,
			FrameSize: budget.frame, Logger: c.logger, Timers: cfg.timers,
		},
		PeerKey: cfg.ExitKey,
		Peer:    cfg.Exit,
		Origin:  scion.Addr.Origin,
		Notify:  c.innerChanged,
	})
	if err != nil {
		return nil, err
	}
	addr := innerAddr(c.PublicKey(), drawProcess())
	link := &clientLink{conn: c.inner, budget: budget, exit: cfg.Exit}
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
	g := newGroup(ctx)
	c.group = g
	runStacked(g, c.host.Run, c.stack.Run)
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
	switch {
	case !outer:
		return c.att.silence()
	case !inner:
		return fmt.Sprintf("the exit %s does not answer: is it running, is --exit-key its key, and is %s in its authorized keys?",
			c.cfg.Exit, c.PublicKey())
	}
	return ""
}

func (c *Client) outerChanged(s tunnel.Status) {
	if s.Up {
		before := c.host.Local()
		c.host.SetLocal(scion.Addr{IA: c.cfg.IA, Host: s.Assigned.Addr(), Port: s.Assigned.Port()})
		c.logger.Info("tunnel to the SNAP up", "snap", c.cfg.SNAP, "address", c.host.Local())
		if before != c.host.Local() || !c.inner.Status().Up {
			c.inner.Initiate()
		}
	} else {
		c.group.logDown(c.logger, "tunnel to the SNAP down", "snap", c.cfg.SNAP)
	}
	c.changed(func() { c.outerUp = s.Up })
}

func (c *Client) innerChanged(s tunnel.Status) {
	if s.Up {
		c.logger.Info("tunnel to the exit up", "exit", c.cfg.Exit)
	} else {
		c.group.logDown(c.logger, "tunnel to the exit down", "exit", c.cfg.Exit)
	}
	c.changed(func() { c.innerUp = s.Up })
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
	exit   scion.Addr
}

var _ netstack.Link = (*clientLink)(nil)

func (l *clientLink) Run(ctx context.Context, deliver func(packets [][]byte) error) error {
	return l.conn.Run(ctx, deliver)
}
func (l *clientLink) WritePackets(packets [][]byte) (int, error) { return l.conn.WritePackets(packets) }
func (l *clientLink) MTU(netip.Addr) int                         { return l.budget.packet(l.exit) }

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
