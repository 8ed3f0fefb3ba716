package snapproxy

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/snapproxy/snapproxy/scion"
	"github.com/snapproxy/snapproxy/tunnel"
	"github.com/snapproxy/snapproxy/tunnel/snaptun"
)

// SNAPConfig configures a SNAP.
type SNAPConfig struct {
	// IA is the ISD-AS that the SNAP's tunnels belong to.
	IA scion.IA
	// Listen is the address of the data plane; port 0 takes a free one.
	Listen netip.AddrPort
	// PrivateKey is the SNAP's static key.
	PrivateKey snaptun.PrivateKey
	// Authorize reports whether a key may use the SNAP. It is asked for every
	// packet in both directions and must not block.
	Authorize func(key snaptun.PublicKey, now time.Time) bool
	// HandshakeLimit is how many handshakes a second are answered without a
	// cookie. If zero, it is 2,000 for each core.
	HandshakeLimit int
	// Topology names the border routers of the AS. If nil, the SNAP stands alone:
	// its tunnels reach each other.
	Topology *scion.Topology
	// ASHosts are the hosts of the AS that tunnels may exchange packets with on
	// the empty path. They count only with a Topology. If nil, none.
	ASHosts []netip.Prefix
	// UnderlayAddr is the host address that tunnels have in the AS, and where
	// routers deliver their packets; it must be one of this machine. If not
	// valid, it is that of Listen or, if that is unspecified, the source address
	// towards the first router. It counts only with a Topology.
	UnderlayAddr netip.Addr
	// Logger receives what happens to the role. If nil, nothing is logged.
	Logger *slog.Logger

	timers snaptun.Timers // for tests
}

// A SNAP forwards SCION packets between the tunnels that attach to it. A
// tunnel's SCION address is the UDP address that the SNAP sees it at.
type SNAP struct {
	cfg      SNAPConfig
	logger   *slog.Logger
	udp      *tunnel.UDP
	listener *tunnel.Listener[netip.AddrPort]
	counters snapCounters
}

// snapCounters counts what the SNAP does not forward.
type snapCounters struct {
	malformed, spoofed, pathType, noRoute, undeliverable atomic.Uint64
}

// NewSNAP binds the SNAP's socket. Run must be called, which closes it.
func NewSNAP(cfg SNAPConfig) (*SNAP, error) {
	s := &SNAP{cfg: cfg, logger: orDiscard(cfg.Logger)}
	if s.cfg.HandshakeLimit == 0 {
		s.cfg.HandshakeLimit = defaultHandshakeLimit()
	}
	var err error
	s.udp, err = tunnel.ListenUDP(cfg.Listen, tunnel.UDPConfig{Logger: s.logger})
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", cfg.Listen, err)
	}
	s.listener, err = tunnel.NewListener(tunnel.ListenerConfig[netip.AddrPort]{
		Config:         tunnel.Config[netip.AddrPort]{Carrier: s.udp, PrivateKey: cfg.PrivateKey, Logger: s.logger, Timers: cfg.timers},
		Authorize:      cfg.Authorize,
		SealedAddr:     func(a netip.AddrPort) netip.AddrPort { return a },
		CookieAddr:     appendAddrPort,
		HandshakeLimit: s.cfg.HandshakeLimit,
	})
	if err != nil {
		s.udp.Close()
		return nil, err
	}
	return s, nil
}

// defaultHandshakeLimit is 2,000 a second and core: one handshake costs a core
// about a quarter of a millisecond, so this is half of what it can do.
func defaultHandshakeLimit() int { return 2000 * runtime.GOMAXPROCS(0) }

func appendAddrPort(b []byte, a netip.AddrPort) []byte {
	ip := a.Addr().As16()
	return append(append(b, ip[:]...), byte(a.Port()>>8), byte(a.Port()))
}

// Addr returns the address that the SNAP listens on, with its real port.
func (s *SNAP) Addr() netip.AddrPort { return s.udp.LocalAddr() }

// IA returns the ISD-AS that the SNAP belongs to.
func (s *SNAP) IA() scion.IA { return s.cfg.IA }

// PublicKey returns the SNAP's public key.
func (s *SNAP) PublicKey() snaptun.PublicKey { return s.cfg.PrivateKey.PublicKey() }

