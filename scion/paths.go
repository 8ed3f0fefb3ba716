package scion

import (
	"context"
	"log/slog"
	"time"
)

// PathsConfig configures Paths.
type PathsConfig struct {
	// Dst is the AS that the routes lead to.
	Dst IA
	// Fetch looks routes to Dst up. It is called by Run, one call at a time, and
	// should return when ctx ends. What it returns is checked.
	Fetch func(ctx context.Context) ([]*Route, error)
	// Policy chooses and orders. If nil, all routes, the shortest first.
	Policy *Policy
	// MinMTU is the least MTU in bytes of a route that is used.
	MinMTU int
	// Suspect is called, by Run, when packets have been sent for a while and
	// nothing was heard: it should make the far end say something, so that flows
	// which only send do not make a good route look dead. If nil, nothing is.
	Suspect func()
	// Logger is told what routes are left and why, at Info. If nil, nothing is
	// logged.
	Logger *slog.Logger
	// Clock is the time. If nil, time.Now.
	Clock func() time.Time
}

// Paths are the routes to one AS and the choice among them.
type Paths struct {
	cfg   PathsConfig
	ready chan struct{}
}

// RouteStatus says how a route does.
type RouteStatus struct {
	Route *Route
	// Alive is false while the route is left; Reason says why, and Until for how
	// long.
	Alive  bool
	Reason string
	Until  time.Time
	// InUse says that flows take the route.
	InUse bool
	// Heard is when something was heard over the route. Zero: never.
	Heard time.Time
}

// NewPaths makes the choice among no routes. Run fetches them.
func NewPaths(cfg PathsConfig) *Paths {
	return &Paths{cfg: cfg, ready: make(chan struct{})}
}

// Run fetches routes, again and again, until ctx ends, and looks for silence
// while packets are sent.
func (p *Paths) Run(ctx context.Context) error { <-ctx.Done(); return nil }

// Ready is closed once there is a route.
func (p *Paths) Ready() <-chan struct{} { return p.ready }

// Err says why there is no route: an ENETUNREACH. It is nil while there is one.
func (p *Paths) Err() error { return nil }

// Route returns the route for a packet of a flow that is sent now, nil if there
// is none. Flow is any number that the packets of a flow have in common.
func (p *Paths) Route(flow uint32) *Route { return nil }

// Best returns the best route, nil if there is none, for a handshake or a
// keepalive that is sent now.
func (p *Paths) Best() *Route { return nil }

// Peek returns the route that Best would, for other purposes than sending.
func (p *Paths) Peek() *Route { return nil }

// Heard notes that an authenticated packet of a flow came in.
func (p *Paths) Heard(flow uint32) {}

// HeardOn notes that an authenticated packet came in over a path, which is
// given as the path back, as in the addresses of received datagrams.
func (p *Paths) HeardOn(path *Path) {}

// Report takes a report about a packet that the caller recognizes as its own.
// It returns whether that changed the choice.
func (p *Paths) Report(r Report) bool { return false }

// Status returns how the routes do, the best first.
func (p *Paths) Status() []RouteStatus { return nil }
