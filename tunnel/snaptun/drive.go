package snaptun

import "time"

const (
	// driveInterval is the time between handshakes that a Responder starts by
	// itself: 500 a second keep a fifteenth of a core busy.
	driveInterval = 2 * time.Millisecond
	// driveBurst is how many it starts at once after a while without any.
	driveBurst = 10
)

// A drive bounds how many handshakes are started because of timers and queued
// data. Thousands of peers may fall silent at once; what is lost by asking them
// one after the other is nothing, since a peer that lives asks by itself. The
// zero value does not bound.
type drive struct {
	interval time.Duration // 0: no bound
	next     instant       // turn of the handshake after those that were started or have a turn
	started  int           // so far
}

// start reports whether a handshake may start now, and counts it.
func (d *drive) start(now instant) bool {
	if d.next = max(d.next, now.add(-driveBurst*d.interval)); d.next > now {
		return false
	}
	d.next = d.next.add(d.interval)
	d.started++
	return true
}

// turn returns when a handshake may start that may not now.
func (d *drive) turn() (at instant) {
	at = d.next
	d.next = d.next.add(d.interval)
	return at
}
