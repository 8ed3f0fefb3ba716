package snaptun

import (
	"errors"
	"time"
)

// Timers are the durations of the protocol. A zero field is the value of the
// specification, which is what everybody but a test uses.
type Timers struct {
	// RekeyAfter is the age at which the initiator of a session replaces it. 120 s.
	RekeyAfter time.Duration
	// RejectAfter is the age at which a session is unusable. 180 s.
	RejectAfter time.Duration
	// RekeyTimeout is the time between two initiations of one attempt. 5 s.
	RekeyTimeout time.Duration
	// GiveUpAfter is how long an attempt goes on without an answer. 90 s.
	GiveUpAfter time.Duration
	// ExpireAfter is how long a peer lives without a new session. 540 s.
	ExpireAfter time.Duration
	// PassiveKeepalive is how long we stay silent towards a peer that sends. 10 s.
	PassiveKeepalive time.Duration
	// AnswerDelay is how long an overdue answer to data waits for data to go
	// instead of an empty message. 250 ms.
	AnswerDelay time.Duration
	// AnswerTimeout is how long sent data may stay unanswered before a new
	// handshake. 15 s.
	AnswerTimeout time.Duration
	// CookieLifetime is how long a received cookie is used. 120 s.
	CookieLifetime time.Duration
	// HalfOpen is how long a Responder waits for the first data message of a
	// newcomer. 10 s.
	HalfOpen time.Duration
}

var specTimers = Timers{
	RekeyAfter:       120 * time.Second,
	RejectAfter:      180 * time.Second,
	RekeyTimeout:     5 * time.Second,
	GiveUpAfter:      90 * time.Second,
	ExpireAfter:      540 * time.Second,
	PassiveKeepalive: 10 * time.Second,
	AnswerDelay:      250 * time.Millisecond,
	AnswerTimeout:    15 * time.Second,
	CookieLifetime:   120 * time.Second,
	HalfOpen:         10 * time.Second,
}

// withDefaults returns t with the values of the specification for zeros.
func (t Timers) withDefaults() (Timers, error) {
	var err error
	fill := func(d *time.Duration, spec time.Duration) {
		if *d < 0 {
			err = errors.New("negative timer")
		}
		if *d == 0 {
			*d = spec
		}
	}
	fill(&t.RekeyAfter, specTimers.RekeyAfter)
	fill(&t.RejectAfter, specTimers.RejectAfter)
	fill(&t.RekeyTimeout, specTimers.RekeyTimeout)
	fill(&t.GiveUpAfter, specTimers.GiveUpAfter)
	fill(&t.ExpireAfter, specTimers.ExpireAfter)
	fill(&t.PassiveKeepalive, specTimers.PassiveKeepalive)
	fill(&t.AnswerDelay, specTimers.AnswerDelay)
	fill(&t.AnswerTimeout, specTimers.AnswerTimeout)
	fill(&t.CookieLifetime, specTimers.CookieLifetime)
	fill(&t.HalfOpen, specTimers.HalfOpen)
	return t, err
}

// rekeyOnReceive is the age at which the initiator replaces a session on which
// it only receives.
func (t *Timers) rekeyOnReceive() time.Duration {
	return max(t.RejectAfter-t.PassiveKeepalive-t.RekeyTimeout, t.RekeyAfter)
}

// An instant counts nanoseconds from the creation of the state machine. Zero
// means never. It is a third of a time.Time, and there are many per peer.
type instant int64

func (i instant) add(d time.Duration) instant   { return i + instant(d) }
func (i instant) since(j instant) time.Duration { return time.Duration(i - j) }

// sooner returns the earlier of two deadlines, of which zero is none.
func sooner(i, j instant) instant {
	if i == 0 || j != 0 && j < i {
		return j
	}
	return i
}
