package snapproxy

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"
)

// Pauses of an accept loop after an error such as EMFILE, which would
// otherwise spin.
const (
	acceptPause    = 5 * time.Millisecond
	acceptPauseMax = time.Second
)

// acceptAll hands each connection of ln to serve, in a goroutine of its own,
// until ctx ends or ln is closed. It closes ln and returns when all serve
// calls have.
func acceptAll(ctx context.Context, ln net.Listener, logger *slog.Logger, serve func(net.Conn)) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	defer ln.Close()
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()
	pause := acceptPause
	for {
		conn, err := ln.Accept()
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return nil
			}
			logger.Warn("accept", "listener", ln.Addr(), "error", err, "pause", pause)
			select {
			case <-ctx.Done():
			case <-time.After(pause):
			}
			pause = min(2*pause, acceptPauseMax)
			continue
		}
		pause = acceptPause
		wg.Add(1)
		go func() {
			defer wg.Done()
			growStack()
			serve(conn)
		}()
	}
}
