package snapproxy

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/snapproxy/snapproxy/scion"
	"github.com/snapproxy/snapproxy/scion/endhost"
)

// relistInterval is how often the routers of an endhost API are listed again.
const relistInterval = 10 * time.Minute

// runDirect attaches to the routers of an AS until ctx ends.
func (a *attachment) runDirect(ctx context.Context, deliver func(packets [][]byte) error) error {
	at, ok := a.firstRouters(ctx)
	if !ok {
		return nil
	}
	local, err := a.localAddr(at.routers)
	if err != nil {
		return err
	}
	a.cfg.Bind = netip.AddrPortFrom(local, a.cfg.Bind.Port())
	udp, err := a.listen(local)
	if err != nil {
		return err
	}
	defer udp.Close()
	direct := scion.NewDirect(scion.DirectConfig{
		Carrier: udp, IA: at.ia, Routers: at.routers, ASHosts: a.cfg.ASHosts, Logger: a.logger,
	})
	a.below.Store(&below{direct.WritePackets, direct.Counters})
	defer a.below.Store(nil)
	bound := udp.LocalAddr()
	a.notify(attached{
		up: true, via: at.ia.String(),
		local: scion.Addr{IA: at.ia, Host: bound.Addr(), Port: bound.Port()},
	})

	g := newGroup(ctx)
	g.Go(func() error { return direct.Run(g.ctx, deliver) })
	if a.cfg.Topology == nil {
		g.Go(func() error { a.relist(g.ctx, at.ia, direct); return nil })
	}
	return g.wait()
}

// routersOf are the routers of an AS.
type routersOf struct {
	ia      scion.IA
	routers *scion.Routers
}

// firstRouters returns the routers to attach to, once somebody names some.
func (a *attachment) firstRouters(ctx context.Context) (routersOf, bool) {
	if t := a.cfg.Topology; t != nil {
		return routersOf{t.IA, t.RouterTable()}, true
	}
	for wait := firstRound; ; wait = min(2*wait, lastRound) {
		at, err := a.listRouters(ctx, a.cfg.IA)
		if err == nil {
			a.blame(nil)
			return at, true
		}
		a.blame(err)
		if ctx.Err() == nil {
			a.logger.Warn("not attached", "error", err, "again_in", wait)
		}
		if !pause(ctx, wait) {
			return routersOf{}, false
		}
	}
}

// listRouters asks the endhost APIs, in their order, for the routers of an AS.
func (a *attachment) listRouters(ctx context.Context, ia scion.IA) (at routersOf, err error) {
	err = a.lookup.each(ctx, func(api *endhost.Client) (bool, error) {
		ask, cancel := context.WithTimeout(ctx, askLimit)
		offer, err := api.Underlays(ask, ia)
		cancel()
		if err == nil {
			at, err = tableOf(offer.Routers, ia)
		}
		if err != nil {
			return false, fmt.Errorf("endhost API %s: %w", api.URL(), err)
		}
		return true, nil
	})
	if at.routers != nil {
		err = nil
	}
	return at, err
}

// tableOf makes the table of the routers of ia, or if that is a wildcard of
// the first AS.
func tableOf(routers []endhost.Router, ia scion.IA) (routersOf, error) {
	if len(routers) == 0 {
		return routersOf{}, errors.New("it names no routers")
	}
	if ia.IsWildcard() {
		ia = routers[0].IA
	}
	owners := make(map[uint16]netip.AddrPort)
	for _, r := range routers {
		if r.IA != ia {
			continue
		}
		for _, id := range r.Interfaces {
			owners[id] = r.Addr
		}
	}
	table, err := scion.NewRouters(owners)
	return routersOf{ia, table}, err
}

// relist keeps the routers up to date.
func (a *attachment) relist(ctx context.Context, ia scion.IA, direct *scion.Direct) {
	for pause(ctx, relistInterval) {
		at, err := a.listRouters(ctx, ia)
		if err != nil {
			a.logger.Warn("routers not listed again", "error", err)
			continue
		}
		direct.SetRouters(at.routers)
	}
}

// localAddr returns the address of the host: the one to bind or, if there is
// none, the source towards a router.
func (a *attachment) localAddr(routers *scion.Routers) (netip.Addr, error) {
	addrs := routers.Addrs()
	ip := a.cfg.Bind.Addr()
	switch {
	case len(addrs) == 0 && (!ip.IsValid() || ip.IsUnspecified()):
		return netip.Addr{}, errors.New("the AS has no router")
	case !ip.IsValid() || ip.IsUnspecified():
		return sourceTowards(addrs[0])
	case len(addrs) > 0 && !slices.ContainsFunc(addrs, func(r netip.AddrPort) bool { return r.Addr().Is4() == ip.Is4() }):
		return netip.Addr{}, &bindError{fmt.Errorf("bind %s: no router is reached from there: theirs are addresses of another family", ip)}
	}
	return ip, nil
}
