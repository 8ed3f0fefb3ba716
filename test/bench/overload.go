//go:build linux

package main

import (
	"errors"
	"fmt"
	"io"
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
	if err := moreFiles(uint64(2*b.plan.crowd + 1000)); err != nil {
		return err
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
	var served atomic.Int64
	var wg sync.WaitGroup
	leave := make(chan struct{})
	begin := time.Now()
	for range b.plan.crowd {
		wg.Go(func() {
			c, err := dialSOCKS(b.ctx, s.socks, b.at(s))
			if err != nil {
				return
			}
			defer c.Close()
			c.SetLinger(0)
			c.SetDeadline(time.Now().Add(dialPatience))
			var one [1]byte
			if _, err := c.Write(firstByte.append(nil, 0)); err != nil {
				return
			}
			if _, err := io.ReadFull(c, one[:]); err != nil {
				return
			}
			served.Add(1)
			<-leave
		})
	}
	ended := make(chan struct{})
	go func() { wg.Wait(); close(ended) }()
	for deadline := begin.Add(2 * dialPatience); served.Load() < int64(b.plan.crowd) && time.Now().Before(deadline) && b.ctx.Err() == nil; {
		b.sleep(10 * time.Millisecond)
	}
	took := time.Since(begin)
	close(leave)
	<-ended
	if err := b.origin.settle(); err != nil {
		return err
	}
	b.report.add(scenario, "served", "", s.name, float64(served.Load()))
	b.report.add(scenario, "until all are", "s", s.name, took.Seconds())
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

// moreFiles raises the limit of open files, which children have too.
func moreFiles(n uint64) error {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return err
	}
	if l.Cur >= n {
		return nil
	}
	l.Cur, l.Max = n, max(l.Max, n)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return fmt.Errorf("open %d files: %w", n, err)
	}
	return nil
}
