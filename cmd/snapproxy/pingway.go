package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"syscall"
	"time"

	"github.com/snapproxy/snapproxy"
	"github.com/snapproxy/snapproxy/scion"
)

// A pingWay is the path that ping takes to a host: the best of those that the
// policy allows, until it is about to expire.
type pingWay struct {
	host    *snapproxy.Host
	network snapproxy.NetworkConfig
	to      scion.Addr
	route   *scion.Route // nil: the host is in our AS
	tried   time.Time    // when another was looked up last
}

// findWay returns the way to the first of the addresses to which there is one.
func findWay(ctx context.Context, host *snapproxy.Host, network snapproxy.NetworkConfig, addrs []scion.Addr) (*pingWay, error) {
	var errs []error
	for _, to := range addrs {
		w := &pingWay{host: host, network: network, to: to}
		err := w.find(ctx)
		if err == nil {
			return w, nil
		}
		if errs = append(errs, err); ctx.Err() != nil {
			break
		}
	}
	return nil, errors.Join(errs...)
}

// find looks a path up.
func (w *pingWay) find(ctx context.Context) error {
	src := w.host.Addr().IA
	if src == w.to.IA {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, pingLookup)
	defer cancel()
	routes, err := snapproxy.LookupPaths(ctx, w.network, src, w.to.IA)
	if err != nil {
		return err
	}
	if len(routes) == 0 {
		return fmt.Errorf("no path from %s to %s that %s allows: %w", src, w.to.IA, w.network.PathPolicy, syscall.ENETUNREACH)
	}
	w.route = routes[0]
	w.to.Path = w.route.Path
	return nil
}

// next returns where the next request goes. It says so if that is another way
// than before.
func (w *pingWay) next(ctx context.Context, out io.Writer) scion.Addr {
	if w.route == nil {
		return w.to
	}
	end, now := expiry(w.route), time.Now()
	if end.IsZero() || end.Sub(now) > renewBefore || now.Sub(w.tried) < renewEvery {
		return w.to
	}
	w.tried = now
	before := w.route
	if err := w.find(ctx); err != nil {
		fmt.Fprintf(out, "path not renewed: %v\n", err)
	} else if w.route.String() != before.String() {
		w.print(out)
	}
	return w.to
}

func (w *pingWay) print(out io.Writer) {
	if w.route == nil {
		fmt.Fprintf(out, "no path is needed inside %s\n", w.to.IA)
		return
	}
	fmt.Fprintf(out, "path %s, MTU %d, %s\n", w.route, w.mtu(), expires(w.route, time.Now()))
}

// mtu returns the largest packet that passes.
func (w *pingWay) mtu() int {
	mtu := w.host.MTU()
	if w.route != nil && w.route.MTU > 0 {
		mtu = min(mtu, w.route.MTU)
	}
	return mtu
}

// packet returns the length of a request with so much payload.
func (w *pingWay) packet(size int) int { return w.host.HeaderSize(w.to) + pingHeader + size }

// fits refuses a payload that is too large for the path.
func (w *pingWay) fits(size int) error {
	length, mtu := w.packet(size), w.mtu()
	if length <= mtu {
		return nil
	}
	err := fmt.Errorf("%d bytes make a packet of %d, and the path takes %d (want at most %d)", size, length, mtu, size-(length-mtu))
	if size-(length-mtu) < 0 {
		err = errors.New("the path takes no packet with an echo request")
	}
	return &settingError{"--size", err}
}
