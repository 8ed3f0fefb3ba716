package snapproxy

import (
	"context"
	"log/slog"
	"sync"

	"github.com/snapproxy/snapproxy/scion"
	"github.com/snapproxy/snapproxy/scion/endhost"
	"github.com/snapproxy/snapproxy/tunnel/snaptun"
)

// HostConfig configures a Host.
type HostConfig struct {
	NetworkConfig
	// PrivateKey is the host's static key towards a SNAP. If zero, a fresh one is
	// drawn.
	PrivateKey snaptun.PrivateKey
	// Logger receives what happens to the host. If nil, nothing is logged.
	Logger *slog.Logger
}

// A Host is a SCION host without a tunnel to an exit: what it takes to look at
// the network. It answers SCMP echo requests.
type Host struct {
	att      *attachment
	host     *scion.Host
	attached sync.Once
	ready    chan struct{}
}

// NewHost makes a host. Run starts it.
func NewHost(cfg HostConfig) (*Host, error) {
	if cfg.PrivateKey.IsZero() {
		key, err := snaptun.NewPrivateKey()
		if err != nil {
			return nil, err
		}
		cfg.PrivateKey = key
	}
	h := &Host{ready: make(chan struct{})}
	var err error
	h.att, err = newAttachment(cfg.NetworkConfig, cfg.PrivateKey, orDiscard(cfg.Logger), snaptun.Timers{}, h.changed)
	if err != nil {
		return nil, err
	}
	h.host = scion.NewHost(scion.HostConfig{Underlay: h.att, Logger: cfg.Logger})
	return h, nil
}

func (h *Host) changed(s attached) {
	if s.up {
		h.host.SetLocal(s.local)
		h.attached.Do(func() { close(h.ready) })
	}
}

// Run attaches the host until ctx ends.
func (h *Host) Run(ctx context.Context) error {
	defer h.att.close()
	return h.host.Run(ctx)
}

// Ready is closed once the host is attached and has an address.
func (h *Host) Ready() <-chan struct{} { return h.ready }

// Silent says why the host is not ready, for a person to read.
func (h *Host) Silent() string { return h.att.silence() }

// Addr returns the host's SCION address, the zero Addr before it is ready.
func (h *Host) Addr() scion.Addr { return h.host.Local() }

// Echo returns what sends echo requests, as scion.Host.Echo does.
func (h *Host) Echo(deliver func(scion.EchoReply)) *scion.Echo { return h.host.Echo(deliver) }

// HeaderSize returns the length in bytes of the SCION header of a packet to an
// address, without what follows it.
func (h *Host) HeaderSize(to scion.Addr) int { return h.host.HeaderSize(to) }

// MTU returns the size in bytes of the largest SCION packet that the host's
// attachment carries.
func (h *Host) MTU() int { return h.att.mtu() }

// LookupPaths returns the routes from src to dst, the best first by the policy
// of the configuration. If src is zero it is the AS that the configuration
// names, or the first that the endhost API has. No tunnel is needed.
func LookupPaths(ctx context.Context, cfg NetworkConfig, src, dst scion.IA) ([]*scion.Route, error) {
	l, err := newPathLookup(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	defer l.close()
	if src.IsZero() {
		if src, err = l.source(ctx); err != nil {
			return nil, err
		}
	} else if len(l.named) == 0 && len(cfg.Discovery) > 0 {
		if _, err := l.discover(ctx); err != nil {
			return nil, err
		}
	}
	if src == dst {
		return endhost.Combine(src, dst, endhost.Segments{})
	}
	routes, err := l.routes(ctx, src, dst)
	if err != nil {
		return nil, err
	}
	policy := cfg.PathPolicy
	if policy == nil {
		policy = new(scion.Policy)
	}
	return policy.Apply(routes), nil
}
