//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A flow is what streams carried in a while.
type flow struct {
	each    []float64          // bytes a second of each stream
	seconds float64            // how long the while was
	cpu     map[string]float64 // CPU seconds of each process in it
	total   float64            // bytes
}

// gbit is Gbit/s.
func (f flow) gbit() float64 { return f.total * 8 / f.seconds / 1e9 }

// perGB is the CPU seconds of a process per GB.
func (f flow) perGB(process string) float64 { return f.cpu[process] / (f.total / 1e9) }

// whole is the CPU seconds of all processes per GB.
func (f flow) whole() (sum float64) {
	for process := range f.cpu {
		if process != "shim" {
			sum += f.perGB(process)
		}
	}
	return sum
}

var streamNumbers atomic.Uint64

// stream carries n streams in one direction and looks, once warmup is over, at
// what passes.
func (b *bench) stream(s *system, dir request, n int, warmup, duration time.Duration) (flow, error) {
	streams, err := b.open(s, dir, n)
	defer func() {
		for _, t := range streams {
			t.close()
		}
	}()
	if err != nil {
		return flow{}, err
	}
	b.sleep(warmup)
	begin, before, cpu, err := sample(s, streams)
	if err != nil {
		return flow{}, err
	}
	b.sleep(duration)
	end, after, cpuAfter, err := sample(s, streams)
	if err != nil {
		return flow{}, err
	}
	f := flow{seconds: end.Sub(begin).Seconds(), cpu: map[string]float64{}}
	for i := range streams {
		f.total += float64(after[i] - before[i])
		f.each = append(f.each, float64(after[i]-before[i])/f.seconds)
	}
	for i, c := range s.all {
		f.cpu[c.name] = cpuAfter[i] - cpu[i]
	}
	for _, t := range streams {
		t.close()
	}
	return f, errors.Join(b.ctx.Err(), b.origin.settle())
}

// open opens streams, all at once.
func (b *bench) open(s *system, dir request, n int) ([]*stream, error) {
	all, errs := make([]*stream, n), make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { all[i], errs[i] = b.openStream(s, dir) })
	}
	wg.Wait()
	streams := slices.DeleteFunc(all, func(t *stream) bool { return t == nil })
	if err := errors.Join(errs...); err != nil {
		return streams, fmt.Errorf("%s: %d of %d streams do not open: %w", s.name, n-len(streams), n, err)
	}
	return streams, nil
}

// sample reads what has arrived and what CPU time was used by now.
func sample(s *system, streams []*stream) (now time.Time, arrived []int64, cpu []float64, err error) {
	for _, c := range s.all {
		seconds, err := cpuSeconds(c.pid())
		if err != nil {
			return now, nil, nil, errors.Join(c.alive(), err)
		}
		cpu = append(cpu, seconds)
	}
	for _, t := range streams {
		arrived = append(arrived, t.arrived.Load())
	}
	return time.Now(), arrived, cpu, nil
}

// A stream is a connection that carries bytes one way until it is closed.
type stream struct {
	conn    *net.TCPConn
	arrived *atomic.Int64 // bytes, where they go to
	done    sync.WaitGroup
	forget  func()
}

func (b *bench) openStream(s *system, dir request) (*stream, error) {
	c, err := dialSOCKS(b.ctx, s.socks, b.at(s))
	if err != nil {
		return nil, err
	}
	id := streamNumbers.Add(1)
	t := &stream{conn: c, arrived: new(atomic.Int64), forget: func() { b.origin.streams.Delete(id) }}
	b.origin.streams.Store(id, t.arrived)
	if _, err := c.Write(dir.append(nil, id)); err != nil {
		t.close()
		return nil, err
	}
	t.done.Go(func() {
		if dir == download {
			drain(c, t.arrived)
			return
		}
		for buf := make([]byte, block); ; {
			if _, err := c.Write(buf); err != nil {
				return
			}
		}
	})
	return t, nil
}

// close ends the stream at once: what is under way is of no use.
func (t *stream) close() {
	t.conn.SetLinger(0)
	t.conn.Close()
	t.done.Wait()
	t.forget()
}

// at is where a system finds the origin.
func (b *bench) at(s *system) netip.AddrPort {
	return netip.AddrPortFrom(s.target, uint16(b.origin.port()))
}

// firstByte makes one connection and returns the time from before its start to
// the first byte of the origin.
func (b *bench) firstByte(ctx context.Context, s *system) (time.Duration, error) {
	begin := time.Now()
	c, err := dialSOCKS(ctx, s.socks, b.at(s))
	if err != nil {
		return 0, err
	}
	defer c.Close()
	c.SetLinger(0)
	c.SetDeadline(begin.Add(dialPatience))
	if _, err := c.Write(firstByte.append(nil, 0)); err != nil {
		return 0, err
	}
	var one [1]byte
	if _, err := io.ReadFull(c, one[:]); err != nil {
		return 0, err
	}
	return time.Since(begin), nil
}

// latencies makes one connection after the other.
func (b *bench) latencies(s *system, duration time.Duration) ([]time.Duration, error) {
	all, err := b.latenciesBeside(s, duration)
	return all, errors.Join(err, b.origin.settle())
}

// latenciesBeside is latencies while something else goes on.
func (b *bench) latenciesBeside(s *system, duration time.Duration) ([]time.Duration, error) {
	var all []time.Duration
	for begin := time.Now(); time.Since(begin) < duration || len(all) < 20; {
		d, err := b.firstByte(b.ctx, s)
		if err != nil {
			return nil, fmt.Errorf("%s: connection %d: %w", s.name, len(all)+1, err)
		}
		all = append(all, d)
	}
	return all, nil
}

// connections makes connections, several at a time, and returns how many were
// made in a second and how many failed. It gives up at the hundredth.
func (b *bench) connections(s *system, atOnce int, duration time.Duration) (perSecond float64, failed int64, err error) {
	var made, failures atomic.Int64
	var wg sync.WaitGroup
	errs := make(chan error, 1)
	begin := time.Now()
	for range atOnce {
		wg.Go(func() {
			for time.Since(begin) < duration && failures.Load() < 100 {
				if _, err := b.firstByte(b.ctx, s); err == nil {
					made.Add(1)
				} else if failures.Add(1); len(errs) == 0 {
					select {
					case errs <- err:
					default:
					}
				}
			}
		})
	}
	wg.Wait()
	perSecond = float64(made.Load()) / time.Since(begin).Seconds()
	failed = failures.Load()
	if failed > 0 {
		b.report.fault(s.name+", several connections at once", fmt.Errorf("%d of %d fail: %w", failed, failed+made.Load(), <-errs))
	}
	return perSecond, failed, b.origin.settle()
}

// sleep waits, or until the bench is interrupted.
func (b *bench) sleep(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-b.ctx.Done():
	}
}
