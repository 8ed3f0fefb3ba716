//go:build linux

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// idle looks at roles that have nothing to do, at how soon a client is ready,
// and at the size of the program.
func (b *bench) idle() error {
	info, err := os.Stat(b.program)
	if err != nil {
		return err
	}
	b.report.add("binary", "size", "MB", "separate", float64(info.Size())/megabyte)
	for range b.plan.starts {
		err := b.together(impairment{}, []maker{newSeparate}, func(all []*system) error {
			b.report.add("idle", "ready", "ms", "separate", float64(all[0].role("client").startup)/float64(time.Millisecond))
			return nil
		})
		if err != nil {
			return err
		}
	}
	return b.together(impairment{}, []maker{newSeparate, newPair}, func(all []*system) error {
		b.sleep(time.Second) // what the start leaves to be done
		before := map[*child]time.Duration{}
		for _, s := range all {
			for _, c := range s.all {
				before[c] = ranFor(c.pid())
			}
		}
		begin := time.Now()
		b.sleep(b.plan.idle)
		took := time.Since(begin)
		for _, s := range all {
			for _, c := range s.all {
				suffix := ""
				if c.name != "client" {
					suffix = " of " + c.name
				}
				now, _, err := memory(c.pid())
				if err != nil {
					return err
				}
				b.report.add("idle", "RSS"+suffix, "MB", s.name, float64(now)/megabyte)
				percent := 100 * (ranFor(c.pid()) - before[c]).Seconds() / took.Seconds()
				b.report.add("idle", "share of a core"+suffix, "%", s.name, percent)
			}
		}
		return nil
	})
}

// ranFor is the time that the threads of a process have run, in nanoseconds
// where /proc/PID/stat has ticks. What threads that have ended ran is not in it.
func ranFor(pid int) (sum time.Duration) {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	for _, name := range tasks {
		b, _ := os.ReadFile(name)
		first, _, _ := strings.Cut(string(b), " ")
		n, _ := strconv.ParseInt(first, 10, 64)
		sum += time.Duration(n)
	}
	return sum
}
