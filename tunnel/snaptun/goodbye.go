package snaptun

import "fmt"

// A Reason tells why a peer ended a session by a goodbye.
type Reason byte

// The reasons of a goodbye.
const (
	ReasonShutdown Reason = 1 + iota // the peer's program ends
	ReasonLeave                      // the peer needs the tunnel no more
	ReasonAbuse                      // the peer objects to what we sent
	ReasonRevoked                    // our key is not authorized any more
	ReasonError                      // the peer found itself unable to go on
)

var reasonNames = [...]string{"", "shutdown", "leave", "abuse", "revoked", "error"}

// String returns the name of a reason, or its number if it has none.
func (r Reason) String() string {
	if r == 0 || int(r) >= len(reasonNames) {
		return fmt.Sprintf("reason %d", byte(r))
	}
	return reasonNames[r]
}

// A goodbye is a data message with the payload 0xff "bye" reason. It is too
// short for a SCION packet or an inner frame, so nothing forwarded can have that
// form, and a peer that does not know it drops it.
const goodbyeSize = 5

func goodbye(r Reason) [goodbyeSize]byte { return [goodbyeSize]byte{0xff, 'b', 'y', 'e', byte(r)} }

func parseGoodbye(payload []byte) (r Reason, ok bool) {
	if len(payload) != goodbyeSize || string(payload[:4]) != "\xffbye" {
		return 0, false
	}
	return Reason(payload[4]), true
}

// Reserved reports whether a payload cannot be sent because it has a meaning of
// its own: empty as a keepalive, or the form of a goodbye. Seal checks it, the
// caller of Reserve has to know it.
func Reserved(payload []byte) bool {
	_, bye := parseGoodbye(payload)
	return bye || len(payload) == 0
}
