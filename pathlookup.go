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

// apis returns the endhost APIs that are known, in the order to try them.
func (l *pathLookup) apis() []*endhost.Client {
	if more := l.discovered.Load(); more != nil {
		return slices.Concat(l.named, *more)
	}
	return l.named
}

// each calls f with one endhost API after the other until one has done it:
// those of the configuration, then those that a discovery names. It returns all
// errors if none has.
func (l *pathLookup) each(ctx context.Context, f func(api *endhost.Client) (done bool, err error)) error {
	var errs []error
	try := func(apis []*endhost.Client) (done bool) {
		for _, api := range apis {
			done, err := f(api)
			if done {
				return true
			}
			errs = append(errs, err)
		}
		return false
	}
	if try(l.named) || len(l.cfg.Discovery) == 0 {
		return errors.Join(errs...)
	}
	ask, cancel := context.WithTimeout(ctx, askLimit)
	more, err := l.discover(ask)
	cancel()
	if err != nil {
		errs = append(errs, err)
	}
	try(more)
	return errors.Join(errs...)
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

// discover asks for more endhost APIs, the first service that knows some, and
// returns those of the time before if none does.
func (l *pathLookup) discover(ctx context.Context) ([]*endhost.Client, error) {
	var errs []error
	for _, s := range l.cfg.Discovery {
		u, err := endhost.ParseURL(s)
		if err != nil {
			return nil, err
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
		if len(more) == 0 {
			continue
		}
		if old := l.discovered.Swap(&more); old != nil {
			for _, c := range *old {
				c.Close()
			}
		}
		return more, nil
	}
	if old := l.discovered.Load(); old != nil {
		return *old, errors.Join(errs...)
	}
	return nil, errors.Join(errs...)
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
	var found scion.IA
	err := l.each(ctx, func(api *endhost.Client) (bool, error) {
		offer, err := api.Underlays(ctx, 0)
		switch {
		case err != nil:
			return false, err
		case len(offer.SNAPs) > 0:
			found = offer.SNAPs[0].IAs[0]
		case len(offer.Routers) > 0:
			found = offer.Routers[0].IA
		default:
			return false, fmt.Errorf("the endhost API %s offers no AS", api.URL())
		}
		return true, nil
	})
	if !found.IsZero() {
		err = nil
	}
	return found, err
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
