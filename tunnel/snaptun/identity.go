package snaptun

import (
	"container/list"
	"slices"
	"time"
)

const (
	// stampLag is how far the clocks of machines that share a key may differ.
	stampLag = 60 // seconds
	// maxRecent is how many initiations of one key within stampLag are told apart;
	// with more, lagging ones are refused until their next attempt.
	maxRecent = 64
	// maxHalfOpenOwn is how many newcomers of one key may wait.
	maxHalfOpenOwn = 16

	// identityMemory is how long timestamps are known after the last peer of a key
	// is gone. It ends, because a clock that was once set to the far future would
	// otherwise lock its owner out for good.
	identityMemory = time.Hour
	maxIdle        = 1 << 16
)

// An identity is what is known of a static key: which of its initiations were
// seen, wherever they came from, and which of its addresses are unconfirmed.
type identity[A comparable] struct {
	key    PublicKey
	shared digest // X25519 of the two static keys

	newest stamp
	floor  stamp   // nothing up to here is accepted
	recent []stamp // accepted not longer than stampLag before newest

	peers     int
	halfOpen  []*Peer[A] // oldest first
	idle      *list.Element
	idleSince instant
}

// check refuses an initiation seen before, and one too old to tell whether it
// was. Machines that share the key need not agree on the time exactly.
func (id *identity[A]) check(s stamp) error {
	switch {
	case slices.Contains(id.recent, s):
		return ErrReplay
	case !id.floor.before(s), s.before(id.newest.minus(stampLag)):
		return ErrStaleInitiation
	}
	return nil
}

// record remembers an initiation that check has let pass.
func (id *identity[A]) record(s stamp) {
	if id.newest.before(s) {
		id.newest = s
	}
	oldest := id.newest.minus(stampLag)
	id.recent = slices.DeleteFunc(id.recent, func(r stamp) bool { return r.before(oldest) })
	if len(id.recent) >= maxRecent {
		i := 0
		for j, r := range id.recent {
			if r.before(id.recent[i]) {
				i = j
			}
		}
		if id.floor.before(id.recent[i]) {
			id.floor = id.recent[i]
		}
		id.recent = slices.Delete(id.recent, i, i+1)
	}
	id.recent = append(id.recent, s)
}

// identities holds the identities of a Responder: those with peers, and for a
// while those that had some.
type identities[A comparable] struct {
	known map[PublicKey]*identity[A]
	idle  list.List // longest first
}

// get returns the identity of a key, nil if none is remembered.
func (ids *identities[A]) get(key PublicKey, now instant) *identity[A] {
	id := ids.known[key]
	if id != nil && id.idle != nil && now.since(id.idleSince) >= identityMemory {
		ids.forget(id)
		return nil
	}
	return id
}

func (ids *identities[A]) add(key PublicKey, shared digest, now instant) *identity[A] {
	for e := ids.idle.Front(); e != nil; e = ids.idle.Front() {
		id := e.Value.(*identity[A])
		if ids.idle.Len() < maxIdle && now.since(id.idleSince) < identityMemory {
			break
		}
		ids.forget(id)
	}
	id := &identity[A]{key: key, shared: shared}
	ids.known[key] = id
	return id
}

func (ids *identities[A]) forget(id *identity[A]) {
	ids.idle.Remove(id.idle)
	delete(ids.known, id.key)
}

// join counts a peer of an identity.
func (ids *identities[A]) join(id *identity[A]) {
	if id.idle != nil {
		ids.idle.Remove(id.idle)
		id.idle = nil
	}
	id.peers++
}

// leave takes back a join.
func (ids *identities[A]) leave(id *identity[A], now instant) {
	if id.peers--; id.peers == 0 {
		id.idleSince = now
		id.idle = ids.idle.PushBack(id)
	}
}
