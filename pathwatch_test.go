package snapproxy

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestPathWatch(t *testing.T) {
	stream := func(w *pathWatch, d time.Duration) {
		for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
			w.received()
			w.sign()
		}
	}
	for _, tt := range []struct {
		name    string
		do      func(w *pathWatch)
		answers bool
		want    int32
	}{
		{"nothing comes in", func(*pathWatch) {}, true, 0},
		{"a stream goes on", func(w *pathWatch) { stream(w, 10*time.Second) }, true, 1},
		{"one answer", func(w *pathWatch) { w.received() }, true, 0},
		{"a stream ends, the exit is there", func(w *pathWatch) { stream(w, time.Second) }, true, 1},
		{"a stream ends, the exit is silent", func(w *pathWatch) { stream(w, time.Second) }, false, quietAsks},
		{"a stream ends twice", func(w *pathWatch) {
			stream(w, time.Second)
			time.Sleep(5 * time.Second)
			w.received()
		}, true, 2},
		{"an answer long after a stream", func(w *pathWatch) {
			stream(w, time.Second)
			time.Sleep(time.Minute)
			w.received()
		}, true, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var asked atomic.Int32
				var w *pathWatch
				w = newPathWatch(func() {
					asked.Add(1)
					if tt.answers {
						time.AfterFunc(50*time.Millisecond, w.sign)
					}
				})
				ctx, cancel := context.WithCancel(t.Context())
				var wg sync.WaitGroup
				wg.Go(func() { w.run(ctx) })
				tt.do(w)
				time.Sleep(10 * time.Second)
				if got := asked.Load(); got != tt.want {
					t.Errorf("asked %d times, want %d", got, tt.want)
				}
				cancel()
				wg.Wait()
			})
		})
	}
}
