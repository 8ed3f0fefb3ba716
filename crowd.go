package snapproxy

import (
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"time"
)

const (
	// crowdLeast is how many streams at a time are a crowd, whose memory is worth
	// looking after: 512 with buffers of 64 KiB are 64 MiB.
	crowdLeast = 512
	// crowdRest is how long after a crowd its memory is given back.
	crowdRest = 10 * time.Second
)

// A crowd counts streams. When most of many have ended it gives the memory that
// they had back to the system, which the runtime would keep for minutes: pools
// are emptied by the second collection only, and one that is idle collects every
// two minutes.
type crowd struct {
	n, peak atomic.Int64
	leaving atomic.Bool
	free    func()
}

// streams counts the streams of the process, as memory is the process's.
var streams = crowd{free: func() {
	runtime.GC()
	debug.FreeOSMemory()
}}

func (c *crowd) enter() {
	n := c.n.Add(1)
	for p := c.peak.Load(); n > p && !c.peak.CompareAndSwap(p, n); p = c.peak.Load() {
	}
}

func (c *crowd) leave() {
	c.n.Add(-1)
	if c.over() && c.leaving.CompareAndSwap(false, true) {
		time.AfterFunc(crowdRest, c.rest)
	}
}

// over reports whether most of a crowd have ended.
func (c *crowd) over() bool {
	p := c.peak.Load()
	return p >= crowdLeast && c.n.Load() < p/8
}

// rest gives memory back, unless the crowd has returned.
func (c *crowd) rest() {
	c.leaving.Store(false)
	if c.over() {
		c.peak.Store(c.n.Load())
		c.free()
	}
}
