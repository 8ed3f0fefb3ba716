package snaptun

import "errors"

// What can be wrong with a datagram. Nothing is ever answered to one of these,
// except a cookie reply to ErrUnderLoad.
var (
	ErrNotSNAPtun       = errors.New("not a SNAPtun message")
	ErrMAC1             = errors.New("wrong mac1")
	ErrUnderLoad        = errors.New("under load, asked for a cookie")
	ErrSourceBudget     = errors.New("under load, source has spent its handshakes")
	ErrUnauthorized     = errors.New("key not authorized")
	ErrWrongKey         = errors.New("initiation by another key")
	ErrStaleInitiation  = errors.New("initiation too old")
	ErrReplay           = errors.New("replayed message")
	ErrUnknownIndex     = errors.New("receiver index unknown")
	ErrAddrMismatch     = errors.New("receiver index of another address")
	ErrOpen             = errors.New("message does not decrypt")
	ErrCookie           = errors.New("cookie reply to nothing sent")
	ErrTooManyPeers     = errors.New("too many peers")
	ErrCounterExhausted = errors.New("message counter too high")
	ErrNoSession        = errors.New("session too old")

	// ErrGoodbye says that the datagram was an authentic goodbye: no fault, but
	// nothing to deliver either. The event tells the reason.
	ErrGoodbye = errors.New("peer said goodbye")

	// ErrNotData is returned by the batch primitives for handshake messages,
	// which belong to HandleDatagram.
	ErrNotData = errors.New("not a data message")
)

// What can be wrong with a payload to send.
var (
	ErrNoPeer          = errors.New("no peer at this address")
	ErrQueueFull       = errors.New("queue full")
	ErrReservedPayload = errors.New("payload empty or of the form of a goodbye")
)

// Reasons lists the errors with which a datagram may be rejected, or a payload
// dropped, so that the caller can keep one counter for each.
func Reasons() []error {
	return []error{
		ErrNotSNAPtun, ErrMAC1, ErrUnderLoad, ErrSourceBudget, ErrUnauthorized, ErrWrongKey,
		ErrStaleInitiation, ErrReplay, ErrUnknownIndex, ErrAddrMismatch, ErrOpen, ErrCookie,
		ErrTooManyPeers, ErrCounterExhausted, ErrNoSession, ErrGoodbye,
		ErrNoPeer, ErrQueueFull, ErrReservedPayload,
	}
}
