package tunnel

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync/atomic"
	"time"
)

// UDPConfig configures a UDP socket. The zero value is usable.
type UDPConfig struct {
	// Logger is told what the system does not grant. If nil, nothing is logged.
	Logger *slog.Logger
	// CoalesceLimit bounds the bytes of datagrams that are handed to the network
	// as one burst, because receivers with small buffers truncate larger ones
	// (the Rust SNAP: 9,216). If zero, it is MaxBurst.
	CoalesceLimit int
	// ReceiveBuffer and SendBuffer are the socket buffers to ask for, in bytes.
	// The system may grant less. If zero, they are 8 MiB and 4 MiB.
	ReceiveBuffer, SendBuffer int
}

// MaxBurst is how many bytes of datagrams a UDP socket takes in, and hands to the
// network, at once: the largest UDP payload over IPv4.
const MaxBurst = 65507

const (
	defaultReceiveBuffer = 8 << 20
	defaultSendBuffer    = 4 << 20
)

// UDP is a UDP socket as a carrier. On Linux it moves many datagrams with one
// system call, elsewhere one. IPv4 addresses are never in IPv6-mapped form.
type UDP struct {
	conn     *net.UDPConn
	cfg      UDPConfig
	logger   *slog.Logger
	local    netip.AddrPort
	coalesce atomic.Int64 // the limit, in bytes
	counters udpCounters
	socket   socket // what differs between systems
}

var _ Carrier[netip.AddrPort] = (*UDP)(nil)

// udpCounters counts datagrams and what becomes of them.
type udpCounters struct {
	received, sent      atomic.Uint64
	receiveCalls        atomic.Uint64
	sendCalls           atomic.Uint64
	sendBursts          atomic.Uint64 // of more than one datagram
	receiveTruncated    atomic.Uint64
	receiveErrors       atomic.Uint64
	hints               atomic.Uint64
	sendTooLarge        atomic.Uint64
	sendBufferFull      atomic.Uint64
	sendUnreachable     atomic.Uint64
	sendDenied          atomic.Uint64
	sendErrors          atomic.Uint64
	sendFamily          atomic.Uint64
	segmentationRetries atomic.Uint64
}

// ListenUDP binds a socket to exactly addr; port 0 takes a free one. A socket on
// the IPv6 wildcard address also receives IPv4 where the system allows it, and on
// a wildcard address a reply leaves from the address that was asked.
func ListenUDP(addr netip.AddrPort, cfg UDPConfig) (*UDP, error) {
	if !addr.Addr().IsValid() {
		return nil, fmt.Errorf("listen on UDP: no address")
	}
	addr = unmapped(addr)
	if cfg.ReceiveBuffer <= 0 {
		cfg.ReceiveBuffer = defaultReceiveBuffer
	}
	if cfg.SendBuffer <= 0 {
		cfg.SendBuffer = defaultSendBuffer
	}
	u := &UDP{cfg: cfg, logger: cfg.Logger}
	u.SetCoalesceLimit(cfg.CoalesceLimit)
	if u.logger == nil {
		u.logger = slog.New(slog.DiscardHandler)
	}
	network := "udp4"
	if addr.Addr().Is6() {
		network = "udp6"
		if addr.Addr() == netip.IPv6Unspecified() {
			network = "udp" // both families
		}
	}
	lc := net.ListenConfig{Control: u.control}
	conn, err := lc.ListenPacket(context.Background(), network, addr.String())
	if err != nil {
		return nil, err
	}
	u.conn = conn.(*net.UDPConn)
	u.local = unmapped(u.conn.LocalAddr().(*net.UDPAddr).AddrPort())
	u.logger.Debug("UDP socket bound", "local", u.local)
	if err := u.open(); err != nil {
		u.conn.Close()
		return nil, fmt.Errorf("listen on %s: %w", addr, err)
	}
	return u, nil
}

// LocalAddr returns the address that the socket is bound to, with its real port.
func (u *UDP) LocalAddr() netip.AddrPort { return u.local }

// SetCoalesceLimit changes the limit of the configuration; zero is MaxBurst. It
// may be called at any time.
func (u *UDP) SetCoalesceLimit(bytes int) {
	if bytes <= 0 || bytes > MaxBurst {
		bytes = MaxBurst
	}
	u.coalesce.Store(int64(bytes))
}

// Close closes the socket. Run and WritePackets then fail with net.ErrClosed.
func (u *UDP) Close() error { return u.conn.Close() }

// Run receives until ctx ends, which is no error. It may run once at a time.
func (u *UDP) Run(ctx context.Context, deliver func(from []netip.AddrPort, packets [][]byte) error) error {
	if err := u.conn.SetReadDeadline(time.Time{}); err != nil {
		return fmt.Errorf("receive on %s: %w", u.local, err)
	}
	interrupted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		u.conn.SetReadDeadline(time.Unix(1, 0))
		close(interrupted)
	})
	err := u.receive(ctx, deliver)
	if !stop() {
		<-interrupted
	}
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// Counters returns how many datagrams were received and sent, and dropped by
// reason. The names are stable. receive_overflow is what the system dropped
// because it came faster than it was taken, where the system tells; a burst that
// it had coalesced counts as one.
func (u *UDP) Counters() map[string]uint64 {
	c := &u.counters
	return map[string]uint64{
		"received":             c.received.Load(),
		"receive_calls":        c.receiveCalls.Load(),
		"receive_overflow":     u.overflow(),
		"receive_truncated":    c.receiveTruncated.Load(),
		"receive_errors":       c.receiveErrors.Load(),
		"unreachable_hints":    c.hints.Load(),
		"sent":                 c.sent.Load(),
		"send_calls":           c.sendCalls.Load(),
		"send_bursts":          c.sendBursts.Load(),
		"send_too_large":       c.sendTooLarge.Load(),
		"send_buffer_full":     c.sendBufferFull.Load(),
		"send_unreachable":     c.sendUnreachable.Load(),
		"send_denied":          c.sendDenied.Load(),
		"send_errors":          c.sendErrors.Load(),
		"send_family":          c.sendFamily.Load(),
		"segmentation_retries": c.segmentationRetries.Load(),
	}
}

func unmapped(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}
