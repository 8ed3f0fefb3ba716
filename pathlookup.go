package snapproxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"syscall"

	"github.com/snapproxy/snapproxy/scion"
	"github.com/snapproxy/snapproxy/scion/endhost"
)

// A pathLookup finds the routes to other ASes: at the endhost APIs, tried in
// order, or at the control service that a topology names.
type pathLookup struct {
	apis    []*endhost.Client
	control *endhost.ControlService
}

func newPathLookup(cfg NetworkConfig, logger *slog.Logger) (*pathLookup, error) {
	l := &pathLookup{}
	for _, s := range cfg.EndhostAPIs {
		u, err := endhost.ParseURL(s)
		if err != nil {
			return nil, err
		}
		c := endhost.ClientConfig{URL: u, Proxy: cfg.APIProxy, Logger: logger}
		if cfg.Token != nil {
			c.Token = cfg.Token.Token
		}
		client, err := endhost.NewClient(c)
		if err != nil {
			return nil, err
		}
		l.apis = append(l.apis, client)
	}
	if t := cfg.Topology; t != nil {
		l.control = endhost.NewControlService(t.ControlServices, t.IA, t.Core)
	}
	return l, nil
}

// routes looks up the routes from an AS of ours to another.
func (l *pathLookup) routes(ctx context.Context, src, dst scion.IA) ([]*scion.Route, error) {
	if l.control != nil {
		return l.control.Routes(ctx, src, dst)
	}
	if len(l.apis) == 0 {
		return nil, fmt.Errorf("no path to %s: only an endhost API or a topology finds paths to other ASes: %w", dst, syscall.ENETUNREACH)
	}
	var errs []error
	for _, api := range l.apis {
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
func (l *pathLookup) source(ctx context.Context, cfg NetworkConfig) (scion.IA, error) {
	if cfg.Topology != nil {
		return cfg.Topology.IA, nil
	}
	if !cfg.IA.IsZero() {
		return cfg.IA, nil
	}
	var errs []error
	for _, api := range l.apis {
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
	return fmt.Errorf("the endhost API names a SNAP at %s, which is sent no token unless you say --snap-host %s", host, host)
}
