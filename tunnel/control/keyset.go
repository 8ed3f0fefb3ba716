package control

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// keySetPeriod is how often a key set is fetched, keySetPause the least
	// time between two fetches, keySetWait how long a token waits for one.
	keySetPeriod = 5 * time.Minute
	keySetPause  = 10 * time.Second
	keySetWait   = 5 * time.Second

	maxKeySet     = 1 << 20
	maxKeySetKeys = 1000
)

// A keySet is a set of keys that is fetched from a URL. What was fetched last
// replaces what was there; while fetching fails, the old set stays.
type keySet struct {
	url    *url.URL
	client *http.Client
	notify func() // called after the set has changed
	logger *slog.Logger
	keys   atomic.Pointer[trusted]
	wish   chan struct{}

	mu     sync.Mutex    // guards what follows
	ended  chan struct{} // closed when the fetch that is wished or under way ends
	busy   bool          // one is
	began  time.Time     // of the last one
	failed error         // of the last one
}

// trusted is a key set as it was fetched.
type trusted struct {
	byID map[string]ed25519.PublicKey
	keys map[string]bool // by their bytes
}

func checkKeySetURL(u *url.URL) error {
	switch {
	case u.Scheme != "http" && u.Scheme != "https" || u.Opaque != "" || u.Hostname() == "" || u.User != nil:
		return errors.New("no URL like https://issuer.example/jwks.json")
	case u.Scheme == "http" && !isLoopback(u.Hostname()):
		return errors.New("keys are fetched over https, or over http from this machine only")
	}
	return nil
}

func newKeySet(u, proxy *url.URL, notify func(), logger *slog.Logger) *keySet {
	s := &keySet{
		url: u, client: newHTTPClient(u, proxy), notify: notify, logger: logger,
		wish: make(chan struct{}, 1), ended: make(chan struct{}), busy: true, // the first fetch is due
	}
	s.keys.Store(new(trusted))
	return s
}

// lookup returns a key by its id; nil if there is none.
func (s *keySet) lookup(id string) ed25519.PublicKey { return s.keys.Load().byID[id] }

// trusts reports whether a key is in the set, whatever its id.
func (s *keySet) trusts(key string) bool { return s.keys.Load().keys[key] }

// await is lookup after a fetch, if one is allowed.
func (s *keySet) await(ctx context.Context, id string) (ed25519.PublicKey, error) {
	timer := time.NewTimer(keySetWait)
	defer timer.Stop()
	if ended := s.refresh(); ended != nil {
		select {
		case <-ended:
		case <-timer.C:
			return nil, ErrNoKeys
		case <-ctx.Done():
			return nil, ErrNoKeys
		}
	}
	if key := s.lookup(id); key != nil {
		return key, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed != nil {
		return nil, ErrNoKeys
	}
	return nil, ErrUnknownKey
}

// refresh makes run fetch the set, unless it did so lately, and returns a
// channel that is closed when that is done; nil if it is not done.
func (s *keySet) refresh() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.busy {
		if time.Since(s.began) < keySetPause {
			return nil
		}
		s.busy = true
		select {
		case s.wish <- struct{}{}:
		default:
		}
	}
	return s.ended
}

func (s *keySet) run(ctx context.Context) {
	defer s.client.CloseIdleConnections()
	failures := 0
	for {
		s.mu.Lock()
		s.busy, s.began = true, time.Now()
		s.mu.Unlock()
		err := s.fetch(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			if failures++; failures == 1 {
				s.logger.Warn("key set not fetched, the old one stays in force", "url", origin(s.url), "error", err)
			}
		} else {
			if failures > 0 {
				s.logger.Info("key set fetched again", "url", origin(s.url))
			}
			failures = 0
		}
		s.mu.Lock()
		s.busy, s.failed = false, err
		close(s.ended)
		s.ended = make(chan struct{})
		s.mu.Unlock()

		period := keySetPeriod
		if failures > 0 {
			period = min(keySetPause<<min(failures-1, 8), keySetPeriod)
		}
		timer := time.NewTimer(period)
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-s.wish:
		}
		timer.Stop()
		if ctx.Err() != nil {
			return
		}
	}
}

