package snapproxy

import (
	"slices"
	"time"

	"github.com/snapproxy/snapproxy/scion"
)

const (
	// maxKnownNames bounds the names whose answers are remembered.
	maxKnownNames = 256
	// An answer is remembered for its time to live, but no longer than these.
	maxKnownFor   = time.Hour
	maxUnknownFor = 5 * time.Minute
)

// A knownName is what DNS said about a name: addresses, or why there are none.
type knownName struct {
	addrs []scion.Addr
	err   error
	until time.Time
}

// recall returns what is remembered of a name.
func (n *Names) recall(name string) (knownName, bool) {
	now := n.cfg.clock()
	n.mu.Lock()
	defer n.mu.Unlock()
	k, ok := n.known[name]
	if ok && !now.Before(k.until) {
		delete(n.known, name)
		return knownName{}, false
	}
	k.addrs = slices.Clone(k.addrs)
	return k, ok
}

// remember keeps an answer for ttl. If there are too many, the one that is over
// first makes room.
func (n *Names) remember(name string, addrs []scion.Addr, err error, ttl time.Duration) {
	if err != nil {
		ttl = min(ttl, maxUnknownFor)
	}
	ttl = min(ttl, maxKnownFor)
	if ttl <= 0 {
		return
	}
	k := knownName{slices.Clone(addrs), err, n.cfg.clock().Add(ttl)}
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, ok := n.known[name]; !ok && len(n.known) >= maxKnownNames {
		var first string
		for other, o := range n.known {
			if first == "" || o.until.Before(n.known[first].until) {
				first = other
			}
		}
		delete(n.known, first)
	}
	n.known[name] = k
}
