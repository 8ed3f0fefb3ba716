package control

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"syscall"
	"time"

	"github.com/snapproxy/snapproxy/tunnel/snaptun"
)

const (
	// retryFirst and retryMost are the first and the longest wait after a
	// failure that may pass; refusedFirst and refusedMost after one that stays
	// until somebody does something, as when the token is refused.
	retryFirst   = time.Second
	retryMost    = 30 * time.Second
	refusedFirst = 30 * time.Second
	refusedMost  = 5 * time.Minute
	// againPause is the least time between two registrations that Again asks for.
	againPause = 5 * time.Second
	// minWait bounds how often Run looks at the token.
	minWait = 100 * time.Millisecond
)

// RegistrarConfig configures a Registrar.
type RegistrarConfig struct {
	// Client is the SNAP. Its own Token is not used.
	Client *Client
	// Key is the public key of the tunnel.
	Key snaptun.PublicKey
	// Tokens gives the tokens that the key is registered with. If nil, no
	// token is needed, and the key is registered once and when Again says so.
	Tokens *TokenSource
	// Logger receives failures and their end. If nil, nothing is logged.
	Logger *slog.Logger
}

// A Registrar keeps a key registered with a SNAP: it registers it again with
// each new token, ahead of the old one's expiry.
type Registrar struct {
	cfg    RegistrarConfig
	logger *slog.Logger
	wish   chan struct{}

	mu         sync.Mutex // guards what follows; never held while calling out
	registered string     // token that the key is registered with
	done       bool       // it is registered at all
	at         time.Time  // when it was registered last
	err        error      // of the last attempt
	first      chan struct{}
}

// NewRegistrar returns a Registrar. It registers nothing until Run or Register
// is called.
func NewRegistrar(cfg RegistrarConfig) *Registrar {
	return &Registrar{
		cfg: cfg, logger: orDiscard(cfg.Logger),
		wish: make(chan struct{}, 1), first: make(chan struct{}),
	}
}

// Registered returns a channel that is closed when the key was registered for
// the first time.
func (r *Registrar) Registered() <-chan struct{} { return r.first }

// Err returns why the last attempt failed; nil if it did not, or there was none.
func (r *Registrar) Err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// Again makes Run register the key again, because the SNAP seems to have
// forgotten it: its handshakes go unanswered. It does not block, and calls
// within 5 s of a registration do nothing.
func (r *Registrar) Again() {
	select {
	case r.wish <- struct{}{}:
	default:
	}
}

// fresh reports whether the key was registered a moment ago.
func (r *Registrar) fresh() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err == nil && r.done && time.Since(r.at) < againPause
}

// Register registers the key once, now. It may be called before Run and beside
// it.
func (r *Registrar) Register(ctx context.Context) error {
	token, err := r.token(ctx)
	if err != nil {
		r.settle("", err)
		return err
	}
	return r.register(ctx, token)
}

func (r *Registrar) token(ctx context.Context) (string, error) {
	if r.cfg.Tokens == nil {
		return "", nil
	}
	return r.cfg.Tokens.Token(ctx)
}

func (r *Registrar) register(ctx context.Context, token string) error {
	err := r.cfg.Client.register(ctx, r.cfg.Key, token)
	if errors.Is(err, syscall.EACCES) && r.cfg.Tokens != nil {
		r.cfg.Tokens.Refused(token)
	}
	if err == nil || ctx.Err() == nil { // or else it is of our caller's making
		r.settle(token, err)
	}
	return err
}

// settle notes the outcome of an attempt.
func (r *Registrar) settle(token string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err = err; err != nil {
		return
	}
	r.registered, r.at = token, time.Now()
	if !r.done {
		r.done = true
		close(r.first)
	}
}

// with reports whether the key is registered with token, so far as we know.
func (r *Registrar) with(token string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.done && r.err == nil && r.registered == token
}

// Permanent reports whether err, an error of a Client or a TokenSource, stays
// until somebody does something about it: the token has expired or is refused,
// or the SNAP does not know the call.
func Permanent(err error) bool {
	var e *Error
	return errors.As(err, &e) && !e.Temporary() && e.Status < 500 || errors.Is(err, ErrExpired)
}

// Run keeps the key registered until ctx ends. It tells of a failure once, in
// one line, and of its end; failures that may pass are tried again after 1 s
// to 30 s, the others after 30 s to 5 minutes, and at once when the token
// changes.
func (r *Registrar) Run(ctx context.Context) error {
	var (
		tried    string    // token of the last attempt
		retry    time.Time // when to try again with the same one
		failures int
		told     string
		forced   bool
	)
	for ctx.Err() == nil {
		token, err := r.token(ctx)
		attempt := err != nil || forced || !r.with(token) && (token != tried || !time.Now().Before(retry))
		if err != nil {
			r.settle("", err)
		} else if attempt {
			err = r.register(ctx, token)
		}
		switch {
		case ctx.Err() != nil:
			return nil
		case attempt && err != nil:
			if token != tried || forced {
				failures = 0
			}
			retry = time.Now().Add(backoff(err, failures))
			failures++
			if told != err.Error() {
				told = err.Error()
				r.logger.Warn("identity not registered", "error", err)
			}
		case attempt:
			r.registeredWith(told != "")
			failures, told = 0, ""
		}
		tried = token
		forced = r.wait(ctx, token, retry)
	}
	return nil
}

func (r *Registrar) registeredWith(again bool) {
	msg := "identity registered"
	if again {
		msg = "identity registered, after all"
	}
	args := []any{"snap", origin(r.cfg.Client.URL())}
	if r.cfg.Tokens != nil {
		if t := r.cfg.Tokens.Expires(); !t.IsZero() {
			args = append(args, "until", t.UTC())
		}
	}
	r.logger.Info(msg, args...)
}

// wait waits until there may be something to do and reports whether that is
// because Again was called.
func (r *Registrar) wait(ctx context.Context, token string, retry time.Time) bool {
	var next time.Time // zero: none
	if !r.with(token) {
		next = retry
	}
	if r.cfg.Tokens != nil {
		if n := r.cfg.Tokens.Next(); next.IsZero() || n.Before(next) {
			next = n
		}
	}
	var fire <-chan time.Time
	if !next.IsZero() {
		timer := time.NewTimer(max(time.Until(next), minWait))
		defer timer.Stop()
		fire = timer.C
	}
	select {
	case <-ctx.Done():
	case <-fire:
	case <-r.wish:
		return !r.fresh()
	}
	return false
}

// backoff is the wait after the nth failure in a row: doubling, with up to a
// quarter more, so that the clients of a SNAP that was away do not come at
// once.
func backoff(err error, n int) time.Duration {
	first, most := retryFirst, retryMost
	if Permanent(err) {
		first, most = refusedFirst, refusedMost
	}
	d := min(first<<min(n, 10), most)
	return d + rand.N(d/4)
}
