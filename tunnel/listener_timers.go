package tunnel

import (
	"context"
	"time"

	"github.com/snapproxy/snapproxy/tunnel/snaptun"
)

// tick does what is due and returns when there is more.
func (l *Listener[A]) tick(now time.Time) time.Time {
	out := l.batches.get()
	defer l.batches.put(out)
	l.mu.Lock()
	l.responder.HandleTimeout(now)
	l.alarm.at = time.Time{}
	l.expire(now)
	l.settle(out, now)
	next := l.alarm.take()
	l.mu.Unlock()
	_, _ = out.transmit(l.cfg.Carrier, &l.counters)
	return next
}

// expireAt looks after reassembly at t. It is called with mu held.
func (l *Listener[A]) expireAt(t time.Time) {
	l.expiry = earlier(l.expiry, t)
	l.alarm.set(l.expiry)
}

// expire frees what incomplete packets hold. It is called with mu held.
func (l *Listener[A]) expire(now time.Time) {
	if l.expiry.IsZero() {
		return
	}
	if now.Before(l.expiry) {
		l.alarm.set(l.expiry)
		return
	}
	l.expiry = time.Time{}
	for _, f := range l.flows {
		if f.in.expire(now) {
			l.expireAt(now.Add(reassemblyLifetime))
		}
		l.counters.evicted.Add(f.in.takeEvicted())
	}
}

// settle takes messages and events out of the responder and sets the alarm. It
// is called with mu held, after whatever may have brought some.
func (l *Listener[A]) settle(out *outgoing[A], now time.Time) {
	for {
		to, m := l.responder.NextTransmit()
		if m == nil {
			break
		}
		out.add(to, m)
	}
	for ev, ok := l.responder.NextEvent(); ok; ev, ok = l.responder.NextEvent() {
		switch ev := ev.(type) {
		case snaptun.Confirmed[A]:
			if l.cfg.FrameSize != nil {
				l.flows[ev.Peer] = newFlow(l.cfg.reassemblies(listenerQueues), now)
			}
			l.notify.put(PeerEvent[A]{Peer: ev.Peer})
		case snaptun.Gone[A]:
			if f := l.flows[ev.Peer]; f != nil {
				f.in.release()
				delete(l.flows, ev.Peer)
			}
			l.notify.put(PeerEvent[A]{Peer: ev.Peer, Gone: true, Cause: ev.Cause, Reason: ev.Reason})
		}
	}
	l.alarm.set(l.responder.NextTimeout())
}

// runNotify calls back until ctx ends.
func (l *Listener[A]) runNotify(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.notify.wake:
		}
		l.mu.Lock()
		pending := l.notify.take()
		l.mu.Unlock()
		for _, ev := range pending {
			if ctx.Err() != nil {
				return
			}
			l.logger.Debug("peer changed", "origin", ev.Peer.Origin(), "gone", ev.Gone, "cause", ev.Cause, "reason", ev.Reason)
			if l.cfg.Notify != nil {
				l.cfg.Notify(ev)
			}
		}
	}
}
