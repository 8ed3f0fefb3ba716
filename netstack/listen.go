package netstack

import (
	"fmt"
	"net"
	"sync"
	"syscall"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// listenBacklog is how many connections wait for Accept; beyond it gVisor
// answers with SYN cookies.
const listenBacklog = 512

// ListenTCP listens on port of the stack's own address; 0 takes a free one.
// Accepted connections are *TCPConn.
func (s *Stack) ListenTCP(port uint16) (net.Listener, error) {
	l := &listener{stack: s, closed: make(chan struct{})}
	if s.isClosed() {
		return nil, fmt.Errorf("listen on TCP port %d: %w", port, net.ErrClosed)
	}
	ep, err := s.ipstack.NewEndpoint(tcp.ProtocolNumber, header.IPv6ProtocolNumber, &l.queue)
	if err != nil {
		return nil, fmt.Errorf("listen on TCP port %d: %w", port, errorOf(err))
	}
	if err = ep.Bind(tcpip.FullAddress{Addr: tcpip.AddrFrom16(s.addr), Port: port}); err == nil {
		err = ep.Listen(listenBacklog)
	}
	if err != nil {
		ep.Close()
		return nil, fmt.Errorf("listen on TCP port %d: %w", port, errorOf(err))
	}
	l.ep = ep
	l.entry, l.ready = waiter.NewChannelEntry(waiter.ReadableEvents | waiter.EventHUp | waiter.EventErr)
	l.queue.EventRegister(&l.entry)
	local, _ := ep.GetLocalAddress()
	l.addr = net.TCPAddrFromAddrPort(addrPort(s.addr, local.Port))
	return l, nil
}

// A listener accepts TCP connections to the stack's own address.
type listener struct {
	stack *Stack
	queue waiter.Queue
	entry waiter.Entry
	ready chan struct{}
	ep    tcpip.Endpoint
	addr  *net.TCPAddr

	closeOnce sync.Once
	closed    chan struct{}
}

// Accept waits for the next connection.
func (l *listener) Accept() (net.Conn, error) {
	for {
		if err := l.ended(); err != nil {
			return nil, err
		}
		var peer tcpip.FullAddress
		ep, wq, err := l.ep.Accept(&peer)
		if err == nil {
			l.wake() // another Accept may wait for the next one
			return newTCPConn(l.stack, wq, ep, makeTuple(l.addr.AddrPort(), addrPort(peer.Addr.As16(), peer.Port))), nil
		}
		if _, ok := err.(*tcpip.ErrWouldBlock); !ok {
			if e := l.ended(); e != nil {
				return nil, e
			}
			return nil, l.opError(errorOf(err))
		}
		select {
		case <-l.ready:
		case <-l.closed:
		case <-l.stack.done:
		}
	}
}

func (l *listener) wake() {
	select {
	case l.ready <- struct{}{}:
	default:
	}
}

func (l *listener) ended() error {
	select {
	case <-l.closed:
		return l.opError(net.ErrClosed)
	case <-l.stack.done:
		return l.opError(net.ErrClosed)
	default:
		return nil
	}
}

func (l *listener) opError(err error) error {
	if err == nil {
		err = syscall.EINVAL
	}
	return &net.OpError{Op: "accept", Net: "tcp", Addr: l.addr, Err: err}
}

// Close ends Accept and frees the port.
func (l *listener) Close() error {
	l.closeOnce.Do(func() {
		close(l.closed)
		l.queue.EventUnregister(&l.entry)
		l.ep.Close()
	})
	return nil
}

// Addr returns the address that is listened on.
func (l *listener) Addr() net.Addr { return l.addr }
