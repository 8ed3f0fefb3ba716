package scion

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// PathsConfig configures Paths.
type PathsConfig struct {
	// Dst is the AS that the routes lead to, Src the one where they begin. If
	// Src is zero, routes may begin anywhere.
	Dst, Src IA
	// Fetch looks routes to Dst up. It is called by Run, one call at a time, and
	// must return when ctx ends, which it does after a minute. What it returns
	// is checked.
	Fetch func(ctx context.Context) ([]*Route, error)
	// Policy chooses and orders. If nil, all routes, the shortest first.
	Policy *Policy
	// MinMTU is the least MTU in bytes of a route that is used, and MinRoom the
	// least that the MTU leaves beside the path itself, which is longer the more
	// hops there are.
	MinMTU, MinRoom int
	// Suspect is called by Run when packets are sent over a route and nothing is
	// heard for most of a second, and when a route that was left should be tried
	// again: it should ask the far end for a sign of life, by a message that goes
	// where Best says during the call. So a flow that only sends does not make a
	// good route look dead, and no flow need try one that may be. If nil, nothing
	// is called, and one flow tries.
	Suspect func()
	// Logger is told what routes are left, why, and when they are back, at Info.
	// If nil, nothing is logged.
	Logger *slog.Logger
	// Clock is the time. If nil, time.Now.
	Clock func() time.Time
}

const (
	// silence is how long something is sent without an answer before it goes
	// another way. There must have been two attempts with so much time between,
	// as the last packet of a conversation need not be answered, and no pause
	// between two of them longer than maxPause, behind which a new one begins.
	silence     = 1500 * time.Millisecond
	attempts    = 700 * time.Millisecond
	maxPause    = 1200 * time.Millisecond
	suspicion   = 900 * time.Millisecond
	maxPatience = time.Minute // of a flow that moves and moves
	// flowIdle is after what pause a flow takes the best route of the moment.
	flowIdle = 5 * time.Second
	// firstPenalty is how long a route comes last that was left, and maxPenalty
	// the end of its doubling.
	firstPenalty = 10 * time.Second
	maxPenalty   = 5 * time.Minute
	// tickInterval is how often Run looks for silence while packets are sent.
	tickInterval = 100 * time.Millisecond
	// resolution is that of the times that sending and hearing note.
	resolution = 10 * time.Millisecond
	// maxRoutes bounds the routes to an AS.
	maxRoutes = 64
	buckets   = 256
)

// Paths are the routes to one AS and the choice among them, a route per flow.
// A flow stays on its route while packets are sent, and goes another way
// when the route expires, is reported broken, or nothing comes back. All
// methods but Run may be called at any time by any goroutine, also with locks
// held: none waits for anything.
//
// Flows are told apart by a number of the caller's choice, which selects one of
// 256 buckets, so that a number that changes every packet is no harm.
type Paths struct {
	cfg    PathsConfig
	policy *Policy
	logger *slog.Logger
	clock  func() time.Time
	epoch  time.Time // instants are durations since
	ready  chan struct{}
	wake   chan struct{} // Run has something to do

	buckets [buckets]bucket
	best    atomic.Pointer[candidate]
	trial   atomic.Pointer[candidate] // for the next flow to try; nil: none
	due     atomic.Int64              // instant when the order should be looked at again
	ticking atomic.Bool
	hurry   atomic.Int64 // fetch as soon as the last fetch is so long ago; zero: no
	heard   atomic.Int64 // instant of anything
	known   atomic.Pointer[knownPaths]

	mu         sync.Mutex   // guards what follows; never held while calling out
	candidates []*candidate // as rank orders them
	scratch    []*candidate
	probing    *candidate // whom Suspect should ask
	own        own
	blackout   bool  // all are left
	err        error // why there is no candidate
	was        bool  // ready is closed
	said       []remark
}

