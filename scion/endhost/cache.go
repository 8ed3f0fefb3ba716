package endhost

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/snapproxy/snapproxy/scion"
)

const (
	wholeTime      = time.Minute     // that an answer is kept
	partTime       = 5 * time.Second // that one is kept that is empty, or lacks something
	maxCached      = 64              // answers
	maxCachedTotal = 8192            // segments of all answers
)

// A segmentCache keeps answers for a short time. Questions for an AS that come
// while one for it is being answered wait for that answer. The zero one is
// empty and ready.
type segmentCache struct {
	mu      sync.Mutex // guards entries; not held while fetching
	entries map[scion.IA]*cached
}

// cached is an answer, or one that is awaited.
type cached struct {
	done chan struct{} // closed when the rest is there and changes no more
	answer
	err   error
	until time.Time
}

// An answer is what was found.
type answer struct {
	segments Segments
	partial  bool // some question was not answered
}

// get returns the segments to dst from the cache, or from fetch.
func (c *segmentCache) get(ctx context.Context, dst scion.IA, fetch func(context.Context) (answer, error)) (Segments, error) {
	for {
		entry, ours := c.entry(dst, time.Now())
		if ours {
			entry.answer, entry.err = fetch(ctx)
			c.finish(dst, entry, time.Now())
			return entry.segments, entry.err
		}
		select {
		case <-entry.done:
		case <-ctx.Done():
			return Segments{}, ctx.Err()
		}
		if abandoned := errors.Is(entry.err, context.Canceled) || errors.Is(entry.err, context.DeadlineExceeded); !abandoned {
			return entry.segments, entry.err
		}
		// Who asked has lost patience; that need not be so of us.
		if err := ctx.Err(); err != nil {
			return Segments{}, err
		}
	}
}

// entry returns the entry for dst, and whether it is the caller's to finish.
func (c *segmentCache) entry(dst scion.IA, now time.Time) (e *cached, ours bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.entries[dst]; e != nil && (e.until.IsZero() || now.Before(e.until)) {
		return e, false
	}
	if c.entries == nil {
		c.entries = map[scion.IA]*cached{}
	}
	e = &cached{done: make(chan struct{})}
	c.entries[dst] = e
	return e, true
}

// finish hands an answer to those who wait for it. Errors are not kept.
func (c *segmentCache) finish(dst scion.IA, e *cached, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(e.done)
	keep := wholeTime
	if e.partial || e.segments.Len() == 0 {
		keep = partTime
	}
	e.until = now.Add(keep)
	if e.err != nil {
		delete(c.entries, dst)
	}
	c.shrink(now)
}

// shrink forgets what has expired, and then what expires soonest, until the
// rest is small enough.
func (c *segmentCache) shrink(now time.Time) {
	total := 0
	for dst, e := range c.entries {
		switch {
		case e.until.IsZero(): // awaited
		case !now.Before(e.until):
			delete(c.entries, dst)
		default:
			total += e.segments.Len()
		}
	}
	for total > maxCachedTotal || len(c.entries) > maxCached {
		var soonest *cached
		var at scion.IA
		for dst, e := range c.entries {
			if !e.until.IsZero() && (soonest == nil || e.until.Before(soonest.until)) {
				soonest, at = e, dst
			}
		}
		if soonest == nil {
			return
		}
		total -= soonest.segments.Len()
		delete(c.entries, at)
	}
}
