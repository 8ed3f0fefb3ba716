//go:build e2e && unix

package test

import (
	"testing"
	"time"
)

// A path that swaps datagrams, and brings some twice and some late, carries
// files whole in both directions.
func TestUnrulyPathCarriesFilesWhole(t *testing.T) {
	var s *shim
	tp := build(t, layout{via: func(snap string) string { s = newShim(t, snap); return s.addr() }})
	mirror := serveTCP(t, "127.0.0.1:0", hashThenSend)
	for _, path := range []struct {
		name               string
		swap, repeat, lose int64
		delay              time.Duration
	}{
		{"every 10th later, every 7th twice", 10, 7, 0, 0},
		{"every 3rd later, every 2nd twice", 3, 2, 0, 0},
		{"every 50th later, every 20th twice, every 500th lost, 10 ms", 50, 20, 500, 10 * time.Millisecond},
	} {
		s.swap.Store(path.swap)
		s.repeat.Store(path.repeat)
		s.lose.Store(path.lose)
		s.delay.Store(int64(path.delay))
		begin := time.Now()
		carry(t, connectSOCKS(t, tp.socks, mirror.addr), 8<<20)
		t.Logf("%s: 8 MiB each way in %.1f s", path.name, time.Since(begin).Seconds())
	}
}
