package snapproxy

import (
	"context"

	"github.com/snapproxy/snapproxy/scion"
)

// runWithin is a host of a SNAP in this process until ctx ends.
func (a *attachment) runWithin(ctx context.Context, deliver func(packets [][]byte) error) error {
	snap := a.cfg.Within
	r, err := snap.house(a.cfg.Bind, deliver)
	if err != nil {
		return &bindError{err}
	}
	a.six.Store(snap.Addr().Addr().Is6())
	a.below.Store(&below{r.WritePackets, r.counters})
	defer a.below.Store(nil)
	a.notify(attached{
		up: true, via: snap.Addr().String(),
		local: scion.Addr{IA: snap.IA(), Host: r.port.addr.Addr(), Port: r.port.addr.Port()},
	})
	return r.Run(ctx)
}
