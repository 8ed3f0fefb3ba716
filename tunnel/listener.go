package tunnel

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime"
	"sync"
	"time"

	"github.com/snapproxy/snapproxy/tunnel/snaptun"
)

// ListenerConfig configures a Listener.
type ListenerConfig[A comparable] struct {
	Config[A]
	// Authorize reports whether a key may have a tunnel at this moment. It is
	// asked for every packet in both directions with a lock held, so it must not
	// block, nor call the Listener.
	Authorize func(snaptun.PublicKey, time.Time) bool
	// Origin returns an address without its route: what a peer owns, and is
	// written to. If nil, addresses have no route.
	Origin func(A) A
	// SealedAddr returns the address that is told to an initiator. If nil, none.
	SealedAddr func(from A) netip.AddrPort
	// Burst is how many bytes of datagrams the carrier takes in at once, which is
	// told to initiators beside an IPv4 address. If zero, it is not.
	Burst int
	// CookieAddr appends the bytes of an address that a cookie is bound to. If
	// nil, what fmt prints.
	CookieAddr func(dst []byte, a A) []byte
	// SourceAddr appends the bytes that name the host behind an address, each of
	// which may make a few handshakes a second under load. If nil, CookieAddr.
	SourceAddr func(dst []byte, a A) []byte
	// HandshakeLimit is how many handshake messages a second are taken without a
	// cookie. If zero, 2,000.
	HandshakeLimit int
	// MaxPeers is how many peers there may be. If zero, 131,072.
	MaxPeers int
	// Notify is called when a peer comes or goes: in order, by one goroutine,
	// without locks held. It should not block for long.
	Notify func(PeerEvent[A])
}

// A Listener accepts tunnels of many peers. All methods but Run may be called at
// any time by any goroutine.
type Listener[A comparable] struct {
	cfg      ListenerConfig[A]
	logger   *slog.Logger
	now      func() time.Time
	batches  outgoingPool[A]
	incoming incoming[A, *snaptun.Peer[A]] // of the goroutine that receives
	counters counters
	// handshakes are the initiations that wait for their X25519.
	handshakes chan *snaptun.Handshake[A]

	mu        sync.Mutex // guards what follows; never held while calling out
	responder *snaptun.Responder[A]
	flows     map[*snaptun.Peer[A]]*flow // if there is framing
	notify    notifier[PeerEvent[A]]
	alarm     alarm
	running   bool
	closed    bool
	// Reassembly is looked after when this has come.
	expiry time.Time
}

// NewListener returns a Listener without peers. It does nothing before Run.
func NewListener[A comparable](cfg ListenerConfig[A]) (*Listener[A], error) {
	if cfg.Carrier == nil {
		return nil, errors.New("new tunnel listener: no carrier")
	}
	l := &Listener[A]{
		cfg: cfg, logger: cfg.logger(), now: cfg.clock(), flows: make(map[*snaptun.Peer[A]]*flow),
		notify: newNotifier[PeerEvent[A]](), alarm: alarm{wake: make(chan struct{}, 1)},
		handshakes: make(chan *snaptun.Handshake[A], maxHandshakes),
	}
	l.counters.init()
	responder, err := snaptun.NewResponder(snaptun.ResponderConfig[A]{
		PrivateKey:     cfg.PrivateKey,
		Authorize:      cfg.Authorize,
		Origin:         cfg.Origin,
		SealedAddr:     cfg.SealedAddr,
		Burst:          cfg.Burst,
		CookieAddr:     cfg.CookieAddr,
		SourceAddr:     cfg.SourceAddr,
		HandshakeLimit: cfg.HandshakeLimit,
		MaxPeers:       cfg.MaxPeers,
		Keepalive:      cfg.Keepalive,
		Timers:         cfg.Timers,
	}, l.now())
	if err != nil {
		return nil, fmt.Errorf("new tunnel listener: %w", err)
	}
	l.responder = responder
	return l, nil
}

// Run runs the carrier and the tunnels until ctx ends, which is no error, and
// then says goodbye to the peers. from[i] is the peer that sent packets[i]. The
// slices and the packets are lent until deliver returns, which may overwrite
// them; an error of deliver ends Run. Run can be called once.
func (l *Listener[A]) Run(ctx context.Context, deliver func(from []*snaptun.Peer[A], packets [][]byte) error) error {
	l.mu.Lock()
	if l.running {
		l.mu.Unlock()
		return fmt.Errorf("run tunnel listener: %w", errRunning)
	}
	l.running = true
	l.mu.Unlock()

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() { runAlarm(ctx, l.alarm.wake, l.now, l.tick) })
	wg.Go(func() { l.runNotify(ctx) })
	for range max(runtime.GOMAXPROCS(0)/2, 1) {
		wg.Go(func() { l.runHandshakes(ctx) })
	}
	err := l.cfg.Carrier.Run(ctx, func(from []A, packets [][]byte) error {
		return l.receive(from, packets, deliver)
	})
	ended := ctx.Err() != nil
	cancel()
	wg.Wait()
	l.close()
	if ended {
		return nil
	}
	return err
}

// close says goodbye and makes further sends fail.
func (l *Listener[A]) close() {
	out := l.batches.get()
	defer l.batches.put(out)
	l.mu.Lock()
	now := l.now()
	l.closed = true
	var origins []A
	for p := range l.responder.Peers() {
		origins = append(origins, p.Origin())
	}
	for _, origin := range origins {
		begin := len(out.block)
		block, route, ok := l.responder.Goodbye(out.block, origin, snaptun.ReasonShutdown, now)
		out.block = block
		if ok {
			out.put(route, begin)
		}
	}
	l.mu.Unlock()
	_, _ = out.transmit(l.cfg.Carrier, &l.counters)
}

// Peer returns the peer that owns an origin, or nil.
func (l *Listener[A]) Peer(origin A) *snaptun.Peer[A] {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.responder.Peer(origin)
}

// Peers returns the peers that have confirmed a session, in no order.
func (l *Listener[A]) Peers() []*snaptun.Peer[A] {
	l.mu.Lock()
	defer l.mu.Unlock()
	peers := make([]*snaptun.Peer[A], 0, l.responder.Len())
	for p := range l.responder.Peers() {
		peers = append(peers, p)
	}
	return peers
}

// Route returns the address with the route on which the peer that owns an origin
// is reached, the origin itself if there is none. A Peer's own methods tell this
// only to who has the lock.
func (l *Listener[A]) Route(origin A) A {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p := l.responder.Peer(origin); p != nil {
		return p.Route()
	}
	return origin
}

// Counters returns how many datagrams and packets went in and out, and how many
// were dropped by reason. The names are stable.
func (l *Listener[A]) Counters() map[string]uint64 {
	m := l.counters.snapshot()
	l.mu.Lock()
	defer l.mu.Unlock()
	m["peers"] = uint64(l.responder.Len())
	m["peers_half_open"] = uint64(l.responder.HalfOpen())
	return m
}
