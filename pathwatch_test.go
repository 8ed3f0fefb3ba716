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
	const never, always = 1000, 1 // the question from which on there are answers
	for _, tt := range []struct {
		name    string
		do      func(w *pathWatch)
		answers int32
		want    int32 // questions
		alive   int32
	}{
		{"nothing comes in", func(*pathWatch) {}, always, 0, 0},
		{"a stream goes on", func(w *pathWatch) { stream(w, 10*time.Second) }, always, 1, 1},
		{"one answer", func(w *pathWatch) { w.received() }, always, 0, 0},
		{"a stream ends, the exit is there", func(w *pathWatch) { stream(w, time.Second) }, always, 1, 1},
		{"a stream ends, the exit is silent", func(w *pathWatch) { stream(w, time.Second) }, never, quietAsks, 0},
		{"a stream ends, the exit is back after a while", func(w *pathWatch) { stream(w, time.Second) }, 3, 3, 1},
		{"a stream ends twice", func(w *pathWatch) {
			stream(w, time.Second)
			time.Sleep(5 * time.Second)
			w.received()
		}, always, 2, 2},
		{"an answer long after a stream", func(w *pathWatch) {
			stream(w, time.Second)
			time.Sleep(time.Minute)
			w.received()
		}, always, 1, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var asked, alive atomic.Int32
				var w *pathWatch
				w = newPathWatch(func() {
					if asked.Add(1) >= tt.answers {
						time.AfterFunc(50*time.Millisecond, w.sign)
					}
				}, func() { alive.Add(1) })
				ctx, cancel := context.WithCancel(t.Context())
				var wg sync.WaitGroup
				wg.Go(func() { w.run(ctx) })
				tt.do(w)
				time.Sleep(10 * time.Second)
				if got := asked.Load(); got != tt.want {
					t.Errorf("asked %d times, want %d", got, tt.want)
				}
				if got := alive.Load(); got != tt.alive {
					t.Errorf("said %d times that the exit is there, want %d", got, tt.alive)
				}
				cancel()
				wg.Wait()
			})
		})
	}
}
