package netstack

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
)

// A Link moves IP packets, a batch at a time.
type Link interface {
	// Run receives until ctx ends and hands batches to deliver, one after the
	// other. Packets are lent until deliver returns, which may change them.
	Run(ctx context.Context, deliver func(packets [][]byte) error) error
	// WritePackets sends packets, which are lent until it returns. It never
	// blocks: what cannot be sent is dropped.
	WritePackets(packets [][]byte) (n int, err error)
	// MTU returns the largest IP packet that crosses to dst in one frame at
	// this moment. TCP segments are cut to it; datagrams may be larger.
	MTU(dst netip.Addr) int
}

// Config configures a Stack.
type Config struct {
	// Addr is the stack's own IPv6 address.
	Addr netip.Addr
	// Link carries the packets.
	Link Link
	// Logger receives what happens to the stack. If nil, nothing is logged.
	Logger *slog.Logger
	// TCP and UDP, if not nil, make the stack an exit: they are called, each
	// time in a goroutine of its own, for every flow that no listener of the
	// stack's own address takes, whatever its destination. How many run before
	// they decide is bounded. A flow they return from undecided is refused.
	TCP func(*TCPFlow)
	UDP func(*UDPFlow)
}

const (
	nicID = 1
	// linkMTU is what gVisor believes of the link: a datagram stays one packet,
	// and TCP is cut to what really fits by the pump.
	linkMTU = 65535
)

// A Stack is a TCP/IP host over a link. Its methods may be called concurrently.
type Stack struct {
	cfg       Config
	logger    *slog.Logger
	addr      [16]byte
	exit      bool // accepts flows to any destination
	ipstack   *stack.Stack
	endpoint  *endpoint
	out       *outbound
	in        inbound
	dials     dialTable
	ports     ports
	flows     tcpFlows
	flights   flights
	shares    sendShares
	receiving receiveShare
	udp       udpTable
	counters  counters

	closeOnce sync.Once
	done      chan struct{} // closed when the stack is

	mu       sync.Mutex // guards what follows; never held while calling out
	closed   bool
	handlers sync.WaitGroup // goroutines in Config.TCP and Config.UDP
}

// New makes a stack. The caller runs it with Run, or closes it with Close:
// gVisor has workers that end only then.
func New(cfg Config) (*Stack, error) { return newStack(cfg, nil) }

// newStack takes the clock, which tests move by hand; nil is the real one.
func newStack(cfg Config, clock tcpip.Clock) (*Stack, error) {
	if !cfg.Addr.Is6() || cfg.Addr.Is4In6() || cfg.Addr.Zone() != "" || !cfg.Addr.IsGlobalUnicast() {
		return nil, fmt.Errorf("own address %s: want an IPv6 unicast address", cfg.Addr)
	}
	if cfg.Link == nil {
		return nil, errors.New("no link")
	}
	s := &Stack{
		cfg: cfg, logger: cfg.Logger, addr: cfg.Addr.As16(),
		exit: cfg.TCP != nil || cfg.UDP != nil,
		out:  newOutbound(), done: make(chan struct{}),
	}
	if s.logger == nil {
		s.logger = slog.New(slog.DiscardHandler)
	}
	s.dials.init()
	s.ports.init()
	s.udp.init(s)
	s.endpoint = &endpoint{stack: s}
	s.ipstack = stack.New(stack.Options{
		NetworkProtocols: []stack.NetworkProtocolFactory{ipv6.NewProtocolWithOptions(ipv6.Options{
			// An exit hears of ::1 too, to refuse it with a reason.
			AllowExternalLoopbackTraffic: true,
		})},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol},
		Clock:              clock,
	})
	s.flights.init(s)
	s.shares.init(s.ipstack.Clock(), s.exit)
	if err := s.configure(); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// configure sets up gVisor's interface, routes and protocols.
func (s *Stack) configure() error {
	if err := s.tuneTCP(); err != nil {
		return err
	}
	ip := s.ipstack
	if err := ip.CreateNIC(nicID, s.endpoint); err != nil {
		return fmt.Errorf("create interface: %s", err)
	}
	own := tcpip.AddrFrom16(s.addr)
	if err := ip.AddProtocolAddress(nicID, tcpip.ProtocolAddress{
		Protocol: header.IPv6ProtocolNumber, AddressWithPrefix: own.WithPrefix(),
	}, stack.AddressProperties{}); err != nil {
		return fmt.Errorf("add address %s: %s", s.cfg.Addr, err)
	}
	ip.SetRouteTable([]tcpip.Route{{Destination: header.IPv6EmptySubnet, NIC: nicID}})
	// Datagrams that came in fragments, which gVisor put together.
	ip.SetTransportProtocolHandler(udp.ProtocolNumber, s.handleReassembled)
	if !s.exit {
		return nil
	}
	if err := ip.SetPromiscuousMode(nicID, true); err != nil {
		return fmt.Errorf("accept every destination: %s", err)
	}
	if err := ip.SetSpoofing(nicID, true); err != nil {
		return fmt.Errorf("answer for every destination: %s", err)
	}
	if s.cfg.TCP != nil {
		s.flows.init(s)
		ip.SetTransportProtocolHandler(tcp.ProtocolNumber, s.flows.handle)
	}
	return nil
}

// Addr returns the stack's own address.
func (s *Stack) Addr() netip.Addr { return s.cfg.Addr }

// Run runs the link until ctx ends or the link fails, then closes the stack:
// open connections fail with net.ErrClosed. It returns when all that the stack
// started has ended, handlers of flows included.
func (s *Stack) Run(ctx context.Context) error {
	pumped := make(chan struct{})
	go func() {
		defer close(pumped)
		p := newPump(s.cfg.Link, &s.counters)
		p.flights = &s.flights
		p.run(s.out)
	}()
	s.logger.Debug("stack runs", "address", s.cfg.Addr, "exit", s.exit)
	linkCtx, stop := context.WithCancel(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		<-s.done
		stop()
	}()
	err := s.cfg.Link.Run(linkCtx, s.deliver)
	closed := s.isClosed()
	s.Close()
	<-watched
	<-pumped
	s.handlers.Wait()
	s.ipstack.TransportProtocolInstance(tcp.ProtocolNumber).Wait()
	s.logger.Debug("stack closed", "address", s.cfg.Addr, "counters", s.Counters())
	if closed || ctx.Err() != nil {
		return nil
	}
	if err == nil {
		err = net.ErrClosed
	}
	return fmt.Errorf("link: %w", err)
}

// Close closes the stack and everything opened through it, and ends Run. Only
// the return of Run tells that all has ended.
func (s *Stack) Close() error {
	s.closeOnce.Do(func() {
		s.mu.Lock()
		s.closed = true
		s.mu.Unlock()
		close(s.done)
		s.out.close()
		s.flights.close()
		s.udp.close()
		s.ipstack.Close()
		s.ipstack.RemoveNIC(nicID)
		s.flows.close()
	})
	return nil
}

// isClosed reports whether Close has been called.
func (s *Stack) isClosed() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// startHandler reports whether a handler may start; it then calls
// s.handlers.Done at its end.
func (s *Stack) startHandler() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.handlers.Add(1)
	return true
}
