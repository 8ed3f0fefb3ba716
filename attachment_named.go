package snapproxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/snapproxy/snapproxy/tunnel"
)

// resolveInterval is how often the name of a SNAP that does not answer is
// looked up again.
const resolveInterval = 5 * time.Second

// runNamed attaches to the one SNAP that the configuration names.
func (a *attachment) runNamed(ctx context.Context, deliver func(packets [][]byte) error) error {
	t := snapTarget{name: a.cfg.SNAP, key: a.cfg.SNAPKey, ia: a.cfg.IA}
	a.try(t.name)
	for {
		var err error
		if t.addr, err = a.resolveSNAP(ctx, a.cfg.Bind.Addr()); err == nil {
			break
		}
		a.logger.Warn("SNAP has no address", "error", err)
		if !pause(ctx, resolveInterval) {
			return nil
		}
	}
	return a.runTunnel(ctx, t, deliver, func(ctx context.Context, conn *tunnel.Conn[netip.AddrPort]) error {
		a.follow(ctx, conn, t.addr)
		return nil
	})
}

// follow looks the SNAP up again while it does not answer.
func (a *attachment) follow(ctx context.Context, conn *tunnel.Conn[netip.AddrPort], at netip.AddrPort) {
	if _, err := netip.ParseAddrPort(a.cfg.SNAP); err == nil {
		return
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.down:
		}
		for ctx.Err() == nil && !conn.Status().Up {
			if peer, err := a.resolveSNAP(ctx, at.Addr()); err == nil && peer != at {
				a.logger.Info("SNAP moved", "address", peer)
				at = peer
				conn.SetPeer(peer)
			}
			pause(ctx, resolveInterval)
		}
	}
}

// resolveSNAP returns the SNAP's address, of the family given if it is valid.
func (a *attachment) resolveSNAP(ctx context.Context, family netip.Addr) (netip.AddrPort, error) {
	peer, err := lookupSNAP(ctx, a.cfg.SNAP, family)
	if err != nil {
		a.blame(fmt.Errorf("the SNAP cannot be found: %w", err))
	} else {
		a.blame(nil)
	}
	return peer, err
}

func lookupSNAP(ctx context.Context, snap string, family netip.Addr) (netip.AddrPort, error) {
	host, service, err := net.SplitHostPort(snap)
	if err != nil {
		return netip.AddrPort{}, err
	}
	port, err := net.DefaultResolver.LookupPort(ctx, "udp", service)
	if err != nil {
		return netip.AddrPort{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*resolveInterval)
	defer cancel()
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return netip.AddrPort{}, err
	}
	for _, ip := range addrs {
		ip = ip.Unmap()
		if !family.IsValid() || ip.Is4() == family.Is4() {
			return netip.AddrPortFrom(ip, uint16(port)), nil
		}
	}
	return netip.AddrPort{}, errors.New("lookup " + host + ": no address of the socket's family")
}

// pause waits for d and reports whether ctx has not ended.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
