package tunnel

import (
	"context"
	"time"

	"github.com/snapproxy/snapproxy/tunnel/snaptun"
)

// maxHandshakes is how many initiations may wait for their X25519: a quarter of
// a second's work, as long as who sent one has patience.
const maxHandshakes = 1024

// begin takes up an initiation. Data of other tunnels should not have to wait
// for its X25519, so that is left to others. It is called with mu held.
func (l *Listener[A]) begin(b []byte, from A, now time.Time) error {
	if len(l.handshakes) == cap(l.handshakes) { // nobody else puts something in
		l.counters.handshakesFull.Add(1)
		return nil
	}
	h, err := l.responder.Begin(b, from, now)
	if err == nil {
		l.handshakes <- h
	}
	return err
}

// runHandshakes works on initiations until ctx ends.
func (l *Listener[A]) runHandshakes(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case h := <-l.handshakes:
			l.shake(h)
		}
	}
}

// shake completes an initiation.
func (l *Listener[A]) shake(h *snaptun.Handshake[A]) {
	out := l.batches.get()
	defer l.batches.put(out)
	for done := false; !done; {
		h.Compute()
		l.mu.Lock()
		now := l.now()
		var err error
		if _, done, err = l.responder.Continue(h, now); done {
			if err != nil {
				l.counters.drop(err)
			} else {
				l.counters.handshakesIn.Add(1)
			}
			l.settle(out, now)
		}
		l.mu.Unlock()
	}
	_, _ = out.transmit(l.cfg.Carrier, &l.counters)
}