// fetch fetches the set and puts it in place of the old one.
func (s *keySet) fetch(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url.String(), nil)
	if err != nil {
		return err
	}
	r.Header.Set("Accept", "application/jwk-set+json, application/json")
	r.Header.Set("User-Agent", "snapproxy")
	resp, err := s.client.Do(r)
	if err != nil {
		return unwrapURL(err)
	}
	defer resp.Body.Close()
	if err := redirection(resp); err != nil {
		return err
	}
	body, err := readAll(resp.Body, maxKeySet)
	switch {
	case err != nil:
		return fmt.Errorf("read the key set: %w", err)
	case resp.StatusCode != http.StatusOK:
		return parseError(resp.StatusCode, resp.Header.Get("Content-Type"), body, "")
	case isHTML(resp.Header.Get("Content-Type"), body):
		return errors.New("answers a page of HTML")
	}
	keys, err := parseKeySet(body)
	if err != nil {
		return err
	}
	t := &trusted{byID: keys, keys: make(map[string]bool)}
	for _, k := range keys {
		t.keys[string(k)] = true
	}
	old := s.keys.Swap(t)
	if !sameKeys(old.byID, keys) {
		s.logger.Info("key set taken", "url", origin(s.url), "keys", len(keys))
		s.notify()
	}
	return nil
}

func sameKeys(a, b map[string]ed25519.PublicKey) bool {
	if len(a) != len(b) {
		return false
	}
	for id, k := range a {
		if !k.Equal(b[id]) {
			return false
		}
	}
	return true
}

// A jwk is what we read of a key (RFC 7517, RFC 8037).
type jwk struct {
	Kty string  `json:"kty"`
	Crv string  `json:"crv"`
	Use string  `json:"use,omitempty"`
	Alg string  `json:"alg,omitempty"`
	Kid string  `json:"kid"`
	X   string  `json:"x"`
	D   *string `json:"d,omitempty"` // the private key
}

// parseKeySet returns the keys of a JWKS that can verify tokens, by their ids.
// Other keys are skipped. A set with none, or with two keys of one id, is an
// error: an empty answer would lock everybody out, and nobody can say which of
// two is meant.
func parseKeySet(b []byte) (map[string]ed25519.PublicKey, error) {
	m, err := parseMembers(b)
	if err != nil {
		return nil, fmt.Errorf("key set: %w", err)
	}
	var entries []json.RawMessage
	if err := json.Unmarshal(m["keys"], &entries); err != nil {
		return nil, errors.New("key set: no array of keys")
	}
	if len(entries) > maxKeySetKeys {
		return nil, fmt.Errorf("key set: more than %d keys", maxKeySetKeys)
	}
	keys := make(map[string]ed25519.PublicKey)
	for _, raw := range entries {
		id, key := parseJWK(raw)
		if key == nil {
			continue
		}
		if old, ok := keys[id]; ok && !old.Equal(key) {
			return nil, fmt.Errorf("key set: two keys have the id %q", printable(id, 60))
		}
		keys[id] = key
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("key set: none of its %d keys is an Ed25519 key with an id", len(entries))
	}
	return keys, nil
}

// parseJWK returns nil for what is no key to verify tokens with.
func parseJWK(raw []byte) (string, ed25519.PublicKey) {
	var k jwk
	if json.Unmarshal(raw, &k) != nil || k.Kty != "OKP" || k.Crv != "Ed25519" || k.Kid == "" || len(k.Kid) > maxTokenID ||
		k.Use != "" && k.Use != "sig" || k.Alg != "" && k.Alg != algorithm && k.Alg != "Ed25519" || k.D != nil {
		return "", nil
	}
	x, err := base64.RawURLEncoding.DecodeString(k.X)
	if err != nil || len(x) != ed25519.PublicKeySize {
		return "", nil
	}
	return k.Kid, x
}

// MarshalKeySet returns the JWKS of public keys (RFC 7517 §5), their ids those
// of KeyID.
func MarshalKeySet(keys ...ed25519.PublicKey) []byte {
	set := struct {
		Keys []jwk `json:"keys"`
	}{make([]jwk, 0, len(keys))}
	for _, k := range keys {
		set.Keys = append(set.Keys, jwk{Kty: "OKP", Crv: "Ed25519", Use: "sig", Alg: algorithm, Kid: KeyID(k), X: base64.RawURLEncoding.EncodeToString(k)})
	}
	b, err := json.Marshal(set)
	if err != nil {
		panic("control: " + err.Error()) // it is only strings
	}
	return b
}
