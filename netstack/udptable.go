package netstack

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"syscall"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

const (
	// maxUDPFlows bounds the UDP flows of an exit, and maxUDPFlowsPerClient
	// those from one /112, which is what one key owns.
	maxUDPFlows          = 8192
	maxUDPFlowsPerClient = 2048

	firstEphemeral = 32768 // the rest up to 65535 is given out
)

// A udpTable holds the UDP sockets of a stack. UDP needs nothing of gVisor but
// to put fragments together: datagrams go straight between link and sockets.
type udpTable struct {
	stack *Stack

	mu        sync.RWMutex // guards what follows; never held while calling out
	closed    bool
	connected map[tuple]*UDPConn
	bound     map[uint16]*UDPConn // on the stack's own address
	flows     flowCount
}

func (t *udpTable) init(s *Stack) {
	t.stack = s
	t.connected = make(map[tuple]*UDPConn)
	t.bound = make(map[uint16]*UDPConn)
	t.flows = newFlowCount(maxUDPFlows, maxUDPFlowsPerClient)
}

// ListenUDP opens a UDP socket on port of the stack's own address; 0 takes a
// free one.
func (s *Stack) ListenUDP(port uint16) (*UDPConn, error) {
	t := &s.udp
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil, fmt.Errorf("listen on UDP port %d: %w", port, net.ErrClosed)
	}
	if port == 0 {
		port = t.freePort(func(p uint16) bool { return t.bound[p] == nil })
	}
	if port == 0 || t.bound[port] != nil {
		return nil, fmt.Errorf("listen on UDP port %d: %w", port, syscall.EADDRINUSE)
	}
	c := newUDPConn(s, makeTuple(netip.AddrPortFrom(s.cfg.Addr, port), netip.AddrPortFrom(netip.IPv6Unspecified(), 0)))
	t.bound[port] = c
	return c, nil
}

// DialUDP opens a UDP socket that is connected to target: it hears from there
// only, and of ICMPv6 errors from there. Nothing is sent.
func (s *Stack) DialUDP(target netip.AddrPort) (*UDPConn, error) {
	c, err := s.dialUDP(target)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: "udp", Addr: net.UDPAddrFromAddrPort(target), Err: err}
	}
	return c, nil
}

func (s *Stack) dialUDP(target netip.AddrPort) (*UDPConn, error) {
	if _, err := s.fullAddress(target); err != nil {
		return nil, err
	}
	t := &s.udp
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil, net.ErrClosed
	}
	of := func(port uint16) tuple { return makeTuple(netip.AddrPortFrom(s.cfg.Addr, port), target) }
	port := t.freePort(func(p uint16) bool { return t.bound[p] == nil && t.connected[of(p)] == nil })
	if port == 0 {
		return nil, syscall.EADDRNOTAVAIL
	}
	c := newUDPConn(s, of(port))
	c.connected = true
	t.connected[c.tuple] = c
	return c, nil
}

// freePort returns an ephemeral port that is free, or 0.
func (t *udpTable) freePort(free func(uint16) bool) uint16 {
	const n = 65536 - firstEphemeral
	start := rand.IntN(n)
	for i := range n {
		if p := uint16(firstEphemeral + (start+i)%n); free(p) {
			return p
		}
	}
	return 0
}

// receive takes a whole datagram: its IPv6 header and what follows it.
func (t *udpTable) receive(ip, datagram []byte) (reason, bool) {
	if len(datagram) < udpHeaderLen {
		return inMalformed, true
	}
	length := int(be16(datagram[4:]))
	if length < udpHeaderLen || length > len(datagram) {
		return inMalformed, true
	}
	payload := datagram[udpHeaderLen:length]
	tu := inboundTuple(ip, datagram)
	own := [16]byte(tu[0:16]) == t.stack.addr
	t.mu.RLock()
	c := t.connected[tu]
	if c == nil && own {
		c = t.bound[be16(tu[16:])]
	}
	t.mu.RUnlock()
	switch {
	case c != nil:
		if !c.push(payload, tu.remote()) {
			return inUDPOverflow, true
		}
		return 0, false
	case t.stack.cfg.UDP != nil:
		return t.newFlow(tu, ip, datagram[:length])
	case own:
		t.stack.sendError(icmpUnreachable, codeNoPort, quoteOf(ip, datagram[:length]))
		return 0, false
	}
	return inNotOurs, true
}