// Run forwards packets until ctx ends, then says goodbye to the tunnels and
// closes the socket.
func (s *SNAP) Run(ctx context.Context) error {
	defer s.udp.Close()
	s.logger.Info("SNAP listening", "address", s.Addr(), "isd_as", s.cfg.IA, "public_key", s.PublicKey())
	f := &forwarder{snap: s}
	return s.listener.Run(ctx, f.forward)
}

// A forwarder holds the slices of one batch. It belongs to the goroutine that
// receives.
type forwarder struct {
	snap    *SNAP
	to      []netip.AddrPort
	packets [][]byte
	errs    []byte // SCMP errors of the batch
}

// forward takes a batch of packets out of tunnels and puts those that pass
// into the tunnels that their destinations name.
func (f *forwarder) forward(from []*snaptun.Peer[netip.AddrPort], packets [][]byte) error {
	f.to, f.packets, f.errs = f.to[:0], f.packets[:0], f.errs[:0]
	for i, b := range packets {
		f.route(from[i].Origin(), b)
	}
	if len(f.packets) > 0 {
		if _, err := f.snap.listener.WritePackets(f.to, f.packets); err != nil {
			return err
		}
	}
	return nil
}

// SCMP codes and pointers of what a SNAP refuses; the codes of snap.md §5.1.
const (
	scmpUnreachable, scmpParameterProblem = 1, 4

	codeNoRoute            = 0
	codeAddressUnreachable = 3
	codeMalformed          = 16
	codePathType           = 20
	codeSource             = 33

	pathTypePointer = 8
)

// route decides what becomes of the packet b of the tunnel at origin.
func (f *forwarder) route(origin netip.AddrPort, b []byte) {
	s := f.snap
	p, err := scion.ParsePacket(b)
	if err != nil || p.Truncated() {
		s.counters.malformed.Add(1)
		f.refuse(origin, b, scmpParameterProblem, codeMalformed, 0)
		return
	}
	if !s.ownSource(p, origin) {
		s.counters.spoofed.Add(1)
		f.refuse(origin, b, scmpParameterProblem, codeSource, uint32(p.SrcHostOffset()))
		return
	}
	switch p.PathType() {
	case scion.PathEmpty, scion.PathSCION:
	default:
		s.counters.pathType.Add(1)
		f.refuse(origin, b, scmpParameterProblem, codePathType, pathTypePointer)
		return
	}
	if p.DstIA() != s.cfg.IA || p.PathType() != scion.PathEmpty {
		s.counters.noRoute.Add(1)
		f.refuse(origin, b, scmpUnreachable, codeNoRoute, 0)
		return
	}
	port, err := p.DeliveryPort()
	if err != nil {
		s.counters.undeliverable.Add(1)
		return
	}
	to := netip.AddrPortFrom(p.DstHost(), port)
	if to == s.Addr() {
		s.counters.undeliverable.Add(1)
		return
	}
	if s.listener.Peer(to) == nil {
		s.counters.undeliverable.Add(1)
		f.refuse(origin, b, scmpUnreachable, codeAddressUnreachable, 0)
		return
	}
	f.to = append(f.to, to)
	f.packets = append(f.packets, p.Bytes())
}

// ownSource reports whether a packet's source is the tunnel it came out of:
// ISD-AS, host and port, for SCMP errors the destination of what they quote.
func (s *SNAP) ownSource(p scion.Packet, origin netip.AddrPort) bool {
	if p.SrcIA() != s.cfg.IA || p.SrcHost() != origin.Addr() {
		return false
	}
	port, err := p.SourcePort()
	return err == nil && port == origin.Port()
}

// refuse answers a packet with an SCMP error through its own tunnel, unless it
// is an SCMP error itself.
func (f *forwarder) refuse(origin netip.AddrPort, b []byte, typ, code uint8, info uint32) {
	start := len(f.errs)
	errs, err := scion.AppendSCMPError(f.errs, scion.SCMPError{
		Type: typ, Code: code, Info: info,
		Src: scion.Addr{IA: f.snap.cfg.IA, Host: f.snap.hostFor(origin)},
		Dst: scion.Addr{IA: f.snap.cfg.IA, Host: origin.Addr()},
	}, b)
	if err != nil { // an error that is about an error, above all
		return
	}
	f.errs = errs
	f.to = append(f.to, origin)
	f.packets = append(f.packets, errs[start:len(errs):len(errs)])
}

// hostFor is the SNAP's own host address towards a tunnel. A wildcard address
// stands for itself: what matters is that it is none of a tunnel's.
func (s *SNAP) hostFor(origin netip.AddrPort) netip.Addr { return s.Addr().Addr() }
