package snapproxy

import (
	"context"
	"log/slog"
	"sync"
)

// A group is what a role runs in: the first error ends all of it, and wait
// returns when all has ended.
type group struct {
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu  sync.Mutex // guards err
	err error
}

func newGroup(ctx context.Context) *group {
	g := new(group)
	g.ctx, g.cancel = context.WithCancel(ctx)
	return g
}

// Go runs f. An error of f ends the group; nil does not.
func (g *group) Go(f func() error) {
	g.wg.Add(1)
	go func() {
		defer g.wg.Done()
		if err := f(); err != nil {
			g.mu.Lock()
			if g.err == nil {
				g.err = err
			}
			g.mu.Unlock()
			g.cancel()
		}
	}()
}

// wait returns the first error, or nil if the context's end was the cause.
func (g *group) wait() error {
	g.wg.Wait()
	g.cancel()
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.err
}

// logDown logs that a tunnel is down: a warning, unless all is ending anyway.
func (g *group) logDown(l *slog.Logger, msg string, args ...any) {
	level := slog.LevelWarn
	if g.ctx.Err() != nil {
		level = slog.LevelDebug
	}
	l.Log(context.Background(), level, msg, args...)
}

// runStacked runs lower and, on it, upper. Lower ends after upper, so that
// what upper says as it ends, its goodbye, still gets out.
func runStacked(g *group, lower, upper func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(g.ctx))
	g.Go(func() error {
		err := lower(ctx)
		g.cancel()
		return err
	})
	g.Go(func() error {
		defer cancel()
		return upper(g.ctx)
	})
}
