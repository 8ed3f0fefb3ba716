package snapproxy

import (
	"context"
	"sync/atomic"
	"time"
)

const (
	// quietTick is how often a pathWatch looks while packets come in. It asks
	// when two ticks have passed without any, and not before two with some.
	quietTick = 250 * time.Millisecond
	quietAsks = 5
	// lively is how long after such a time a single batch does as well: a stream
	// that comes back from one silence may fall into the next.
	lively = 30 * time.Second
)

// A pathWatch asks the exit for a sign of life when packets that were coming
// in stop. Who only receives has nothing to send that could go unanswered, so
// it would find out that a path is dead much later. Once there is a sign it
// says so: what was lost before can be sent again at once.
//
// It costs nothing while nothing comes in.
type pathWatch struct {
	ask   func()
	alive func()

	batches atomic.Uint64 // received
	signs   atomic.Uint64 // authenticated messages of any kind
	awake   atomic.Bool
	wake    chan struct{}
}

func newPathWatch(ask, alive func()) *pathWatch {
	return &pathWatch{ask: ask, alive: alive, wake: make(chan struct{}, 1)}
}

// received notes a batch of packets.
func (w *pathWatch) received() {
	w.batches.Add(1)
	if !w.awake.Load() && w.awake.CompareAndSwap(false, true) {
		w.wake <- struct{}{} // has room: it was taken before awake became false
	}
}

// sign notes that the exit is there.
func (w *pathWatch) sign() { w.signs.Add(1) }

// run watches until ctx ends.
func (w *pathWatch) run(ctx context.Context) {
	var streamed time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.wake:
		}
		if w.burst(ctx) >= 2 {
			streamed = time.Now()
		}
		if !streamed.IsZero() && time.Since(streamed) < lively {
			w.inquire(ctx)
		}
		w.awake.Store(false)
	}
}

// burst waits until nothing has come in for two ticks, and returns in how many
// before something had.
func (w *pathWatch) burst(ctx context.Context) (active int) {
	ticker := time.NewTicker(quietTick)
	defer ticker.Stop()
	seen := w.batches.Load()
	for quiet := 0; quiet < 2; {
		select {
		case <-ctx.Done():
			return 0
		case <-ticker.C:
		}
		if n := w.batches.Load(); n != seen {
			seen, quiet = n, 0
			active++
			continue
		}
		quiet++
	}
	return active
}

// inquire asks until there is a sign of life.
func (w *pathWatch) inquire(ctx context.Context) {
	ticker := time.NewTicker(quietTick)
	defer ticker.Stop()
	signs := w.signs.Load()
	for range quietAsks {
		w.ask()
		for range 2 {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			if w.signs.Load() != signs {
				w.alive()
				return
			}
		}
	}
}
