package snaptun

const (
	maxQueued = 256
	// maxQueuedBytes bounds the queue for payloads that are not packets of
	// ordinary size.
	maxQueuedBytes = 1 << 20
)

// A queue holds copies of payloads that wait for a session. When it is full the
// new payload is dropped.
type queue struct {
	payloads [][]byte
	bytes    int
}

func (q *queue) push(payload []byte) error {
	if len(q.payloads) >= maxQueued || q.bytes+len(payload) > maxQueuedBytes {
		return ErrQueueFull
	}
	q.payloads = append(q.payloads, append([]byte(nil), payload...))
	q.bytes += len(payload)
	return nil
}

// first returns the oldest payload, or nil.
func (q *queue) first() []byte {
	if len(q.payloads) == 0 {
		return nil
	}
	return q.payloads[0]
}

func (q *queue) pop() {
	q.bytes -= len(q.payloads[0])
	q.payloads[0] = nil
	if q.payloads = q.payloads[1:]; len(q.payloads) == 0 {
		q.payloads = nil
	}
}

func (q *queue) clear() { *q = queue{} }
