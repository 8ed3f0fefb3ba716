package tunnel

import (
	"net/netip"
	"time"

	"github.com/snapproxy/snapproxy/tunnel/snaptun"
)

// Status is the state of a Conn.
type Status struct {
	// Up reports whether the peer answers. While it does not, the Conn keeps
	// trying.
	Up bool
	// Since is when Up took its value.
	Since time.Time
	// Assigned is the address at which the peer saw us in the last handshake of
	// ours, the zero AddrPort if it never told.
	Assigned netip.AddrPort
	// Burst is how many bytes of datagrams the peer said then that it takes in at
	// once, zero if it did not.
	Burst int
	// Handshaked is when the newest session was made.
	Handshaked time.Time
	// Closed is the reason of the peer's goodbye, if that is why the Conn is not
	// up; else zero.
	Closed snaptun.Reason
}

// A PeerEvent tells that a peer of a Listener has come or gone.
type PeerEvent[A comparable] struct {
	Peer *snaptun.Peer[A]
	// Gone is false when the peer has confirmed its first session, and true when
	// it has been removed, for Cause.
	Gone  bool
	Cause snaptun.Cause
	// Reason is what the peer said in its goodbye, if that is the cause.
	Reason snaptun.Reason
}

// A notifier calls back in the order of what happened, without a lock of the
// caller held. Its channel is made where it is used.
type notifier[E any] struct {
	pending []E           // guarded by the lock of the owner
	wake    chan struct{} // has an element if something may be pending
}

func newNotifier[E any]() notifier[E] { return notifier[E]{wake: make(chan struct{}, 1)} }

// put adds an event. The owner's lock is held.
func (n *notifier[E]) put(e E) {
	n.pending = append(n.pending, e)
	signal(n.wake)
}

// take returns and removes what is pending. The owner's lock is held.
func (n *notifier[E]) take() []E {
	p := n.pending
	n.pending = nil
	return p
}

// signal wakes the one that waits on a channel with room for one element.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// An alarm wakes the goroutine that runs the timers when a deadline has moved
// nearer. It is guarded by the lock of its owner.
type alarm struct {
	at   time.Time // when it goes off; zero: never
	wake chan struct{}
}

// set makes the alarm go off at t, if that is before it would anyway.
func (a *alarm) set(t time.Time) {
	if !t.IsZero() && (a.at.IsZero() || t.Before(a.at)) {
		a.at = t
		signal(a.wake)
	}
}

// take returns when the alarm goes off, to the goroutine that it would wake:
// what it was set to so far wakes nobody any more.
func (a *alarm) take() time.Time {
	select {
	case <-a.wake:
	default:
	}
	return a.at
}
