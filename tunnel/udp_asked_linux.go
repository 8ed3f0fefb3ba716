package tunnel

import (
	"net/netip"
	"sync"
)

// maxAsked bounds one generation of remembered addresses.
const maxAsked = 1 << 15

// askedAddrs remembers which of our addresses a remote last sent to, so that we
// answer from it. There are two generations, the older of which is dropped when
// the newer is full: a flood of forged sources costs a bounded amount, and who
// keeps sending is not forgotten.
type askedAddrs struct {
	mu       sync.RWMutex // guards what follows
	new, old map[netip.AddrPort]netip.Addr
}

// note remembers that remote sent to local.
func (t *askedAddrs) note(remote netip.AddrPort, local netip.Addr) {
	t.mu.RLock()
	known := t.new[remote] == local
	t.mu.RUnlock()
	if known {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.new == nil || len(t.new) >= maxAsked {
		t.old, t.new = t.new, make(map[netip.AddrPort]netip.Addr)
	}
	t.new[remote] = local
}

// local returns the address that remote sent to, the zero Addr if it is not
// known.
func (t *askedAddrs) local(remote netip.AddrPort) netip.Addr {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if a, ok := t.new[remote]; ok {
		return a
	}
	return t.old[remote]
}

// forget drops what is known about remote.
func (t *askedAddrs) forget(remote netip.AddrPort) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.new, remote)
	delete(t.old, remote)
}
