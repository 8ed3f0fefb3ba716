package netstack

import (
	"math/bits"
	"sync"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

const (
	// allReceive is what the receive buffers of all connections should come to.
	// What a connection holds that nobody reads cannot be taken from it again, so
	// the more there are, the less the next ones may have; who opens them one after
	// the other and lets each grow gets a few times as much.
	allReceive = 256 << 20
	// minReceive is what a connection may receive before anybody reads, whatever
	// the others hold.
	minReceive = 64 << 10
)

// A receiveShare divides memory for what is received among connections.
type receiveShare struct {
	// apply tells gVisor the size of new buffers and up to which all may grow.
	apply func(first, most int)

	mu    sync.Mutex // guards what follows; held while calling apply
	conns int
	most  int
}

// add notes that n connections more, or fewer, are open.
func (r *receiveShare) add(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.conns += n
	// By powers of two, so that not every connection changes it.
	level := 1 << bits.Len(uint(max(r.conns-1, 0)))
	most := min(max(allReceive/level, minReceive), maxReceiveBuffer)
	if most != r.most {
		r.most = most
		r.apply(min(defaultReceiveBuffer, most), most)
	}
}

// setReceiveBuffers is the apply of a stack's receiveShare. It can only fail for
// numbers that make no sense.
func (s *Stack) setReceiveBuffers(first, most int) {
	o := tcpip.TCPReceiveBufferSizeRangeOption{Min: tcp.MinBufferSize, Default: first, Max: most}
	if err := s.ipstack.SetTransportProtocolOption(tcp.ProtocolNumber, &o); err != nil {
		s.logger.Error("set receive buffers", "first", first, "most", most, "error", err.String())
	}
}
