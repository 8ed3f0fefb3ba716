//go:build linux

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// unruly is a path that delays, reorders and repeats.
func (b *bench) unruly() error {
	return b.throughShim(", unruly path", impairment{Delay: 10 * time.Millisecond, Jitter: 2 * time.Millisecond,
		Reorder: .01, Duplicate: .005, Seed: 1})
}

// narrow is a path with little room and a short queue.
func (b *bench) narrow() error {
	return b.throughShim(", 100 Mbit/s", impairment{Delay: 10 * time.Millisecond, Rate: 100e6, Queue: 256 << 10, Seed: 1})
}

// crowd opens many connections at the same moment, holds them, and looks at
// what is left when they have gone.
func (b *bench) crowd() error {
	// Both ends of each connection are ours.
	files := moreFiles(uint64(2*b.plan.crowd + 1000))
	if n := int(files-1000) / 2; n < b.plan.crowd {
		b.report.skip(fmt.Sprintf("%d of %d connections at once", b.plan.crowd-n, b.plan.crowd), fmt.Sprintf("no more than %d files may be open", files))
		b.plan.crowd = n
	}
	return b.together(impairment{}, []maker{newSeparate, newPair}, func(all []*system) error {
		for _, s := range all {
			if err := b.crowdOf(s); err != nil {
				return fmt.Errorf("%s: %w", s.name, errors.Join(err, s.alive()))
			}
		}
		return nil
	})
}

func (b *bench) crowdOf(s *system) error {
	scenario := fmt.Sprintf("%d connections at once", b.plan.crowd)
	client := s.role("client")
	resetPeak(client.pid())
	var served, refused, left atomic.Int64
	ended := func(err error) {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			left.Add(1)
		} else {
			refused.Add(1)
		}
	}
	var wg sync.WaitGroup
	leave := make(chan struct{})
	begin := time.Now()
	for range b.plan.crowd {
		wg.Go(func() {
			c, err := dialSOCKS(b.ctx, s.socks, b.at(s))
			if err != nil {
				ended(err)
				return
			}
			defer c.Close()
			c.SetLinger(0)
			c.SetDeadline(time.Now().Add(dialPatience))
			var one [1]byte
			_, err = c.Write(firstByte.append(nil, 0))
			if err == nil {
				_, err = io.ReadFull(c, one[:])
			}
			if err != nil {
				ended(err)
				return
			}
			served.Add(1)
			<-leave
		})
	}
	answered := func() int64 { return served.Load() + refused.Load() + left.Load() }
	for deadline := begin.Add(2 * dialPatience); answered() < int64(b.plan.crowd) && time.Now().Before(deadline) && b.ctx.Err() == nil; {
		b.sleep(10 * time.Millisecond)
	}
	took := time.Since(begin)
	close(leave)
	wg.Wait()
	if err := b.origin.settle(); err != nil {
		return err
	}
	b.report.add(scenario, "served", "", s.name, float64(served.Load()))
	b.report.add(scenario, "refused", "", s.name, float64(refused.Load()))
	b.report.add(scenario, "without an answer", "", s.name, float64(left.Load()))
	b.report.add(scenario, "until all are answered", "s", s.name, took.Seconds())
	b.notePeaks(scenario, s)
	b.sleep(b.plan.idle / 2)
	now, _, err := memory(client.pid())
	if err != nil {
		return err
	}
	b.report.add(scenario, "RSS of client afterwards", "MB", s.name, float64(now)/megabyte)
	latencies, err := b.latencies(s, b.plan.latency)
	if err != nil {
		return err
	}
	b.noteLatencies(scenario+", afterwards", s, latencies)
	return nil
}

// moreFiles asks for a limit of open files, which children have too, and returns
// what it is.
func moreFiles(n uint64) uint64 {
	var l unix.Rlimit
	unix.Getrlimit(unix.RLIMIT_NOFILE, &l)
	if l.Cur < n {
		l.Cur, l.Max = n, max(l.Max, n)
		unix.Setrlimit(unix.RLIMIT_NOFILE, &l)
		unix.Getrlimit(unix.RLIMIT_NOFILE, &l)
	}
	return l.Cur
}
