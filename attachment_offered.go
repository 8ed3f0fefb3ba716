package snapproxy

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/snapproxy/snapproxy/scion"
	"github.com/snapproxy/snapproxy/scion/endhost"
	"github.com/snapproxy/snapproxy/tunnel"
	"github.com/snapproxy/snapproxy/tunnel/control"
)

const (
	// answerLimit is how long handshakes may stay unanswered before the key is
	// registered anew and the socket replaced (snap.md §3.8).
	answerLimit = 16 * time.Second
	// registerAgain is how often the key is registered while handshakes are not
	// answered.
	registerAgain = 4 * time.Second
	// askLimit bounds a request to a SNAP or an endhost API.
	askLimit = 10 * time.Second
	// While nothing answers at all, the APIs are asked again after one second,
	// doubling to 30.
	firstRound, lastRound = time.Second, 30 * time.Second
)

// errUnanswered ends a tunnel whose handshakes are not answered.
var errUnanswered = errors.New("handshakes are not answered")

// runOffered attaches to the SNAPs that the endhost APIs offer, in their
// order, until ctx ends.
func (a *attachment) runOffered(ctx context.Context, deliver func(packets [][]byte) error) error {
	for wait := firstRound; ctx.Err() == nil; {
		used, fatal := false, error(nil)
		err := a.lookup.each(ctx, func(api *endhost.Client) (done bool, err error) {
			used, err = a.attachThrough(ctx, api, deliver)
			if errors.As(err, new(*bindError)) {
				fatal = err
			}
			return used || fatal != nil || ctx.Err() != nil, err // then begin with the first again
		})
		switch {
		case ctx.Err() != nil:
			return nil
		case fatal != nil:
			return fatal
		case used:
			wait = firstRound
			pause(ctx, wait)
			continue
		}
		a.blame(err)
		a.logger.Warn("not attached", "error", err, "again_in", wait)
		if pause(ctx, wait) {
			wait = min(2*wait, lastRound)
		}
	}
	return nil
}

// attachThrough tries the SNAPs of an endhost API one after the other, each
// until it does not answer. It reports whether a tunnel stood, and the last
// error.
func (a *attachment) attachThrough(ctx context.Context, api *endhost.Client, deliver func([][]byte) error) (up bool, err error) {
	ask, cancel := context.WithTimeout(ctx, askLimit)
	offer, err := api.Underlays(ask, a.cfg.IA)
	cancel()
	if err != nil && !a.cfg.IA.IsZero() {
		err = fmt.Errorf("for %s: %w", a.cfg.IA, err)
	}
	if err != nil {
		return false, err
	}
	if len(offer.SNAPs) == 0 {
		return false, a.nothingOffered(api, offer)
	}
	for _, snap := range offer.SNAPs {
		var stood bool
		stood, err = a.attachTo(ctx, snap, offer.Scope, deliver)
		up = up || stood
		if ctx.Err() != nil || errors.As(err, new(*bindError)) {
			return up, err
		}
		a.logger.Warn("SNAP left", "snap", snap.URL, "error", err)
	}
	return up, err
}

func (a *attachment) nothingOffered(api *endhost.Client, offer endhost.Underlays) error {
	where := ""
	if !a.cfg.IA.IsZero() {
		where = fmt.Sprintf(" for %s", a.cfg.IA)
	}
	if len(offer.Routers) > 0 {
		return fmt.Errorf("the endhost API %s offers no SNAP%s, but routers: say --underlay udp", api.URL(), where)
	}
	return fmt.Errorf("the endhost API %s offers no SNAP%s", api.URL(), where)
}

// attachTo registers the key at a SNAP and runs a tunnel to it until it does
// not answer. If it did not even at first, another port is tried: the SNAP may
// hold ours for another key.
func (a *attachment) attachTo(ctx context.Context, snap endhost.SNAP, scope endhost.Scope, deliver func([][]byte) error) (up bool, err error) {
	cfg := control.ClientConfig{URL: snap.URL, Proxy: a.cfg.APIProxy, Allow: a.cfg.allowsToken, Logger: a.logger}
	if a.cfg.Token != nil {
		cfg.Token = a.cfg.Token.Token
	}
	client, err := control.NewClient(cfg)
	if err != nil {
		return false, err
	}
	defer client.Close()
	up, err = a.attachOnce(ctx, client, snap, scope, deliver)
	if up || a.cfg.Bind.Port() != 0 || !errors.Is(err, errUnanswered) {
		return up, err
	}
	kept := a.port
	a.port = 0
	if up, err = a.attachOnce(ctx, client, snap, scope, deliver); !up {
		a.port = kept // the address of an exit
	}
	return up, err
}

// choose returns the AS to be in, of those that a SNAP serves.
func (a *attachment) choose(ias []scion.IA) scion.IA {
	for _, ia := range ias {
		if ia == a.cfg.IA {
			return ia
		}
	}
	return ias[0]
}

// attachOnce registers the key and runs one tunnel with a socket of its own. It
// reports whether the tunnel stood.
func (a *attachment) attachOnce(ctx context.Context, client *control.Client, snap endhost.SNAP, scope endhost.Scope, deliver func([][]byte) error) (stood bool, err error) {
	ask, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	plane, err := client.DataPlane(ask)
	if err != nil {
		return false, err
	}
	if err := scope.Permits(plane.Addr.Addr()); err != nil {
		return false, fmt.Errorf("SNAP %s: data plane: %w", snap.URL, err)
	}
	t := snapTarget{name: plane.Addr.String(), key: plane.Key, ia: a.choose(snap.IAs), addr: plane.Addr}
	registrar := control.NewRegistrar(control.RegistrarConfig{Client: client, Key: a.key.PublicKey(), Tokens: a.cfg.Token, Logger: a.logger})
	if err := registrar.Register(ask); err != nil {
		return false, err
	}
	a.try(t.name)
	select {
	case <-a.down: // of the tunnel before
	default:
	}
	err = a.runTunnel(ctx, t, deliver, func(ctx context.Context, conn *tunnel.Conn[netip.AddrPort]) error {
		g := newGroup(ctx)
		g.Go(func() error { return registrar.Run(g.ctx) })
		g.Go(func() error { return a.watch(g.ctx, conn, registrar, &stood) })
		return g.wait()
	})
	if errors.Is(err, errUnanswered) {
		a.notify(attached{via: t.name})
		err = fmt.Errorf("SNAP %s: %w", snap.URL, err)
	}
	return stood, err
}

// watch returns errUnanswered when a tunnel did not answer for answerLimit.
// A SNAP that was restarted has forgotten the key, so it is registered again as
// soon as the tunnel is down, and every few seconds, for the SNAP that took the
// first may be the one that was about to end.
func (a *attachment) watch(ctx context.Context, conn *tunnel.Conn[netip.AddrPort], registrar *control.Registrar, stood *bool) error {
	gone := time.Now().Add(answerLimit) // unless it is up by then
	again := time.NewTicker(registerAgain)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-a.down:
			*stood = true
			gone = time.Now().Add(answerLimit)
			again.Reset(registerAgain)
		case <-again.C:
			switch {
			case conn.Status().Up:
				*stood = true
				again.Stop() // until it is down
				continue
			case !time.Now().Before(gone):
				return errUnanswered
			}
		}
		if err := a.registerFor(ctx, registrar, registerAgain); err != nil {
			registrar.Again() // and tell
			continue
		}
		conn.Initiate()
	}
}

// registerFor registers the key within a time.
func (a *attachment) registerFor(ctx context.Context, r *control.Registrar, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return r.Register(ctx)
}
