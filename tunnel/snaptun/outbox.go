package snaptun

// An outbox holds the messages that wait for NextTransmit, in order. Its buffers
// are used again once all have been taken.
type outbox struct {
	messages [][]byte
	taken    int
}

const (
	outboxKeep  = 64   // buffers kept
	outboxSpace = 2048 // size up to which one is kept
)

// space returns an empty buffer to append the next message to.
func (o *outbox) space() []byte {
	if n := len(o.messages); n < cap(o.messages) {
		return o.messages[:n+1][n][:0]
	}
	return nil
}

// put adds a message that was appended to space.
func (o *outbox) put(b []byte) { o.messages = append(o.messages, b) }

// next returns the oldest message, or nil. It is valid until something is put.
func (o *outbox) next() []byte {
	if o.taken == len(o.messages) {
		return nil
	}
	o.taken++
	return o.messages[o.taken-1]
}

// reuse makes room again if all messages have been taken, and reports whether it
// has. It must not be called while one of them is still lent.
func (o *outbox) reuse() bool {
	if o.taken == 0 || o.taken < len(o.messages) {
		return false
	}
	if cap(o.messages) > outboxKeep {
		o.messages = o.messages[:outboxKeep:outboxKeep]
	}
	for i, b := range o.messages {
		if cap(b) > outboxSpace {
			o.messages[i] = nil
		}
	}
	o.messages = o.messages[:0]
	o.taken = 0
	return true
}
