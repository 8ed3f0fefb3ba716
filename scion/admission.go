package scion

import (
	"errors"
	"slices"
)

var (
	errNoRoute         = errors.New("no route")
	errRouteEnds       = errors.New("it is between other ASes")
	errRoutePath       = errors.New("it has no path")
	errRouteBegun      = errors.New("its path does not begin at the source")
	errRouteInterfaces = errors.New("its interfaces are not those of its path")
	errRouteLoop       = errors.New("it enters an AS twice")
)

// check returns a copy of a route with its expiry filled in, or what is wrong
// with it.
func (p *Paths) check(r *Route) (*Route, error) {
	switch {
	case r == nil:
		return nil, errNoRoute
	case r.Dst != p.cfg.Dst || r.Src.IsWildcard() || !p.cfg.Src.IsZero() && r.Src != p.cfg.Src:
		return nil, errRouteEnds
	case (r.Path == nil) != (r.Src == r.Dst):
		return nil, errRoutePath
	}
	if err := r.checkInterfaces(); err != nil {
		return nil, err
	}
	c := *r
	c.Interfaces = slices.Clone(r.Interfaces)
	if e := r.Path.Expiry(); r.Path != nil && (c.Expiry.IsZero() || e.Before(c.Expiry)) {
		c.Expiry = e
	}
	c.MTU = min(c.MTU, maxHeaderLen+maxPayload)
	return &c, nil
}

// checkInterfaces holds the interfaces against the path and the ASes at its
// ends.
func (r *Route) checkInterfaces() error {
	n := len(r.Interfaces)
	if r.Path == nil {
		if n != 0 {
			return errRouteInterfaces
		}
		return nil
	}
	var ids [2 * maxHops]uint16
	if m := mustParseMeta([]byte(r.Path.raw)); m.currHF != 0 || m.currINF != 0 {
		return errRouteBegun
	}
	if n != r.Path.crossed(&ids) || n == 0 || n%2 != 0 || r.Interfaces[0].IA != r.Src || r.Interfaces[n-1].IA != r.Dst {
		return errRouteInterfaces
	}
	var entered []IA
	for i, at := range r.Interfaces {
		switch {
		case at.ID != ids[i]:
			return errRouteInterfaces
		case i%2 == 0 && i > 0 && at.IA != r.Interfaces[i-1].IA:
			return errRouteInterfaces
		case i%2 == 0 && slices.Contains(entered, at.IA):
			return errRouteLoop
		case i%2 == 0:
			entered = append(entered, at.IA)
		}
	}
	if slices.Contains(entered, r.Dst) {
		return errRouteLoop
	}
	return nil
}
