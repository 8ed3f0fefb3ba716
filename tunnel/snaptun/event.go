package snaptun

import "net/netip"

// An Event tells what became of a peer. It is one of Established, GivenUp,
// Expired and PeerClosed for a Session, and of Confirmed and Gone for a
// Responder.
type Event interface{ event() }

// Established says that a session stands and data can be sent in it. It comes
// again with every rekeying.
type Established struct {
	// Assigned is the address at which the peer saw us. It is zero if the peer was
	// the initiator or told no address.
	Assigned netip.AddrPort
	// Burst is how many bytes of datagrams the peer said that it takes in at once.
	// It is zero if it did not.
	Burst int
	// Initiator says that the handshake was ours.
	Initiator bool
}

// GivenUp says that a handshake went unanswered for 90 seconds. Queued payloads
// are lost; the session may be initiated again.
type GivenUp struct{}

// Expired says that there was no new session for 540 seconds.
type Expired struct{}

// PeerClosed says that the peer said goodbye. Its sessions are gone; none is
// started before there is data to send or Initiate is called.
type PeerClosed struct{ Reason Reason }

// Confirmed says that a peer sent its first data and owns its address now.
type Confirmed[A comparable] struct{ Peer *Peer[A] }

// Gone says that a peer that was confirmed has been removed.
type Gone[A comparable] struct {
	Peer   *Peer[A]
	Cause  Cause
	Reason Reason // if the cause is CauseGoodbye
}

func (Established) event()  {}
func (GivenUp) event()      {}
func (Expired) event()      {}
func (PeerClosed) event()   {}
func (Confirmed[A]) event() {}
func (Gone[A]) event()      {}

// A Cause tells why a Responder removed a peer.
type Cause int

// The causes of Gone.
const (
	CauseExpired  Cause = 1 + iota // no new session for 540 seconds
	CauseGivenUp                   // our handshake unanswered for 90 seconds
	CauseReplaced                  // another key confirmed a session at its address
	CauseGoodbye                   // the peer said goodbye
)

var causeNames = [...]string{"none", "expired", "given up", "replaced", "goodbye"}

// String returns the cause in a word or two.
func (c Cause) String() string {
	if c < 0 || int(c) >= len(causeNames) {
		c = 0
	}
	return causeNames[c]
}

type events struct{ pending []Event }

func (e *events) tell(ev Event) { e.pending = append(e.pending, ev) }

func (e *events) next() (Event, bool) {
	if len(e.pending) == 0 {
		return nil, false
	}
	ev := e.pending[0]
	e.pending[0] = nil
	if e.pending = e.pending[1:]; len(e.pending) == 0 {
		e.pending = nil
	}
	return ev, true
}
