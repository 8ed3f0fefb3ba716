package tunnel

import (
	"errors"
	"sync/atomic"

	"github.com/snapproxy/snapproxy/tunnel/snaptun"
)

// reasonNames are the stable names of why a datagram or packet was dropped.
var reasonNames = map[error]string{
	snaptun.ErrNotSNAPtun:       "not_snaptun",
	snaptun.ErrMAC1:             "mac1",
	snaptun.ErrUnderLoad:        "under_load",
	snaptun.ErrSourceBudget:     "source_budget",
	snaptun.ErrUnauthorized:     "unauthorized",
	snaptun.ErrWrongKey:         "wrong_key",
	snaptun.ErrStaleInitiation:  "stale_initiation",
	snaptun.ErrReplay:           "replay",
	snaptun.ErrUnknownIndex:     "unknown_index",
	snaptun.ErrAddrMismatch:     "addr_mismatch",
	snaptun.ErrOpen:             "open",
	snaptun.ErrCookie:           "cookie",
	snaptun.ErrTooManyPeers:     "too_many_peers",
	snaptun.ErrCounterExhausted: "counter_exhausted",
	snaptun.ErrGoodbye:          "goodbye",
	snaptun.ErrNoPeer:           "no_peer",
	snaptun.ErrQueueFull:        "queue_full",
	snaptun.ErrReservedPayload:  "reserved_payload",
	snaptun.ErrNoSession:        "no_session",
}

// counters count datagrams of the carrier and packets of the user, and what was
// dropped by reason.
type counters struct {
	datagramsIn, datagramsOut    atomic.Uint64
	packetsIn, packetsOut        atomic.Uint64
	keepalivesIn, handshakesIn   atomic.Uint64
	hints                        atomic.Uint64
	queued                       atomic.Uint64 // packets that waited for a session
	carrierDropped               atomic.Uint64 // datagrams that the carrier did not take
	packetSize                   atomic.Uint64 // packets of no byte or too many
	handshakesFull               atomic.Uint64 // initiations for which there was no time
	framesIn, framesOut          atomic.Uint64
	reassembled, evicted, probes atomic.Uint64

	reasons map[error]*atomic.Uint64 // fixed when made
	other   atomic.Uint64
}

func (c *counters) init() {
	c.reasons = make(map[error]*atomic.Uint64)
	for _, err := range snaptun.Reasons() {
		c.reasons[err] = new(atomic.Uint64)
	}
	for _, err := range frameErrors {
		c.reasons[err] = new(atomic.Uint64)
	}
}

// drop counts something dropped because of err.
func (c *counters) drop(err error) {
	if n, ok := c.reasons[err]; ok {
		n.Add(1)
		return
	}
	for reason, n := range c.reasons {
		if errors.Is(err, reason) {
			n.Add(1)
			return
		}
	}
	c.other.Add(1)
}

// snapshot returns the counters by name.
func (c *counters) snapshot() map[string]uint64 {
	m := map[string]uint64{
		"datagrams_in":        c.datagramsIn.Load(),
		"datagrams_out":       c.datagramsOut.Load(),
		"packets_in":          c.packetsIn.Load(),
		"packets_out":         c.packetsOut.Load(),
		"keepalives_in":       c.keepalivesIn.Load(),
		"handshakes_in":       c.handshakesIn.Load(),
		"unreachable_hints":   c.hints.Load(),
		"packets_queued":      c.queued.Load(),
		"carrier_dropped":     c.carrierDropped.Load(),
		"dropped_packet_size": c.packetSize.Load(),
		"dropped_handshakes":  c.handshakesFull.Load(),
		"frames_in":           c.framesIn.Load(),
		"frames_out":          c.framesOut.Load(),
		"packets_reassembled": c.reassembled.Load(),
		"packets_evicted":     c.evicted.Load(),
		"liveness_probes":     c.probes.Load(),
		"dropped_other":       c.other.Load(),
	}
	for err, n := range c.reasons {
		name, ok := reasonNames[err]
		if !ok {
			name = err.Error()
		}
		m["dropped_"+name] = n.Load()
	}
	return m
}
