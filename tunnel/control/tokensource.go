package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
)

const (
	// refreshAhead is how long before its expiry a token is replaced, and
	// usableFor how long a token must still be good to be used at all. Both are
	// those of the Rust SDK (snap.md §3.2).
	refreshAhead = 60 * time.Second
	usableFor    = 10 * time.Second
	// filePoll is how often a file with a token is worth reading.
	filePoll = 2 * time.Second
	// unknownLife is how long a command's token is used that does not say when
	// it expires.
	unknownLife = 5 * time.Minute
	// commandPause is the least time between two runs of a command; it doubles
	// while they fail, up to maxPause.
	commandPause = 5 * time.Second
	maxPause     = time.Minute
	// readLimit ends a read, should it not end by itself. A command has its own,
	// shorter limit. oldPatience is how long one waits for it who has an old
	// token that is still good.
	readLimit   = 35 * time.Second
	oldPatience = 2 * time.Second
)

// A TokenSource gives the bearer token of the moment. Its methods may be called
// concurrently. Its errors name where the token should have come from, never
// the token.
type TokenSource struct {
	origin string
	read   func(ctx context.Context) (string, error)
	poll   time.Duration // read this often; 0: only when the token is about to expire
	pause  time.Duration // least time between two reads
	fixed  bool          // reading again gives the same

	mu       sync.Mutex // guards what follows; never held while reading
	reading  *reading   // the one that goes on; nil: none
	token    string
	expires  time.Time // zero: the token does not say
	asked    time.Time // when it was read last
	refused  bool      // read again, however fresh it is
	err      error     // of the last read
	failures int       // in a row
}

// StaticToken is a token that does not change. Origin, such as --token, names
// where it is from in errors.
func StaticToken(origin, token string) *TokenSource {
	s := newTokenSource(origin, func(context.Context) (string, error) { return token, nil })
	s.fixed = true
	return s
}

// FileToken is the token in a file, which is read again when it changes.
func FileToken(path string) *TokenSource {
	s := newTokenSource("token file "+path, func(context.Context) (string, error) { return readTokenFile(path) })
	s.poll = filePoll
	return s
}

// CommandToken is the token that run returns, which is run again a minute
// before the token expires, after 5 minutes if it does not say when, and when
// the token was refused. Origin names the command in errors. Run must heed ctx.
func CommandToken(origin string, run func(ctx context.Context) (string, error)) *TokenSource {
	s := newTokenSource(origin, run)
	s.pause = commandPause
	return s
}

func newTokenSource(origin string, read func(ctx context.Context) (string, error)) *TokenSource {
	return &TokenSource{origin: origin, read: read}
}

// Token returns the token of the moment, which is good for 10 s at least if it
// says when it expires. It reads it again if that is due; while that fails or
// takes long, an old token that is still good will do. Reading goes on when ctx
// ends, so that a command has its time however little its callers have.
func (s *TokenSource) Token(ctx context.Context) (string, error) {
	s.mu.Lock()
	now := time.Now()
	if token, ok, err := s.current(now); ok {
		s.mu.Unlock()
		return token, err
	}
	var old string
	var enough <-chan time.Time
	if s.usable(now) {
		old = s.token
		timer := time.NewTimer(oldPatience)
		defer timer.Stop()
		enough = timer.C
	}
	r := s.begin(ctx)
	s.mu.Unlock()
	select {
	case <-r.ended:
		return r.token, r.err
	case <-enough:
		return old, nil
	case <-ctx.Done():
		return "", fmt.Errorf("%s: %w", s.origin, ctx.Err())
	}
}

// A reading is one read of a token, for all who wait for it.
type reading struct {
	cancel context.CancelFunc
	ended  chan struct{} // closed when what follows is there
	token  string
	err    error
}

