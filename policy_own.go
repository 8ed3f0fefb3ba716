package snapproxy

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

const (
	// ownMemory is how long is believed whether an address is the host's. To ask
	// takes a tenth of the CPU time of a short connection.
	ownMemory = time.Second
	// maxOwnMemory bounds the addresses of which it is remembered.
	maxOwnMemory = 1024
)

// ownAddrs tells which addresses are the host's. It may be used concurrently.
type ownAddrs struct {
	ask func(netip.Addr) bool

	mu    sync.Mutex // guards what follows; not held while asking
	known map[netip.Addr]ownAnswer
}

type ownAnswer struct {
	own bool
	at  time.Time
}

// has reports whether ip is an address of the host, or was a moment ago.
func (o *ownAddrs) has(ip netip.Addr, now time.Time) bool {
	o.mu.Lock()
	a, ok := o.known[ip]
	o.mu.Unlock()
	if ok && now.Sub(a.at) < ownMemory {
		return a.own
	}
	own := o.ask(ip)
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.known == nil || len(o.known) >= maxOwnMemory {
		o.known = make(map[netip.Addr]ownAnswer)
	}
	o.known[ip] = ownAnswer{own, now}
	return own
}

// isOwn reports whether ip is an address of this host: a socket connected to
// an own address has that address at both ends. Nothing is sent. (Listing the
// interfaces instead would open a netlink socket.)
func isOwn(ip netip.Addr) bool {
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(ip, 9)))
	if err != nil {
		return false
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap() == ip.Unmap()
}
