//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"time"
)

const (
	megabyte = 1e6
	gigabyte = 1e9
)

// A maker starts a system with an impairment between its ends.
type maker func(b *bench, between impairment) (*system, error)

// together starts systems and calls use with them; they end after it.
func (b *bench) together(between impairment, makers []maker, use func([]*system) error) error {
	var all []*system
	defer func() {
		for _, s := range all {
			s.close()
		}
	}()
	for _, m := range makers {
		s, err := m(b, between)
		if err != nil {
			return err
		}
		all = append(all, s)
	}
	return use(all)
}

// turns calls f for each system in each round, in an order that turns with the
// rounds, so that none always follows another.
func (b *bench) turns(rounds int, all []*system, f func(*system) error) error {
	for round := range rounds {
		order := slices.Clone(all)
		if round%2 == 1 {
			slices.Reverse(order)
		}
		for _, s := range order {
			if err := f(s); err != nil {
				return err
			}
			if err := s.alive(); err != nil {
				return err
			}
		}
		fmt.Fprint(os.Stderr, ".")
	}
	return nil
}

var ways = []struct {
	name string
	dir  request
}{{"download", download}, {"upload", upload}}

// streams measures one stream each way.
func (b *bench) streams(suffix string, rounds int, warmup, duration time.Duration, all []*system) error {
	for _, s := range all {
		for _, c := range s.roles() {
			resetPeak(c.pid())
		}
	}
	for _, way := range ways {
		err := b.turns(rounds, all, func(s *system) error {
			f, err := b.stream(s, way.dir, 1, warmup, duration)
			if err == nil {
				b.note(way.name+suffix, s, f)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	for _, s := range all {
		b.notePeaks("streams"+suffix, s)
	}
	return nil
}

// note notes what streams carried.
func (b *bench) note(scenario string, s *system, f flow) {
	b.report.add(scenario, "throughput", "Gbit/s", s.name, f.gbit())
	if f.total == 0 {
		return // where losses are, a stream may stand still for a while
	}
	b.report.add(scenario, "CPU", "s/GB", s.name, f.whole())
	for _, c := range s.all {
		b.report.add(scenario, cpuOf+c.name, "s/GB", s.name, f.perGB(c.name))
	}
}

// notePeaks notes the most memory that the processes had.
func (b *bench) notePeaks(scenario string, s *system) {
	for _, c := range s.roles() {
		if _, peak, err := memory(c.pid()); err == nil {
			b.report.add(scenario, "peak RSS of "+c.name, "MB", s.name, float64(peak)/megabyte)
		}
	}
}

// loopbackStreams is one stream without delay.
func (b *bench) loopbackStreams() error {
	err := b.together(impairment{}, []maker{newSeparate, newServe, newPair}, func(all []*system) error {
		return b.streams("", b.plan.rounds, b.plan.warmup, b.plan.stream, all)
	})
	return errors.Join(err, b.allocations())
}

// allocations counts what one stream makes the roles allocate. It takes them as
// parts of this program: the product does not say.
func (b *bench) allocations() error {
	within := func(within bool) maker {
		return func(b *bench, _ impairment) (*system, error) { return newProfiled(b, "", "", within) }
	}
	for _, way := range ways {
		for _, of := range []struct {
			system string
			make   maker
		}{{"separate", within(false)}, {"serve", within(true)}, {"pair", newPair}} {
			s, err := of.make(b, impairment{})
			if err != nil {
				return err
			}
			defer s.close()
			t, err := b.openStream(s, way.dir)
			if err != nil {
				return err
			}
			b.sleep(b.plan.stream)
			t.close()
			if err := b.origin.settle(); err != nil {
				return err
			}
			s.close()
			arrived := float64(t.arrived.Load())
			for _, c := range s.roles() {
				a, err := c.allocations()
				if err != nil {
					return err
				}
				b.report.add(way.name, allocationsOf+c.name, "1/MB", of.system, float64(a.Objects)/(arrived/megabyte))
				b.report.add(way.name, allocatedOf+c.name, "KB/MB", of.system, float64(a.Bytes)/1000/(arrived/megabyte))
			}
		}
	}
	return nil
}

// throughShim is one stream each way through the shim.
func (b *bench) throughShim(suffix string, between impairment) error {
	makers := []maker{newSeparate, newPair}
	if err := kernelPossible(); err != nil {
		b.report.skip("kernel"+suffix, err.Error())
	} else {
		makers = append(makers, newKernel)
	}
	warmup, duration := b.plan.slowWarmup, b.plan.slowStream
	if between.Loss > 0 {
		warmup, duration = b.plan.lossWarmup, b.plan.lossStream
	}
	return b.together(between, makers, func(all []*system) error {
		return b.streams(suffix, b.plan.slowRounds, warmup, duration, all)
	})
}

// The delays of the scenarios are round trips: each way has half of it.

func (b *bench) delayed() error {
	return b.throughShim(", 20 ms", impairment{Delay: 10 * time.Millisecond, Seed: 1})
}

func (b *bench) lossy() error {
	return b.throughShim(", 100 ms, 0.1 % loss", impairment{Delay: 50 * time.Millisecond, Loss: .001, Seed: 1})
}

// connects is connections one after the other, several at a time, and one after
// the other while a stream takes what there is.
func (b *bench) connects() error {
	return b.together(impairment{}, []maker{newSeparate, newServe, newPair, newDirect}, func(all []*system) error {
		idle := map[*system]float64{}
		err := b.turns(b.plan.rounds, all, func(s *system) error {
			took, err := b.latencies(s, b.plan.latency)
			if err != nil {
				return err
			}
			idle[s] = quantile(milliseconds(took), .5)
			b.noteLatencies("connections", s, took)
			perSecond, failed, err := b.connections(s, atOnce, b.plan.connections)
			b.report.add("connections", "connections", "1/s", s.name, perSecond)
			b.report.add("connections", "failed", "", s.name, float64(failed))
			return err
		})
		if err != nil {
			return err
		}
		return b.turns(b.plan.slowRounds, all, func(s *system) error {
			t, err := b.openStream(s, download)
			if err != nil {
				return err
			}
			defer t.close()
			b.sleep(b.plan.warmup)
			took, err := b.latenciesBeside(s, b.plan.latency)
			if err != nil {
				return err
			}
			b.noteLatencies("beside a stream", s, took)
			b.report.add("beside a stream", "first byte p50 to idle", "x", s.name, quantile(milliseconds(took), .5)/idle[s])
			t.close()
			return b.origin.settle()
		})
	})
}

func (b *bench) noteLatencies(scenario string, s *system, took []time.Duration) {
	ms := milliseconds(took)
	b.report.add(scenario, "first byte p50", "ms", s.name, quantile(ms, .5))
	b.report.add(scenario, "first byte p99", "ms", s.name, quantile(ms, .99))
}

// manyStreams is many streams at once beside one.
func (b *bench) manyStreams() error {
	return b.together(impairment{}, []maker{newSeparate, newPair}, func(all []*system) error {
		for _, s := range all {
			for _, c := range s.roles() {
				resetPeak(c.pid())
			}
		}
		scenario := fmt.Sprintf("%d streams", b.plan.many)
		err := b.turns(b.plan.slowRounds, all, func(s *system) error {
			one, err := b.stream(s, download, 1, b.plan.warmup, b.plan.stream)
			if err != nil {
				return err
			}
			many, err := b.stream(s, download, b.plan.many, b.plan.slowWarmup, b.plan.slowStream)
			if err != nil {
				return err
			}
			b.note(scenario, s, many)
			b.report.add(scenario, "to one stream", "x", s.name, many.gbit()/max(one.gbit(), 1e-6))
			b.report.add(scenario, "fairness", "x", s.name, slices.Max(many.each)/max(slices.Min(many.each), 1))
			return nil
		})
		for _, s := range all {
			b.notePeaks(scenario, s)
		}
		return err
	})
}
