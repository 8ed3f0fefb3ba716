package scion

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
)

// Routers says which border router of an AS owns which interface. It does not
// change once it is made. The nil *Routers is empty.
type Routers struct {
	owners map[uint16]netip.AddrPort
	known  map[netip.AddrPort]struct{}
	addrs  []netip.AddrPort
}

var (
	errInterfaceZero = errors.New("there is no interface 0")
	errRouterAddr    = errors.New("packets cannot be sent there")
)

// NewRouters makes a table of the internal addresses of the routers that own
// interfaces. The map is not kept. Addresses must be ones that datagrams can be
// sent to.
func NewRouters(owners map[uint16]netip.AddrPort) (*Routers, error) {
	clean := make(map[uint16]netip.AddrPort, len(owners))
	for id, a := range owners {
		a = netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
		if id == 0 {
			return nil, errInterfaceZero
		}
		if err := checkRouter(a); err != nil {
			return nil, fmt.Errorf("router %s of interface %d: %w", a, id, err)
		}
		clean[id] = a
	}
	return newRouters(clean), nil
}

func newRouters(owners map[uint16]netip.AddrPort) *Routers {
	r := &Routers{owners: owners, known: make(map[netip.AddrPort]struct{})}
	for _, a := range owners {
		r.known[a] = struct{}{}
	}
	r.addrs = slices.SortedFunc(maps.Keys(r.known), netip.AddrPort.Compare)
	return r
}

// checkRouter holds that datagrams can be sent to an address.
func checkRouter(a netip.AddrPort) error {
	if a.Port() == 0 {
		return errRouterAddr
	}
	return checkHost(a.Addr())
}

// checkHost holds that an address is one host's.
func checkHost(ip netip.Addr) error {
	broadcast := netip.AddrFrom4([4]byte{255, 255, 255, 255})
	if !ip.IsValid() || ip.Is4In6() || ip.IsUnspecified() || ip.IsMulticast() || ip == broadcast {
		return errRouterAddr
	}
	return nil
}

// Owner returns the address of the router that owns an interface.
func (r *Routers) Owner(id uint16) (netip.AddrPort, bool) {
	if r == nil {
		return netip.AddrPort{}, false
	}
	a, ok := r.owners[id]
	return a, ok
}

// Has reports whether there is a router with exactly this address.
func (r *Routers) Has(a netip.AddrPort) bool {
	if r == nil {
		return false
	}
	_, ok := r.known[a]
	return ok
}

// Addrs returns the addresses of the routers in order, each once. The slice is
// the table's own.
func (r *Routers) Addrs() []netip.AddrPort {
	if r == nil {
		return nil
	}
	return r.addrs
}
