package netstack

import (
	"errors"
	"math"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// maxTCPFlows bounds the SYNs that handlers think about, and
// maxTCPFlowsPerClient those from one /112, which is what one key owns. More
// are dropped; the client's TCP sends them again.
const (
	maxTCPFlows          = 8192
	maxTCPFlowsPerClient = 2048
)

// tcpFlows holds the SYNs that wait for their handlers' decision.
type tcpFlows struct {
	stack     *Stack
	forwarder *tcp.Forwarder

	mu        sync.Mutex // guards what follows; never held while calling out
	waiting   map[tuple]*TCPFlow
	count     flowCount
	accepting map[*waiter.Queue]struct{} // what ends the handshakes under way
}

func (t *tcpFlows) init(s *Stack) {
	t.stack = s
	t.waiting = make(map[tuple]*TCPFlow)
	t.accepting = make(map[*waiter.Queue]struct{})
	t.count = newFlowCount(maxTCPFlows, maxTCPFlowsPerClient)
	// The bound is ours; gVisor's would forget flows that are noted here.
	t.forwarder = tcp.NewForwarder(s.ipstack, 0, math.MaxInt, t.serve)
}

// handle takes a segment that belongs to no connection and no listener. gVisor
// answers those that are not taken with RST.
func (t *tcpFlows) handle(id stack.TransportEndpointID, pkt *stack.PacketBuffer) bool {
	seg := pkt.TransportHeader().Slice()
	if seg[13]&(flagSYN|flagACK|flagRST) != flagSYN {
		return false
	}
	s := t.stack
	tu := inboundTuple(pkt.NetworkHeader().Slice(), seg)
	t.mu.Lock()
	if t.waiting[tu] != nil {
		t.mu.Unlock()
		s.counters.add(tcpFlowsRepeated)
		return true
	}
	if !t.count.start(tu) {
		t.mu.Unlock()
		s.counters.add(tcpFlowsOverLimit)
		return true
	}
	f := &TCPFlow{flows: t, tuple: tu, quote: packetBytes(pkt)}
	t.waiting[tu] = f
	t.mu.Unlock()
	if !s.startHandler() {
		t.forget(f)
		return true
	}
	if !t.forwarder.HandlePacket(id, pkt) {
		t.forget(f)
		s.handlers.Done()
		return false
	}
	s.counters.add(tcpFlowsStarted)
	return true
}

// packetBytes returns a copy of a SYN, as it came from the link.
func packetBytes(pkt *stack.PacketBuffer) []byte {
	v := pkt.ToView()
	defer v.Release()
	return v.ToSlice()
}

// serve runs a handler; gVisor started the goroutine.
func (t *tcpFlows) serve(r *tcp.ForwarderRequest) {
	defer t.stack.handlers.Done()
	id := r.ID()
	tu := makeTuple(addrPort(id.LocalAddress.As16(), id.LocalPort), addrPort(id.RemoteAddress.As16(), id.RemotePort))
	t.mu.Lock()
	f := t.waiting[tu]
	t.mu.Unlock()
	f.request = r
	defer f.Refuse(syscall.ECONNREFUSED)
	t.stack.cfg.TCP(f)
}

// shake does the handshake, which blocks in gVisor until wq tells of its end
// or of ours.
func (t *tcpFlows) shake(r *tcp.ForwarderRequest, wq *waiter.Queue) (tcpip.Endpoint, tcpip.Error) {
	t.mu.Lock()
	t.accepting[wq] = struct{}{}
	t.mu.Unlock()
	var late atomic.Bool
	timer := t.stack.ipstack.Clock().AfterFunc(acceptTimeout, func() {
		late.Store(true)
		wq.Notify(waiter.WritableEvents)
	})
	ep, err := r.CreateEndpoint(wq)
	timer.Stop()
	t.mu.Lock()
	delete(t.accepting, wq)
	t.mu.Unlock()
	if err != nil && late.Load() {
		err = &tcpip.ErrTimeout{}
	}
	return ep, err
}

// close ends the handshakes under way. New ones find no interface to send on,
// which the caller has removed before.
func (t *tcpFlows) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for wq := range t.accepting {
		wq.Notify(waiter.WritableEvents)
	}
}

func (t *tcpFlows) forget(f *TCPFlow) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.waiting, f.tuple)
	t.count.done(f.tuple)
}

// A TCPFlow is a SYN that has not been answered yet. Its handler calls either
// Accept or Refuse; until then the client's retransmissions are ignored.
type TCPFlow struct {
	flows   *tcpFlows
	tuple   tuple
	quote   []byte // the SYN, for an error to quote
	request *tcp.ForwarderRequest
	once    sync.Once
}

// Source returns the client's address.
func (f *TCPFlow) Source() netip.AddrPort { return f.tuple.remote() }

// Target returns the address the client connects to.
func (f *TCPFlow) Target() netip.AddrPort { return f.tuple.local() }

// Accept answers the SYN and returns the connection once the client has
// answered in turn. If the client has gone, that takes 15 s to fail.
func (f *TCPFlow) Accept() (conn *TCPConn, err error) {
	err = errDecided
	f.once.Do(func() {
		s := f.flows.stack
		var wq waiter.Queue
		ep, terr := f.flows.shake(f.request, &wq)
		f.request.Complete(false)
		f.flows.forget(f)
		if err = s.orClosed(errorOf(terr)); terr == nil {
			conn = newTCPConn(s, &wq, ep, f.tuple)
		}
	})
	if err != nil {
		return nil, &net.OpError{Op: "accept", Net: "tcp", Source: net.TCPAddrFromAddrPort(f.Target()), Addr: net.TCPAddrFromAddrPort(f.Source()), Err: err}
	}
	return conn, nil
}

// Refuse tells the client why it is not connected: by a RST for
// syscall.ECONNREFUSED, else by an ICMPv6 error from the target's address.
func (f *TCPFlow) Refuse(err error) {
	f.once.Do(func() {
		s := f.flows.stack
		rst := errors.Is(err, syscall.ECONNREFUSED)
		f.request.Complete(rst)
		f.flows.forget(f)
		s.counters.add(flowsRefused)
		if !rst {
			typ, code := icmpOf(err)
			s.sendError(typ, code, f.quote)
		}
	})
}