// quoteOf returns the packet that an error about a datagram quotes. They are
// adjacent unless the datagram came in fragments.
func quoteOf(ip, datagram []byte) []byte {
	q := make([]byte, 0, 1280)
	q = append(q, ip[:ipv6HeaderLen]...)
	q = append(q, datagram[:min(len(datagram), 1280-ipv6HeaderLen)]...)
	q[6] = protoUDP
	put16(q[4:], uint16(len(datagram)))
	return q
}

// handleReassembled takes a datagram that gVisor put together of fragments.
func (s *Stack) handleReassembled(_ stack.TransportEndpointID, pkt *stack.PacketBuffer) bool {
	ip := pkt.NetworkHeader().Slice()
	datagram := append(append([]byte(nil), pkt.TransportHeader().Slice()...), pkt.Data().AsRange().ToSlice()...)
	if r, drop := s.udp.receive(ip, datagram); drop {
		s.counters.add(r)
	}
	return true
}

// refused tells the socket of t, if it is connected, of an ICMPv6 error.
func (t *udpTable) refused(tu tuple, err error) bool {
	t.mu.RLock()
	c := t.connected[tu]
	t.mu.RUnlock()
	if c == nil {
		return false
	}
	c.fail(err)
	return true
}

// remove takes a socket out of the table.
func (t *udpTable) remove(c *UDPConn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if c.connected {
		if t.connected[c.tuple] != c {
			return
		}
		delete(t.connected, c.tuple)
		if c.flow {
			t.flows.done(c.tuple)
		}
		return
	}
	if port := be16(c.tuple[16:]); t.bound[port] == c {
		delete(t.bound, port)
	}
}

// close refuses new sockets. Open ones watch the stack themselves.
func (t *udpTable) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	clear(t.connected)
	clear(t.bound)
}

// sendUDP sends a datagram from and to the addresses of tu, in two fragments
// if it does not fit one packet.
func (s *Stack) sendUDP(tu *tuple, payload []byte) error {
	length := udpHeaderLen + len(payload)
	if length > 65535 {
		return syscall.EMSGSIZE
	}
	v := buffer.NewViewSize(ipv6HeaderLen + length)
	b := v.AsSlice()
	putIPv6(b, protoUDP, length)
	copy(b[8:24], tu[0:16])
	copy(b[24:40], tu[18:34])
	u := b[ipv6HeaderLen:]
	copy(u[0:2], tu[16:18])
	copy(u[2:4], tu[34:36])
	put16(u[4:], uint16(length))
	copy(u[udpHeaderLen:], payload)
	putChecksum(b, protoUDP, 6)
	if len(b) <= maxPacket {
		if !s.sendRaw(v) {
			return net.ErrClosed
		}
		return nil
	}
	defer v.Release()
	return s.sendFragments(b)
}

// sendFragments sends an IPv6 packet in pieces that the link carries (RFC 8200
// section 4.5).
func (s *Stack) sendFragments(b []byte) error {
	const piece = 32 << 10 // of payload; the last is what remains
	id := rand.Uint32()
	payload := b[ipv6HeaderLen:]
	for offset := 0; offset < len(payload); offset += piece {
		part := payload[offset:min(offset+piece, len(payload))]
		v := buffer.NewViewSize(ipv6HeaderLen + fragmentHeaderLen + len(part))
		f := v.AsSlice()
		copy(f, b[:ipv6HeaderLen])
		put16(f[4:], uint16(fragmentHeaderLen+len(part)))
		f[6] = protoFragment
		f[40] = b[6]
		field := uint16(offset)
		if offset+len(part) < len(payload) {
			field |= 1 // more follow
		}
		put16(f[42:], field)
		put32(f[44:], id)
		copy(f[48:], part)
		if !s.sendRaw(v) {
			return net.ErrClosed
		}
	}
	return nil
}
