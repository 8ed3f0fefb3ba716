//go:build !linux

package tunnel

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
)

// A socket needs nothing more where datagrams go one by one.
type socket struct{}

const receiveSize = 64 << 10

// errorsInARow is after how many errors without a datagram between them a socket
// counts as broken. Some systems report the ICMP errors of earlier sends.
const errorsInARow = 1000

func (u *UDP) control(string, string, syscall.RawConn) error { return nil }

func (u *UDP) open() error {
	// Neither is required; the system may grant less.
	_ = u.conn.SetReadBuffer(u.cfg.ReceiveBuffer)
	_ = u.conn.SetWriteBuffer(u.cfg.SendBuffer)
	return nil
}

// overflow is not told.
func (u *UDP) overflow() uint64 { return 0 }

func (u *UDP) receive(ctx context.Context, deliver func([]netip.AddrPort, [][]byte) error) error {
	buffer := make([]byte, receiveSize)
	from := make([]netip.AddrPort, 1)
	packets := make([][]byte, 1)
	failures := 0
	for ctx.Err() == nil {
		u.counters.receiveCalls.Add(1)
		n, addr, err := u.conn.ReadFromUDPAddrPort(buffer)
		if err != nil {
			failures++
			if errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded) || failures > errorsInARow {
				return fmt.Errorf("receive on %s: %w", u.local, err)
			}
			u.counters.receiveErrors.Add(1)
			continue
		}
		failures = 0
		u.counters.received.Add(1)
		from[0], packets[0] = unmapped(addr), buffer[:n:n]
		if err := deliver(from, packets); err != nil {
			return err
		}
	}
	return nil
}

// WritePackets sends packets[i] to to[i] and returns how many were sent; the
// others are dropped and counted. The error is net.ErrClosed.
func (u *UDP) WritePackets(to []netip.AddrPort, packets [][]byte) (n int, err error) {
	for i, p := range packets {
		u.counters.sendCalls.Add(1)
		switch _, err := u.conn.WriteToUDPAddrPort(p, to[i]); {
		case err == nil:
			u.counters.sent.Add(1)
			n++
		case errors.Is(err, net.ErrClosed):
			return n, fmt.Errorf("send from %s: %w", u.local, err)
		case errors.Is(err, syscall.EMSGSIZE):
			u.counters.sendTooLarge.Add(1)
		case errors.Is(err, syscall.ENOBUFS):
			u.counters.sendBufferFull.Add(1)
		case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.ECONNREFUSED):
			u.counters.sendUnreachable.Add(1)
		case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
			u.counters.sendDenied.Add(1)
		default:
			u.counters.sendErrors.Add(1)
		}
	}
	return n, nil
}