// begin returns the reading that goes on, or begins one. The lock is held.
func (s *TokenSource) begin(ctx context.Context) *reading {
	if s.reading != nil {
		return s.reading
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readLimit)
	r := &reading{cancel: cancel, ended: make(chan struct{})}
	s.reading = r
	go func() {
		defer cancel()
		token, err := s.read(ctx)
		if err == nil {
			token = strings.TrimSpace(token)
			err = checkToken(token)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		r.token, r.err = s.take(token, err, time.Now())
		s.reading = nil
		close(r.ended)
	}()
	return r
}

// Close ends a reading that goes on and waits for its end. The source may still
// be used.
func (s *TokenSource) Close() {
	s.mu.Lock()
	r := s.reading
	s.mu.Unlock()
	if r != nil {
		r.cancel()
		<-r.ended
	}
}

// current returns the outcome of the last read, unless it is due to read again.
// The lock is held.
func (s *TokenSource) current(now time.Time) (token string, ok bool, err error) {
	switch {
	case s.asked.IsZero(), !now.Before(s.due()):
		return "", false, nil
	case s.usable(now):
		return s.token, true, nil
	case s.err != nil && now.Before(s.asked.Add(s.patience())):
		return "", true, s.err
	}
	return "", false, nil
}

// usable reports whether the token is good for a while. The lock is held.
func (s *TokenSource) usable(now time.Time) bool {
	return s.token != "" && (s.expires.IsZero() || s.expires.Sub(now) > usableFor)
}

// due is when the token is to be read again. The lock is held.
func (s *TokenSource) due() time.Time {
	soonest := s.asked.Add(s.patience())
	due := soonest
	switch {
	case s.err != nil || s.refused:
	case s.poll > 0:
		due = s.asked.Add(s.poll)
	case s.expires.IsZero():
		due = s.asked.Add(unknownLife)
	default:
		due = s.expires.Add(-refreshAhead)
	}
	if s.fixed { // it only ends
		due = s.asked.Add(100 * 365 * 24 * time.Hour)
		if !s.expires.IsZero() {
			due = s.expires.Add(-usableFor)
		}
	}
	if due.Before(soonest) {
		due = soonest
	}
	return due
}

// patience is the least time from one read to the next. The lock is held.
func (s *TokenSource) patience() time.Duration {
	if s.poll > 0 {
		return s.poll
	}
	return min(s.pause<<min(s.failures, 8), max(s.pause, maxPause))
}

// take takes what was read. The lock is held.
func (s *TokenSource) take(token string, err error, now time.Time) (string, error) {
	s.asked, s.refused = now, false
	var expires time.Time
	if err == nil {
		expires = expiryOf(token)
		if !expires.IsZero() && expires.Sub(now) <= usableFor {
			err = fmt.Errorf("%w or is about to, at %s (if this machine's clock is right)", ErrExpired, expires.UTC().Format(time.RFC3339))
		}
	}
	if err != nil {
		s.err = fmt.Errorf("%s: %w", s.origin, err)
		s.failures++
		if s.usable(now) {
			return s.token, nil
		}
		s.token, s.expires = "", time.Time{}
		return "", s.err
	}
	s.token, s.expires, s.err, s.failures = token, expires, nil, 0
	return token, nil
}

// Refused says that a SNAP does not take token: unless another one is there
// already, the next call of Token reads it again.
func (s *TokenSource) Refused(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.token == token {
		s.refused = true
	}
}

// Next returns when Token may return something else than now.
func (s *TokenSource) Next() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.due()
}

// Expires returns when the token of the moment expires; zero if it does not
// say, or there is none.
func (s *TokenSource) Expires() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.expires
}

// Err returns why the last attempt to read the token failed, even while an old
// one is still good; nil if it did not.
func (s *TokenSource) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// checkToken returns an error unless token can stand in a header. It does not
// quote it.
func checkToken(token string) error {
	switch {
	case token == "":
		return errors.New("no token, it is empty")
	case len(token) > maxToken:
		return fmt.Errorf("no token, it has more than %d bytes", maxToken)
	case strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }):
		return errors.New("no token (want one word of printable ASCII)")
	}
	return nil
}

// expiryOf returns when a token says it expires, without verifying it: zero if
// it does not say, or is none of ours.
func expiryOf(token string) time.Time {
	e, err := openEnvelope(token)
	if err != nil {
		return time.Time{}
	}
	m, err := parseMembers(e.payload)
	if err != nil {
		return time.Time{}
	}
	t, _ := m.date("exp")
	return t
}

func readTokenFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", pathless(err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxToken+64))
	return string(b), pathless(err)
}

// pathless drops the path that an error of a file repeats.
func pathless(err error) error {
	var p *os.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}
