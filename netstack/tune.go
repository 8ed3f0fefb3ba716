package netstack

import (
	"fmt"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

const (
	// Receive buffers grow by themselves to what fills a path of 100 ms at more
	// than 500 Mbit/s: half of a buffer is window. (4 MiB, gVisor's own limit, caps
	// one stream below that.)
	maxReceiveBuffer     = 16 << 20
	defaultReceiveBuffer = 1 << 20

	// minRTO is long, because gVisor's retransmission timer does harm: every time
	// it fires, what SACK told is forgotten, and with a second time, or a loss
	// after it, the congestion window is as good as lost. Tail loss probes come
	// before it, and flights look after what those do not mend.
	minRTO = 5 * time.Second
	// maxRTO bounds how long a connection sleeps after the tunnel is back.
	maxRTO = 10 * time.Second
	// acceptTimeout is how long a client has to answer the SYN-ACK. gVisor would
	// wait for two minutes.
	acceptTimeout = 15 * time.Second
	// userTimeout is how long unacknowledged data is sent again before the
	// connection is given up; an outage of the tunnel may last that long.
	userTimeout = 5 * time.Minute
	// orphanTimeout is the same for a connection that is already closed, whose
	// memory nobody waits for.
	orphanTimeout = 60 * time.Second
	// timeWait is short: nothing older than a few seconds is in a tunnel, and
	// every connection that waits keeps its memory.
	timeWait = 2 * time.Second

	keepaliveIdle     = 60 * time.Second
	keepaliveInterval = 15 * time.Second
	keepaliveCount    = 9
)

// tuneTCP sets the options of gVisor's TCP.
func (s *Stack) tuneTCP() error {
	sack := tcpip.TCPSACKEnabled(true)
	// Measured over 80 ms at 50 MB/s with a queue of 1 MiB, a stream of 10 s
	// carries with CUBIC and RACK 19 MB/s, with Reno and RACK 13, with CUBIC
	// alone 7 (it runs into timeouts) and with Reno alone 2.5. With every 50th
	// packet reordered RACK is four times better than without. Where the round
	// trip is shorter than the scheduler's whims it sends one packet in 500 in
	// vain, a tenth of the CPU time.
	recovery := tcpip.TCPRACKLossDetection
	congestion := tcpip.CongestionControlOption("cubic")
	moderate := tcpip.TCPModerateReceiveBufferOption(true)
	delay := tcpip.TCPDelayEnabled(false)
	send := tcpip.TCPSendBufferSizeRangeOption{Min: tcp.MinBufferSize, Default: firstSend, Max: maxSend}
	rtoMin := tcpip.TCPMinRTOOption(minRTO)
	rto := tcpip.TCPMaxRTOOption(maxRTO)
	linger := tcpip.TCPLingerTimeoutOption(orphanTimeout)
	wait := tcpip.TCPTimeWaitTimeoutOption(timeWait)
	reuse := tcpip.TCPTimeWaitReuseGlobal
	for _, o := range []tcpip.SettableTransportProtocolOption{
		&sack, &recovery, &congestion, &moderate, &delay, &send, &rtoMin, &rto, &linger, &wait, &reuse,
	} {
		if err := s.ipstack.SetTransportProtocolOption(tcp.ProtocolNumber, o); err != nil {
			return fmt.Errorf("set %T: %s", o, err)
		}
	}
	s.receiving.apply = s.setReceiveBuffers
	s.receiving.add(0)
	return nil
}
