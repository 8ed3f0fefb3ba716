package snapproxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/snapproxy/snapproxy/scion"
	"github.com/snapproxy/snapproxy/scion/endhost"
)

// A pathLookup finds the routes to other ASes: at the endhost APIs, tried in
// order, or at the control service that a topology names.
type pathLookup struct {
	cfg     NetworkConfig
	logger  *slog.Logger
	control *endhost.ControlService
	named   []*endhost.Client // of the configuration

	discovered atomic.Pointer[[]*endhost.Client]
}

func newPathLookup(cfg NetworkConfig, logger *slog.Logger) (*pathLookup, error) {
	l := &pathLookup{cfg: cfg, logger: logger}
	for _, s := range cfg.EndhostAPIs {
		u, err := endhost.ParseURL(s)
		if err != nil {
			return nil, err
		}
		client, err := l.client(u)
		if err != nil {
			return nil, err
		}
		l.named = append(l.named, client)
	}
	if t := cfg.Topology; t != nil {
		l.control = endhost.NewControlService(t.ControlServices, t.IA, t.Core)
	}
	return l, nil
}

// client returns a client of an endhost API, with the token if it may have it.
func (l *pathLookup) client(u *url.URL) (*endhost.Client, error) {
	c := endhost.ClientConfig{URL: u, Proxy: l.cfg.APIProxy, Logger: l.logger}
	if l.cfg.Token != nil && l.cfg.allowsToken(u) == nil {
		c.Token = l.cfg.Token.Token
	}
	return endhost.NewClient(c)
}

// apis returns the endhost APIs in the order to try them.
func (l *pathLookup) apis() []*endhost.Client {
	if more := l.discovered.Load(); more != nil {
		return slices.Concat(l.named, *more)
	}
	return l.named
}

// close closes idle connections.
func (l *pathLookup) close() {
	for _, api := range l.apis() {
		api.Close()
	}
	if l.control != nil {
		l.control.Close()
	}
}

// discover asks for more endhost APIs, of the first service that knows some.
func (l *pathLookup) discover(ctx context.Context) error {
	var errs []error
	for _, s := range l.cfg.Discovery {
		u, err := endhost.ParseURL(s)
		if err != nil {
			return err
		}
		groups, err := endhost.Discover(ctx, endhost.ClientConfig{Proxy: l.cfg.APIProxy, Logger: l.logger}, u)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		var more []*endhost.Client
		for _, api := range slices.Concat(groups...) {
			if len(more) == maxDiscovered {
				break
			}
			client, err := l.client(api)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			more = append(more, client)
		}
		if len(more) > 0 {
			l.discovered.Store(&more)
			return nil
		}
	}
	return errors.Join(errs...)
}

// maxDiscovered bounds the endhost APIs of a discovery that are tried.
const maxDiscovered = 10

// routes looks up the routes from an AS of ours to another.
func (l *pathLookup) routes(ctx context.Context, src, dst scion.IA) ([]*scion.Route, error) {
	if l.control != nil {
		return l.control.Routes(ctx, src, dst)
	}
	apis := l.apis()
	if len(apis) == 0 {
		return nil, fmt.Errorf("no path to %s: only an endhost API or a topology finds paths to other ASes: %w", dst, syscall.ENETUNREACH)
	}
	var errs []error
	for _, api := range apis {
		routes, err := api.Routes(ctx, src, dst)
		if err == nil {
			return routes, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// source returns the AS that hosts of ours are in: the one that the
// configuration names or the first that is offered.
func (l *pathLookup) source(ctx context.Context) (scion.IA, error) {
	if t := l.cfg.Topology; t != nil {
		return t.IA, nil
	}
	if !l.cfg.IA.IsZero() {
		return l.cfg.IA, nil
	}
	var errs []error
	for _, api := range l.apis() {
		offer, err := api.Underlays(ctx, 0)
		switch {
		case err != nil:
			errs = append(errs, err)
		case len(offer.SNAPs) > 0:
			return offer.SNAPs[0].IAs[0], nil
		case len(offer.Routers) > 0:
			return offer.Routers[0].IA, nil
		default:
			errs = append(errs, fmt.Errorf("the endhost API %s offers no AS", api.URL()))
		}
	}
	return 0, errors.Join(errs...)
}

// allowsToken returns an error if a token must not be sent to u: it goes to
// the hosts of the endhost APIs and to those that the user named.
func (cfg *NetworkConfig) allowsToken(u *url.URL) error {
	host := strings.ToLower(u.Hostname())
	for _, s := range cfg.EndhostAPIs {
		if api, err := url.Parse(s); err == nil && strings.EqualFold(api.Hostname(), host) {
			return nil
		}
	}
	if slices.ContainsFunc(cfg.SNAPHosts, func(s string) bool { return strings.EqualFold(s, host) }) {
		return nil
	}
	return fmt.Errorf("%s is sent no token unless you say --snap-host %s", host, host)
}