// A bucket is where a flow is, with all others of the bucket.
type bucket struct {
	at          atomic.Pointer[candidate]
	sent, heard atomic.Int64 // instants

	listener               // guarded by Paths.mu
	patience time.Duration // what the next silence may last; guarded by Paths.mu
	detour   time.Duration // since when it is not on the best; guarded by Paths.mu
	_        [8]byte       // to a cache line of 64 bytes
}

// A remark is something for the log, which Run writes.
type remark struct {
	message, route, reason string
}

// NewPaths makes the choice among no routes. Run fetches them.
func NewPaths(cfg PathsConfig) *Paths {
	p := &Paths{
		cfg: cfg, policy: cfg.Policy, logger: cfg.Logger, clock: cfg.Clock,
		ready: make(chan struct{}), wake: make(chan struct{}, 1),
	}
	if p.policy == nil {
		p.policy = &Policy{}
	}
	if p.logger == nil {
		p.logger = slog.New(slog.DiscardHandler)
	}
	if p.clock == nil {
		p.clock = time.Now
	}
	p.epoch = p.clock().Add(-24 * time.Hour) // so that no instant is zero
	p.err = errNotFetched
	p.forget()
	return p
}

// Ready is closed once there is a route for the first time.
func (p *Paths) Ready() <-chan struct{} { return p.ready }

// Err returns why there is no route, in a line for the user. It wraps
// syscall.ENETUNREACH and, if looking up failed, the error of that. It is nil
// while there is a route.
func (p *Paths) Err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rank(p.clock())
	if p.best.Load() != nil {
		return nil
	}
	cause := p.err
	if cause == nil {
		cause = errTooSmall
	}
	return &noPathError{dst: p.cfg.Dst, cause: cause}
}

var errTooSmall = errors.New("those there are were reported too small for the least packets")

type noPathError struct {
	dst   IA
	cause error
}

func (e *noPathError) Error() string   { return fmt.Sprintf("no path to %s: %v", e.dst, e.cause) }
func (e *noPathError) Unwrap() []error { return []error{syscall.ENETUNREACH, e.cause} }

// A RouteStatus says how a route does.
type RouteStatus struct {
	Route *Route
	// Alive is false while the route is left, until Until; Reason says why.
	Alive  bool
	Reason string
	Until  time.Time
	// Best says that new flows take the route, Flows how many buckets of flows
	// do at the moment, and InUse that there is one.
	Best  bool
	InUse bool
	Flows int
	// Heard is when something was heard over the route. Zero: never.
	Heard time.Time
}

// Status returns how the routes do, the best first.
func (p *Paths) Status() []RouteStatus {
	t := p.clock()
	now := p.instant(t)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rank(t)
	flows := make(map[*candidate]int)
	for i := range p.buckets {
		if b := &p.buckets[i]; now-time.Duration(b.sent.Load()) <= flowIdle {
			flows[b.at.Load()]++
		}
	}
	all := make([]RouteStatus, len(p.candidates))
	for i, c := range p.candidates {
		s := RouteStatus{
			Route: c.route.Load(), Alive: c.alive(now), Best: c == p.best.Load(),
			Flows: flows[c], InUse: flows[c] > 0,
		}
		if !s.Alive {
			s.Reason, s.Until = c.reason, p.epoch.Add(c.until)
			if c.tooSmall {
				s.Until = p.epoch.Add(c.mtuUntil)
			}
		}
		if heard := time.Duration(c.heard.Load()); heard > 0 {
			s.Heard = p.epoch.Add(heard)
		}
		all[i] = s
	}
	return all
}

// instant returns a time as the duration since the epoch, by the monotonic
// clock if the time has one.
func (p *Paths) instant(t time.Time) time.Duration { return t.Sub(p.epoch) }

// hurryUp makes Run fetch when the last fetch is so long ago.
func (p *Paths) hurryUp(pause time.Duration) {
	if old := p.hurry.Load(); old == 0 || int64(pause) < old {
		p.hurry.Store(int64(pause))
	}
	p.rouse()
}

// rouse makes Run look what there is to do.
func (p *Paths) rouse() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}
