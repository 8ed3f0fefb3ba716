package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// A role is something that runs until it is told to end.
type role struct {
	run    func(ctx context.Context) error
	ready  <-chan struct{} // closed once it can be used
	line   func() string   // what to say then; called after ready
	silent func() string   // why it is not ready, for a person to read
	reload func()          // on SIGHUP; may be nil
}

const (
	// silentAfter is when a role that is not ready says why: SNAP and exit are
	// silent to keys they do not know, so nothing else would.
	silentAfter = 4 * time.Second
	silentEvery = 30 * time.Second
)

// A running role.
type running struct {
	role
	cancel context.CancelFunc
	done   chan struct{} // closed when it has ended, then err is set
	err    error
}

func (r role) start() *running {
	ctx, cancel := context.WithCancel(context.Background())
	u := &running{role: r, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(u.done)
		u.err = r.run(ctx)
	}()
	return u
}

// stop ends the role and waits for it.
func (u *running) stop() error {
	u.cancel()
	<-u.done
	return u.err
}

// A signalError is a signal that told us to end.
type signalError struct{ os.Signal }

func (e signalError) Error() string { return e.String() }

// await waits until the role is ready. It returns a signalError if a signal
// came first.
func (u *running) await(timeout time.Duration, signals <-chan os.Signal, logger *slog.Logger) error {
	var expired <-chan time.Time
	if timeout > 0 {
		timer := time.NewTimer(timeout)
		defer timer.Stop()
		expired = timer.C
	}
	nag := time.NewTimer(silentAfter)
	defer nag.Stop()
	for {
		select {
		case <-u.ready:
			return nil
		case <-u.done:
			if u.err != nil {
				return u.err
			}
			return errors.New("ended before it was ready")
		case sig := <-signals:
			if sig == hangup && u.reload != nil {
				u.reload()
				continue
			}
			return signalError{sig}
		case <-expired:
			return fmt.Errorf("not ready after %v: %s", timeout, u.silent())
		case <-nag.C:
			if why := u.silent(); why != "" {
				logger.Warn("not ready", "reason", why)
			}
			nag.Reset(silentEvery)
		}
	}
}

// together runs all of runs until one fails or all have ended, and returns the
// first error when all have ended.
func together(ctx context.Context, runs ...func(ctx context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for _, run := range runs {
		wg.Go(func() {
			if err := run(ctx); err != nil {
				cancel(failure{err})
			}
		})
	}
	wg.Wait()
	if f, ok := context.Cause(ctx).(failure); ok {
		return f.error
	}
	return nil
}

// A failure tells the end of a run that failed from a context that just ended.
type failure struct{ error }
