package scion

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"syscall"
)

// An Underlay carries the SCION packets of a host: a tunnel to a SNAP, or the
// routers of an AS.
type Underlay interface {
	// Run receives until ctx ends and hands batches of packets to deliver, one
	// at a time. Bytes and slices are lent until deliver returns.
	Run(ctx context.Context, deliver func(packets [][]byte) error) error
	// WritePackets sends a batch and returns how many of it the underlay took.
	// Bytes and slices are lent until it returns. It does not block, does not
	// queue, and is safe for concurrent use. The error is net.ErrClosed if it
	// will not send again; others are only counted.
	WritePackets(packets [][]byte) (n int, err error)
}

// HostConfig configures a Host.
type HostConfig struct {
	// Underlay carries the packets. It belongs to the host from Run on.
	Underlay Underlay
	// Logger is told when the host's address changes, at Debug. If nil, nothing
	// is logged.
	Logger *slog.Logger
	// Report is called with what SCMP errors say about datagrams of the host's
	// ports, by the goroutine of Run, without locks held; it should not block. If
	// nil, nobody is told.
	Report func(Report)
}

// A Host is a SCION end host with one address. It answers SCMP echo requests,
// hands UDP datagrams to the ports that they are for, and drops and counts the
// rest.
//
// Paths in the addresses of received datagrams are shared: datagrams that came
// over the same path have the same pointer, as long as no more than a thousand
// other paths are in use.
type Host struct {
	cfg      HostConfig
	logger   *slog.Logger
	local    atomic.Pointer[Addr] // nil while the host has no address
	counters counters

	mu    sync.Mutex                       // serializes changes of ports
	ports atomic.Pointer[map[uint16]*Port] // replaced, not changed
	echos atomic.Pointer[[]*Echo]          // replaced, not changed
}

// NewHost makes a host without an address: SetLocal gives it one.
func NewHost(cfg HostConfig) *Host {
	h := &Host{cfg: cfg, logger: cfg.Logger}
	if h.logger == nil {
		h.logger = slog.New(slog.DiscardHandler)
	}
	h.ports.Store(&map[uint16]*Port{})
	h.echos.Store(&[]*Echo{})
	return h
}

// SetLocal gives the host its address, with the port that Listen(0) stands for.
// The zero Addr takes it away: nothing is sent or received then. A path in it
// means nothing. It may be called at any time.
func (h *Host) SetLocal(local Addr) {
	var next *Addr
	if local.Host.IsValid() {
		next = &Addr{IA: local.IA, Host: local.Host.Unmap().WithZone(""), Port: local.Port}
	}
	previous := h.local.Load()
	if previous == next || previous != nil && next != nil && *previous == *next {
		return // so that prepared headers stay valid
	}
	h.local.Store(next)
	h.logger.Debug("SCION address changed", "address", h.Local())
}

// Local returns the host's address and assigned port, the zero Addr while it
// has none.
func (h *Host) Local() Addr {
	if local := h.local.Load(); local != nil {
		return *local
	}
	return Addr{}
}

// HeaderSize returns the length of the SCION header of a packet from the host
// to an address, without the UDP header.
func (h *Host) HeaderSize(to Addr) int {
	from := h.Local().Host
	if !from.IsValid() {
		from = to.Host
	}
	return headerSize(from, to.Host, to.Path)
}

// Counters returns what became of the host's packets.
func (h *Host) Counters() Counters { return h.counters.snapshot() }

// Run receives from the underlay until ctx ends. It runs the ports' deliver
// functions, so it is over when these have returned.
func (h *Host) Run(ctx context.Context) error {
	in := newIntake(h)
	if err := h.cfg.Underlay.Run(ctx, in.receive); err != nil {
		return fmt.Errorf("run the underlay: %w", err)
	}
	return nil
}

// Listen opens a UDP port of the host. Port 0 is the port that SetLocal
// assigns, whichever it is at the time. A port stays open as long as the host.
func (h *Host) Listen(port uint16) (*Port, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	ports := *h.ports.Load()
	if _, ok := ports[port]; ok {
		return nil, fmt.Errorf("listen on SCION port %d: %w", port, syscall.EADDRINUSE)
	}
	p := newPort(h, port)
	ports = maps.Clone(ports)
	ports[port] = p
	h.ports.Store(&ports)
	return p, nil
}

// port returns the port of the host at local that a datagram is for, or nil.
func (h *Host) port(local *Addr, number uint16) *Port {
	ports := *h.ports.Load()
	if number == local.Port {
		if p := ports[0]; p != nil {
			return p
		}
	}
	if number == 0 {
		return nil
	}
	return ports[number]
}

var (
	errNoPath    = errors.New("no path to another AS")
	errReceiving = errors.New("SCION port is received from already")
)
