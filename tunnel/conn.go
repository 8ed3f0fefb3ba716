package tunnel

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/snapproxy/snapproxy/tunnel/snaptun"
)

// ConnConfig configures a Conn.
type ConnConfig[A comparable] struct {
	Config[A]
	// PeerKey is the identity of the peer.
	PeerKey snaptun.PublicKey
	// Peer is the address of the peer, with the route to it. The zero A is none
	// yet: then SetPeer tells it.
	Peer A
	// Origin returns an address without its route, for comparison. If nil,
	// addresses have no route.
	Origin func(A) A
	// Route chooses the route to the peer on which a packet goes, before it is
	// cut and sealed; a nil packet stands for the tunnel's own messages. It is
	// asked for every packet, sometimes with a lock held, so it must not block,
	// nor call the Conn. If nil, everything goes to the address that Peer or
	// SetPeer told.
	Route func(packet []byte) A
	// Heard is told the address, with the route back, of the newest message in a
	// batch that was authenticated. It must not block. If nil, nobody is told.
	Heard func(from A)
	// Notify is called when Status().Up, Assigned or Burst has changed: in order, by one
	// goroutine, without locks held. It should not block for long.
	Notify func(Status)
}

// A Conn is a tunnel to one peer. It finds out by itself whether the peer
// answers and keeps trying while it does not. All methods but Run may be called
// at any time by any goroutine.
type Conn[A comparable] struct {
	cfg      ConnConfig[A]
	logger   *slog.Logger
	now      func() time.Time
	flow     *flow
	peer     atomic.Pointer[A]
	batches  outgoingPool[A]
	incoming incoming[A, struct{}] // of the goroutine that receives
	counters counters

	mu      sync.Mutex // guards what follows; never held while calling out
	session *snaptun.Session
	live    liveness
	status  Status
	told    Status // last put to notify
	asked   bool   // a handshake of ours was answered once
	notify  notifier[Status]
	alarm   alarm
	running bool
	closed  bool
}

var errRunning = errors.New("runs already")

// NewConn returns a tunnel that is not up. It does nothing before Run.
func NewConn[A comparable](cfg ConnConfig[A]) (*Conn[A], error) {
	if cfg.Carrier == nil {
		return nil, errors.New("new tunnel: no carrier")
	}
	c := &Conn[A]{cfg: cfg, logger: cfg.logger(), now: cfg.clock(), notify: newNotifier[Status](), alarm: alarm{wake: make(chan struct{}, 1)}}
	c.counters.init()
	now := c.now()
	session, err := snaptun.NewSession(snaptun.SessionConfig{
		PrivateKey: cfg.PrivateKey,
		PeerKey:    cfg.PeerKey,
		Keepalive:  cfg.Keepalive,
		Timers:     cfg.Timers,
	}, now)
	if err != nil {
		return nil, fmt.Errorf("new tunnel: %w", err)
	}
	c.session = session
	c.status.Since = now
	c.told = c.status
	c.flow = newFlow(cfg.reassemblies(connQueues), now)
	if c.cfg.Origin == nil {
		c.cfg.Origin = func(a A) A { return a }
	}
	peer := cfg.Peer
	c.peer.Store(&peer)
	c.live.start(now)
	return c, nil
}

// Run runs the carrier and the tunnel until ctx ends, which is no error, and
// then says goodbye to the peer. The packets and the slice of them are lent until
// deliver returns, which may overwrite them; an error of deliver ends Run. Run
// can be called once.
func (c *Conn[A]) Run(ctx context.Context, deliver func(packets [][]byte) error) error {
	c.mu.Lock()
	if c.running {
		c.mu.Unlock()
		return fmt.Errorf("run tunnel: %w", errRunning)
	}
	c.running = true
	c.live.start(c.now())
	c.mu.Unlock()

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() { c.runTimers(ctx) })
	wg.Go(func() { c.runNotify(ctx) })
	err := c.cfg.Carrier.Run(ctx, func(from []A, packets [][]byte) error {
		return c.receive(from, packets, deliver)
	})
	ended := ctx.Err() != nil
	cancel()
	wg.Wait()
	c.close()
	if ended {
		return nil
	}
	return err
}

// close says goodbye and makes further sends fail.
func (c *Conn[A]) close() {
	out := c.batches.get()
	defer c.batches.put(out)
	c.mu.Lock()
	out.block = c.session.Goodbye(out.block, snaptun.ReasonShutdown, c.now())
	if len(out.block) > 0 {
		out.put(c.route(nil), 0)
	}
	c.closed = true
	if c.status.Up {
		c.status.Up, c.status.Since = false, c.now()
	}
	c.mu.Unlock()
	out.transmit(c.cfg.Carrier, &c.counters)
}

// SetPeer sets the address of the peer and starts a handshake there at once.
func (c *Conn[A]) SetPeer(a A) {
	c.peer.Store(&a)
	c.Initiate()
}

// Initiate starts a handshake now. It is what to do when our own address has
// changed, or a peer that did not answer may answer again.
func (c *Conn[A]) Initiate() {
	out := c.batches.get()
	defer c.batches.put(out)
	c.mu.Lock()
	if c.closed || !c.running {
		c.mu.Unlock()
		return
	}
	now := c.now()
	c.live.renew(now)
	c.initiate(now, false)
	c.settle(out, now)
	c.mu.Unlock()
	out.transmit(c.cfg.Carrier, &c.counters)
}

// Status returns the state of the tunnel.
func (c *Conn[A]) Status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.status
}

// Counters returns how many datagrams and packets went in and out, and how many
// were dropped by reason. The names are stable.
func (c *Conn[A]) Counters() map[string]uint64 { return c.counters.snapshot() }

// initiate starts a handshake. It is called with mu held.
func (c *Conn[A]) initiate(now time.Time, urgent bool) {
	c.counters.probes.Add(1)
	if err := c.session.Initiate(now); err != nil {
		c.counters.drop(err)
	}
	c.live.initiated(now, c.session.LastReceived(), urgent)
}

// Sent reports whether b begins like a message that was sent lately, as
// snaptun.Session.Sent does. It is for messages that the network quotes in its
// errors, which anybody could make up otherwise.
func (c *Conn[A]) Sent(b []byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.session.Sent(b)
}

// route returns where a packet goes, nil for the tunnel's own messages.
func (c *Conn[A]) route(packet []byte) A {
	if c.cfg.Route != nil {
		return c.cfg.Route(packet)
	}
	return *c.peer.Load()
}

// hasPeer reports whether there is an address to send to.
func (c *Conn[A]) hasPeer() bool {
	var none A
	return *c.peer.Load() != none
}

var errConnClosed = fmt.Errorf("tunnel: %w", net.ErrClosed)
