package control

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/snapproxy/snapproxy/tunnel/snaptun"
)

const (
	// defaultBindings bounds the bindings of a Registry by default.
	defaultBindings = 1 << 16
	// purgePeriod is how often expired bindings are removed.
	purgePeriod = 30 * time.Second
	shardCount  = 256
)

// RegistryConfig configures a Registry.
type RegistryConfig struct {
	// MaxBindings bounds how many bindings there are. If zero, it is 65,536.
	MaxBindings int
	// Verifier says which tokens are good no more: Run removes their bindings.
	// If nil, bindings end by their expiry and by Revoke only.
	Verifier *Verifier
	// Logger receives that keys come and go, at level debug. If nil, nothing is
	// logged.
	Logger *slog.Logger
}

// A Registry holds the keys that tokens were registered with. Each token binds
// one key at a time, a key may be bound by several tokens, and is authorized
// while any of them lives. So who registers somebody else's key takes nothing
// away from him. (In the reference he does, snap.md §4.9.)
//
// Its methods may be called concurrently.
type Registry struct {
	cfg     RegistryConfig
	logger  *slog.Logger
	changed chan struct{} // the verifier has news
	// shards hold until when each key is authorized, by the key's last byte.
	// They are copied when they change, which happens once per token and hour.
	shards [shardCount]atomic.Pointer[map[snaptun.PublicKey]time.Time]

	mu       sync.Mutex // guards what follows; never held while calling out, but to the verifier's snapshots
	bindings map[string]binding
	tokens   map[snaptun.PublicKey]map[string]struct{} // ids of the tokens that bind a key
}

// A binding is what a token's last registration made.
type binding struct {
	key    snaptun.PublicKey
	claims Claims
}

// NewRegistry returns an empty Registry. A Verifier can have several.
func NewRegistry(cfg RegistryConfig) *Registry {
	r := &Registry{
		cfg: cfg, logger: orDiscard(cfg.Logger), changed: make(chan struct{}, 1),
		bindings: make(map[string]binding), tokens: make(map[snaptun.PublicKey]map[string]struct{}),
	}
	if r.cfg.MaxBindings == 0 {
		r.cfg.MaxBindings = defaultBindings
	}
	for i := range r.shards {
		r.shards[i].Store(new(map[snaptun.PublicKey]time.Time))
	}
	if v := cfg.Verifier; v != nil {
		v.tell(r.changed)
	}
	return r
}

// Run removes bindings that have expired, and those whose token is revoked or
// whose signing key is trusted no more, until ctx ends.
func (r *Registry) Run(ctx context.Context) error {
	ticker := time.NewTicker(purgePeriod)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		case <-r.changed:
		}
		r.Purge(time.Now())
	}
}

func (r *Registry) shard(key snaptun.PublicKey) *atomic.Pointer[map[snaptun.PublicKey]time.Time] {
	return &r.shards[key[0]^key[len(key)-1]]
}

// Authorized reports whether key is bound by a token that has not expired at
// now. There is no leeway. It takes no lock and allocates nothing.
func (r *Registry) Authorized(key snaptun.PublicKey, now time.Time) bool {
	until, ok := (*r.shard(key).Load())[key]
	return ok && now.Before(until)
}

// Register binds key to the token with claims c, and removes what that token
// bound before. It returns ErrExpired if the token has expired at now, without
// any leeway, ErrRevoked, or ErrFull.
func (r *Registry) Register(c Claims, key snaptun.PublicKey, now time.Time) error {
	if !now.Before(c.Expires) {
		return ErrExpired
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cfg.Verifier != nil && !r.cfg.Verifier.holds(c) { // revoked since it was verified
		return ErrRevoked
	}
	old, bound := r.bindings[c.ID]
	if bound && old.key == key && old.claims.Expires.Equal(c.Expires) {
		r.bindings[c.ID] = binding{key, c}
		return nil
	}
	if !bound && len(r.bindings) >= r.cfg.MaxBindings {
		r.purge(now)
		if len(r.bindings) >= r.cfg.MaxBindings {
			return ErrFull
		}
	}
	if bound {
		r.remove(c.ID)
	}
	r.bindings[c.ID] = binding{key, c}
	ids := r.tokens[key]
	if ids == nil {
		ids = make(map[string]struct{})
		r.tokens[key] = ids
	}
	ids[c.ID] = struct{}{}
	r.publish(key)
	r.logger.Debug("identity registered", "identity", key, "token", c.ID, "subject", c.Subject, "name", c.Name, "until", c.Expires.UTC())
	return nil
}

// Revoke removes what the token with this id bound. It does not keep the token
// from being registered again.
func (r *Registry) Revoke(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.bindings[id]; ok {
		r.remove(id)
	}
}

// Purge does at once what Run does from time to time.
func (r *Registry) Purge(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.purge(now)
}

// Len returns the number of bindings, expired ones among them that are not yet
// removed.
func (r *Registry) Len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.bindings)
}

// purge, remove and publish are called with the lock held.
func (r *Registry) purge(now time.Time) {
	for id, b := range r.bindings {
		if !now.Before(b.claims.Expires) || r.cfg.Verifier != nil && !r.cfg.Verifier.holds(b.claims) {
			r.logger.Debug("identity unregistered", "identity", b.key, "token", id)
			r.remove(id)
		}
	}
}

func (r *Registry) remove(id string) {
	key := r.bindings[id].key
	delete(r.bindings, id)
	if ids := r.tokens[key]; len(ids) > 1 {
		delete(ids, id)
	} else {
		delete(r.tokens, key)
	}
	r.publish(key)
}

// publish makes what Authorized sees of key agree with the bindings.
func (r *Registry) publish(key snaptun.PublicKey) {
	var until time.Time
	for id := range r.tokens[key] {
		if e := r.bindings[id].claims.Expires; e.After(until) {
			until = e
		}
	}
	s := r.shard(key)
	old := *s.Load()
	if was, ok := old[key]; ok && was.Equal(until) || !ok && until.IsZero() {
		return
	}
	next := make(map[snaptun.PublicKey]time.Time, len(old)+1)
	for k, t := range old {
		next[k] = t
	}
	if until.IsZero() {
		delete(next, key)
	} else {
		next[key] = until
	}
	s.Store(&next)
}
