package snapproxy

import (
	"errors"
	"net/netip"
	"sync"

	"github.com/snapproxy/snapproxy/tunnel/snaptun"
)

// maxTunnelsEach is how many tunnels of one key have a port towards the
// network: who may attach should not take them all.
const maxTunnelsEach = 1024

var errTooManyTunnels = errors.New("its key has too many tunnels")

// snapTunnels are the tunnels that stand, by origin. The zero value is empty.
type snapTunnels struct {
	mu    sync.Mutex // guards what follows
	keys  map[netip.AddrPort]snaptun.PublicKey
	count map[snaptun.PublicKey]int
}

// add counts a tunnel in. It reports whether its key may have one more.
func (t *snapTunnels) add(origin netip.AddrPort, key snaptun.PublicKey) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.keys == nil {
		t.keys, t.count = make(map[netip.AddrPort]snaptun.PublicKey), make(map[snaptun.PublicKey]int)
	}
	t.takeOut(origin)
	if t.count[key] >= maxTunnelsEach {
		return false
	}
	t.keys[origin] = key
	t.count[key]++
	return true
}

// remove counts the tunnel at an origin out, if it was counted in.
func (t *snapTunnels) remove(origin netip.AddrPort) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.takeOut(origin)
}

// takeOut is remove with mu held.
func (t *snapTunnels) takeOut(origin netip.AddrPort) {
	key, ok := t.keys[origin]
	if !ok {
		return
	}
	delete(t.keys, origin)
	if t.count[key]--; t.count[key] == 0 {
		delete(t.count, key)
	}
}

// has reports whether a tunnel at an origin was counted in.
func (t *snapTunnels) has(origin netip.AddrPort) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, ok := t.keys[origin]
	return ok
}
