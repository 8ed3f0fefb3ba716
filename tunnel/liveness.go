package tunnel

import "time"

const (
	// awaitLimit is how long sent data may stay without any answer.
	awaitLimit = 2 * time.Second
	// While a peer answers the question but sends no data, as with a stream of
	// datagrams that nobody answers, the next question waits twice as long, up to
	// maxAwait.
	maxAwait = 16 * time.Second
	// probeRetry is the time between the initiations that ask whether the peer is
	// still there, and downAfter how long after the first it is not.
	probeRetry = 1500 * time.Millisecond
	downAfter  = 3 * time.Second
	// idleDownAfter is the same while no data waits for an answer: nobody would
	// notice two lost initiations.
	idleDownAfter = 6 * time.Second
	// hintPause is the least time between two probes because of hints, which
	// anybody can forge.
	hintPause = time.Second

	// While down there is an initiation every second, after ten seconds every
	// five.
	fastRetry = time.Second
	fastFor   = 10 * time.Second
	slowRetry = 5 * time.Second
)

// liveness decides whether the peer is there (DESIGN §4.10). It is told what
// happens and answers when to send an initiation.
//
//	      unanswered 2 s, hint          unanswered 3 s
//	up ────────────────────▶ probing ────────────────▶ down
//	 ▲                          │ heard                  │ heard
//	 └──────────────────────────┴────────────────────────┘
type liveness struct {
	up      bool
	probing time.Time     // first initiation without an answer; zero if none is due
	urgent  bool          // the probe is for data that waits, or a hint
	heard   time.Time     // last authenticated message when the probe began
	down    time.Time     // since when, if not up
	retry   time.Time     // next initiation while probing or down
	hinted  time.Time     // last probe because of a hint
	limit   time.Duration // how long data may wait; zero: awaitLimit
}

// start begins to look for the peer.
func (l *liveness) start(now time.Time) {
	l.down, l.retry = now, now
}

// established notes that a handshake of ours was answered.
func (l *liveness) established() {
	if l.up && !l.probing.IsZero() && l.urgent {
		l.limit = min(2*l.patience(), maxAwait)
	}
	l.up = true
	l.probing = time.Time{}
}

// hears notes that something authentic has come: whoever seemed to be gone is
// there.
func (l *liveness) hears() {
	if !l.up {
		l.established()
	}
}

// lost notes that the peer is gone for certain.
func (l *liveness) lost(now time.Time) {
	if l.up {
		l.up = false
		l.start(now)
		l.retry = now.Add(fastRetry)
	}
	l.probing = time.Time{}
}

// initiated notes that an initiation was sent, by whomever. It is a question
// like any other.
func (l *liveness) initiated(now, heard time.Time, urgent bool) {
	switch {
	case !l.up:
		l.retry = later(l.retry, now.Add(l.pause(now)))
	case l.probing.IsZero():
		l.probing, l.urgent, l.heard = now, urgent, heard
		l.retry = now.Add(probeRetry)
	case urgent:
		l.urgent = true
	}
}

// hint notes that the network says that nobody is there, and reports whether to
// initiate.
func (l *liveness) hint(now, heard time.Time) bool {
	if !l.up || !l.probing.IsZero() && l.urgent || now.Sub(l.hinted) < hintPause {
		return false
	}
	l.hinted = now
	l.initiated(now, heard, true)
	return true
}

// renew makes a side that is down ask as often as at first.
func (l *liveness) renew(now time.Time) {
	if !l.up {
		l.down = now
		l.retry = now.Add(fastRetry)
	}
}

// check does what is due. heard is when the last authenticated message came,
// awaiting since when data waits for an answer. It reports whether to initiate
// and whether up has changed.
func (l *liveness) check(now, heard, awaiting time.Time) (initiate, changed bool) {
	if !l.up {
		if now.Before(l.retry) {
			return false, false
		}
		l.retry = now.Add(l.pause(now))
		return true, false
	}
	if !l.probing.IsZero() && heard.After(l.heard) {
		l.probing = time.Time{}
	}
	switch {
	case l.probing.IsZero():
		if awaiting.IsZero() || now.Before(awaiting.Add(l.patience())) {
			return false, false
		}
		l.initiated(now, heard, true)
		return true, false
	case !now.Before(l.gone(awaiting)):
		l.lost(now)
		return true, true
	case !now.Before(l.retry):
		l.retry = now.Add(probeRetry)
		return true, false
	}
	return false, false
}

// pause returns the time to the next initiation while down.
func (l *liveness) pause(now time.Time) time.Duration {
	if now.Sub(l.down) < fastFor {
		return fastRetry
	}
	return slowRetry
}

// patience returns how long data may wait for an answer.
func (l *liveness) patience() time.Duration { return max(l.limit, awaitLimit) }

// data notes that the peer has sent something by itself.
func (l *liveness) data() { l.limit = 0 }

// gone returns when a probe without an answer means that the peer is gone.
func (l *liveness) gone(awaiting time.Time) time.Time {
	switch {
	case l.urgent:
		return l.probing.Add(downAfter)
	case awaiting.IsZero():
		return l.probing.Add(idleDownAfter)
	}
	return earlier(l.probing.Add(idleDownAfter), later(l.probing, awaiting).Add(downAfter))
}

// next returns when check has something to do, the zero time for never.
func (l *liveness) next(heard, awaiting time.Time) time.Time {
	switch {
	case !l.up:
		return l.retry
	case !l.probing.IsZero() && !heard.After(l.heard):
		return earlier(l.retry, l.gone(awaiting))
	case !awaiting.IsZero():
		return awaiting.Add(l.patience())
	}
	return time.Time{}
}

// earlier returns the earlier of two times, of which zero is none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
