package tunnel

import (
	"context"
	"encoding/binary"
	"time"

	"github.com/snapproxy/snapproxy/tunnel/snaptun"
)

// runTimers does what is due until ctx ends.
func (c *Conn[A]) runTimers(ctx context.Context) {
	runAlarm(ctx, c.alarm.wake, c.now, c.tick)
}

// runAlarm calls tick, which returns when it wants to be called again, until ctx
// ends. A signal on wake says that this may have changed.
func runAlarm(ctx context.Context, wake <-chan struct{}, clock func() time.Time, tick func(now time.Time) time.Time) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		now := clock()
		next := tick(now)
		var due <-chan time.Time
		if !next.IsZero() {
			// At least a moment, so that a deadline that stays does not spin.
			timer.Reset(max(next.Sub(now), time.Millisecond))
			due = timer.C
		}
		select {
		case <-ctx.Done():
			return
		case <-wake:
		case <-due:
		}
	}
}

// tick does what is due and returns when there is more.
func (c *Conn[A]) tick(now time.Time) time.Time {
	out := c.batches.get()
	defer c.batches.put(out)
	busy := c.cfg.FrameSize != nil && c.flow.in.expire(now)
	c.counters.evicted.Add(c.flow.in.takeEvicted())

	c.mu.Lock()
	c.session.HandleTimeout(now)
	c.settle(out, now) // an initiation among it counts as ours
	initiate, _ := c.live.check(now, c.session.LastReceived(), c.session.AwaitingSince())
	if initiate && c.hasPeer() {
		c.initiate(now, true)
	}
	c.alarm.at = time.Time{}
	c.settle(out, now)
	if busy {
		c.alarm.set(now.Add(reassemblyLifetime))
	}
	next := c.alarm.take()
	c.mu.Unlock()
	_, _ = out.transmit(c.cfg.Carrier, &c.counters)
	return next
}

// settle takes messages and events out of the session and sets the alarm. It is
// called with mu held, after whatever may have brought some.
func (c *Conn[A]) settle(out *outgoing[A], now time.Time) {
	for ev, ok := c.session.NextEvent(); ok; ev, ok = c.session.NextEvent() {
		c.handle(ev, now)
	}
	for {
		m := c.session.NextTransmit()
		if m == nil {
			break
		}
		if isInitiation(m) {
			// One that the session sends of its own accord is a question as well;
			// with packets waiting for the session it is an urgent one.
			c.live.initiated(now, c.session.LastReceived(), !c.session.Up(now))
		}
		if c.hasPeer() {
			out.add(c.route(nil), m)
		}
	}
	if c.status.Up != c.live.up {
		c.status.Up, c.status.Since = c.live.up, now
	}
	c.tell()
	c.alarm.set(c.deadline())
}

// handle takes an event of the session.
func (c *Conn[A]) handle(ev snaptun.Event, now time.Time) {
	switch ev := ev.(type) {
	case snaptun.Established:
		c.status.Handshaked = now
		c.status.Closed = 0
		if ev.Initiator {
			c.asked = true
			if ev.Assigned.IsValid() {
				c.status.Assigned = ev.Assigned
			}
			c.status.Burst = ev.Burst
		}
		// Before we have asked ourselves we do not know our address, and we are
		// asking just now.
		if c.asked {
			c.live.established()
		}
	case snaptun.PeerClosed:
		c.status.Closed = ev.Reason
		c.live.lost(now)
	case snaptun.GivenUp:
		c.live.lost(now)
	case snaptun.Expired:
		if c.hasPeer() {
			c.initiate(now, false)
		}
	}
}

// tell notifies of what has changed since the last time.
func (c *Conn[A]) tell() {
	if c.status.Up == c.told.Up && c.status.Assigned == c.told.Assigned && c.status.Burst == c.told.Burst {
		return
	}
	c.told = c.status
	c.notify.put(c.status)
}

// deadline returns when tick has something to do.
func (c *Conn[A]) deadline() time.Time {
	return earlier(c.session.NextTimeout(), c.live.next(c.session.LastReceived(), c.session.AwaitingSince()))
}

// runNotify calls back until ctx ends.
func (c *Conn[A]) runNotify(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.notify.wake:
		}
		c.mu.Lock()
		pending := c.notify.take()
		c.mu.Unlock()
		for _, s := range pending {
			if ctx.Err() != nil {
				return
			}
			c.logger.Debug("tunnel changed", "up", s.Up, "assigned", s.Assigned)
			if c.cfg.Notify != nil {
				c.cfg.Notify(s)
			}
		}
	}
}

// isInitiation reports whether a message of ours starts a handshake.
func isInitiation(m []byte) bool {
	return len(m) == 148 && binary.LittleEndian.Uint32(m) == 1
}
