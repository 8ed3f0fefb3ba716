package control

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"sync"
	"time"
)

// leeway is how much the clocks of issuer and SNAP may differ.
const leeway = 60 * time.Second

// VerifierConfig configures a Verifier. At least one of Keys and JWKS is
// needed.
type VerifierConfig struct {
	// Keys are trusted as long as the process lives.
	Keys []ed25519.PublicKey
	// JWKS is where a set of keys is fetched from (RFC 7517): https, or http
	// from the loopback. If nil, there is none.
	JWKS *url.URL
	// Proxy is an HTTP proxy for JWKS. If nil, there is none.
	Proxy *url.URL
	// Revoked is a file of revoked tokens; see ParseRevoked. If empty, there
	// is none.
	Revoked string
	// Clock returns the time. If nil, it is time.Now.
	Clock func() time.Time
	// Logger receives changes of the key set and of the file, and what is
	// wrong with them. If nil, nothing is logged.
	Logger *slog.Logger
}

// A Verifier tells good tokens from bad ones.
type Verifier struct {
	cfg     VerifierConfig
	now     func() time.Time
	set     *keySet      // nil: none
	revoked *revokedFile // nil: none

	mu      sync.Mutex        // guards what follows
	changed []chan<- struct{} // told when a token that was good may be bad
}

// NewVerifier returns a Verifier. It reads the file of revoked tokens; the key
// set is fetched by Run.
func NewVerifier(cfg VerifierConfig) (*Verifier, error) {
	v := &Verifier{cfg: cfg, now: cfg.Clock}
	if v.now == nil {
		v.now = time.Now
	}
	logger := orDiscard(cfg.Logger)
	for _, k := range cfg.Keys {
		if len(k) != ed25519.PublicKeySize {
			return nil, fmt.Errorf("token key has %d bytes, not 32", len(k))
		}
	}
	if cfg.JWKS != nil {
		if err := checkKeySetURL(cfg.JWKS); err != nil {
			return nil, fmt.Errorf("key set: %w", err)
		}
		v.set = newKeySet(cfg.JWKS, cfg.Proxy, v.notify, logger)
	} else if len(cfg.Keys) == 0 {
		return nil, errors.New("no key to verify tokens with")
	}
	if cfg.Revoked != "" {
		var err error
		if v.revoked, err = openRevoked(cfg.Revoked, v.notify, logger); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// Run fetches the key set and follows the file of revoked tokens until ctx
// ends. It must be called once.
func (v *Verifier) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	if v.set != nil {
		wg.Go(func() { v.set.run(ctx) })
	}
	if v.revoked != nil {
		wg.Go(func() { v.revoked.run(ctx) })
	}
	<-ctx.Done()
	wg.Wait()
	return nil
}

// Reload makes Run read the file of revoked tokens and the key set at once.
func (v *Verifier) Reload() {
	if v.revoked != nil {
		v.revoked.reload()
	}
	if v.set != nil {
		v.set.refresh()
	}
}

// notify tells the registries that tokens may have become bad.
func (v *Verifier) notify() {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, c := range v.changed {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// tell makes notify tell c, which has room for one element.
func (v *Verifier) tell(c chan<- struct{}) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.changed = append(v.changed, c)
}

// Verify returns the claims of a good token. If the token's key is not known,
// the key set is fetched once more, but not within 10 s of the last time, and
// Verify waits for that up to 5 s.
//
// The expiry has a leeway of 60 s, as in the reference; a Registry has none.
func (v *Verifier) Verify(ctx context.Context, token string) (Claims, error) {
	e, err := openEnvelope(token)
	if err != nil {
		return Claims{}, err
	}
	key, err := v.authenticate(ctx, e)
	if err != nil {
		return Claims{}, err
	}
	c, err := e.claims()
	if err != nil {
		return Claims{}, err
	}
	c.signer = string(key)
	now := v.now()
	switch {
	case !now.Before(c.Expires.Add(leeway)):
		return Claims{}, fmt.Errorf("%w, at %s", ErrExpired, c.Expires.UTC().Format(time.RFC3339))
	case now.Add(leeway).Before(c.NotBefore):
		return Claims{}, fmt.Errorf("%w, not before %s", ErrNotYetValid, c.NotBefore.UTC().Format(time.RFC3339))
	case !v.holds(c):
		return Claims{}, ErrRevoked
	}
	return c, nil
}

// authenticate returns the key that signed e: the one that its id names in the
// key set, or else any of the static ones, whatever its id.
func (v *Verifier) authenticate(ctx context.Context, e envelope) (ed25519.PublicKey, error) {
	if e.alg != algorithm {
		return nil, fmt.Errorf("%w: %q", ErrAlgorithm, printable(e.alg, 20))
	}
	if len(e.signature) != ed25519.SignatureSize {
		return nil, ErrSignature
	}
	if v.set != nil && e.hasKid {
		if key := v.set.lookup(e.kid); key != nil {
			return e.verify(key)
		}
	}
	for _, key := range v.cfg.Keys {
		if _, err := e.verify(key); err == nil {
			return key, nil
		}
	}
	switch {
	case v.set == nil || !e.hasKid && len(v.cfg.Keys) > 0:
		return nil, ErrSignature
	case !e.hasKid:
		return nil, ErrNoKeyID
	}
	key, err := v.set.await(ctx, e.kid)
	if err != nil {
		return nil, err
	}
	return e.verify(key)
}

func (e envelope) verify(key ed25519.PublicKey) (ed25519.PublicKey, error) {
	if !ed25519.Verify(key, []byte(e.signed), e.signature) {
		return nil, ErrSignature
	}
	return key, nil
}

// holds reports whether a token that was good is still: its key is trusted, and
// it is not revoked. It takes no lock.
func (v *Verifier) holds(c Claims) bool {
	if v.revoked != nil && v.revoked.has(c) {
		return false
	}
	if v.set != nil && v.set.trusts(c.signer) {
		return true
	}
	return slices.ContainsFunc(v.cfg.Keys, func(k ed25519.PublicKey) bool { return string(k) == c.signer })
}
