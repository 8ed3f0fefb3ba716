package tunnel

import (
	"context"
	"log/slog"
	"time"

	"github.com/snapproxy/snapproxy/tunnel/snaptun"
)

// A Carrier moves datagrams between addresses of type A. It may lose, repeat
// and reorder them. An address may include the route to it.
type Carrier[A any] interface {
	// Run receives until ctx ends and hands batches to deliver, one after the
	// other. The slices are parallel; they and the bytes are lent until deliver
	// returns, which may overwrite them. A nil packet is a hint, which anybody
	// can forge, that the network reported from[i] unreachable; an empty
	// datagram is an empty slice that is not nil. An error of deliver ends Run.
	Run(ctx context.Context, deliver func(from []A, packets [][]byte) error) error

	// WritePackets sends packets[i] to to[i] and returns how many were sent. It
	// never blocks and never queues: what cannot be sent is dropped and
	// counted. The error is for a carrier that will not send again. It is safe
	// for concurrent use.
	WritePackets(to []A, packets [][]byte) (n int, err error)
}

// Config is what a Conn and a Listener have in common.
type Config[A comparable] struct {
	// Carrier moves the datagrams of the tunnel and nothing else.
	Carrier Carrier[A]
	// PrivateKey is our static key.
	PrivateKey snaptun.PrivateKey
	// Keepalive is the interval of persistent keepalives. If zero, none are sent.
	Keepalive time.Duration

	// FrameSize returns how many bytes of a frame, header included, fit one
	// datagram towards an address at this moment; it is clamped to 272..9,000.
	// It is asked for every batch, without locks held, and must not block. If
	// nil, packets are not framed: a payload is a packet.
	FrameSize func(to A) int
	// Reassemblies is how many packets of one peer may be in reassembly at a time,
	// each of which holds 64 KiB. If zero, 64 for a Conn and 8 for a Listener.
	Reassemblies int

	// Logger is told, at debug level, when a tunnel changes state: who is notified
	// knows better what that means. If nil, nothing is logged.
	Logger *slog.Logger
	// Clock tells the time. If nil, it is time.Now.
	Clock func() time.Time
	// Timers are for tests; the zero value is the specification's.
	Timers snaptun.Timers
}

func (c *Config[A]) logger() *slog.Logger {
	if c.Logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return c.Logger
}

func (c *Config[A]) reassemblies(usual int) int {
	if c.Reassemblies <= 0 {
		return usual
	}
	return c.Reassemblies
}

func (c *Config[A]) clock() func() time.Time {
	if c.Clock == nil {
		return time.Now
	}
	return c.Clock
}
