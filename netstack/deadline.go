package netstack

import (
	"sync"
	"time"
)

// A deadline is a channel that is closed at a time which may be moved.
type deadline struct {
	mu      sync.Mutex // guards what follows
	timer   *time.Timer
	version int // of the timer's setting; older ones that still fire are ignored
	expired chan struct{}
}

// set moves the deadline; the zero time is never.
func (d *deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.version++
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	if d.expired == nil || isDone(d.expired) {
		d.expired = make(chan struct{})
	}
	if t.IsZero() {
		return
	}
	wait := time.Until(t)
	if wait <= 0 {
		close(d.expired)
		return
	}
	version := d.version
	d.timer = time.AfterFunc(wait, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.version == version {
			close(d.expired)
		}
	})
}

// done returns the channel that is closed at the deadline. It stays the right
// one until the deadline has passed.
func (d *deadline) done() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.expired == nil {
		d.expired = make(chan struct{})
	}
	return d.expired
}

// stop frees the timer.
func (d *deadline) stop() { d.set(time.Time{}) }

func isDone(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
