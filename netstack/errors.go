package netstack

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"

	"gvisor.dev/gvisor/pkg/tcpip"
)

// errorOf translates gVisor's errors, here and nowhere else.
func errorOf(err tcpip.Error) error {
	switch err.(type) {
	case nil:
		return nil
	case *tcpip.ErrClosedForReceive:
		return io.EOF
	case *tcpip.ErrClosedForSend:
		return syscall.EPIPE
	case *tcpip.ErrConnectionRefused:
		return syscall.ECONNREFUSED
	case *tcpip.ErrConnectionReset:
		return syscall.ECONNRESET
	case *tcpip.ErrConnectionAborted, *tcpip.ErrAborted:
		return syscall.ECONNABORTED
	case *tcpip.ErrTimeout:
		return syscall.ETIMEDOUT
	case *tcpip.ErrHostUnreachable, *tcpip.ErrHostDown:
		return syscall.EHOSTUNREACH
	case *tcpip.ErrNetworkUnreachable, *tcpip.ErrNoNet:
		return syscall.ENETUNREACH
	case *tcpip.ErrNotPermitted:
		return syscall.EACCES
	case *tcpip.ErrAddressFamilyNotSupported:
		return syscall.EAFNOSUPPORT
	case *tcpip.ErrBadLocalAddress, *tcpip.ErrNoPortAvailable:
		return syscall.EADDRNOTAVAIL
	case *tcpip.ErrPortInUse:
		return syscall.EADDRINUSE
	case *tcpip.ErrNotConnected:
		return syscall.ENOTCONN
	case *tcpip.ErrMessageTooLong:
		return syscall.EMSGSIZE
	case *tcpip.ErrNoBufferSpace:
		return syscall.ENOBUFS
	case *tcpip.ErrInvalidEndpointState:
		return net.ErrClosed
	default:
		return errors.New(err.String())
	}
}

// Types and codes of ICMPv6 errors (RFC 4443 section 3).
const (
	icmpUnreachable  = 1
	icmpTooBig       = 2
	icmpTimeExceeded = 3
	icmpParameter    = 4
	icmpEchoRequest  = 128
	icmpEchoReply    = 129

	codeNoRoute    = 0
	codeProhibited = 1
	codeNoHost     = 3
	codeNoPort     = 4
)

// errorOfICMP returns what an ICMPv6 error says, or nil if it is none that
// ends anything.
func errorOfICMP(typ, code byte) error {
	switch {
	case typ == icmpTimeExceeded:
		return syscall.ETIMEDOUT
	case typ != icmpUnreachable:
		return nil
	}
	switch code {
	case codeNoRoute:
		return syscall.ENETUNREACH
	case codeProhibited, 5, 6: // also: source address policy, reject route
		return syscall.EACCES
	case 2, codeNoHost: // also: beyond the scope of the source
		return syscall.EHOSTUNREACH
	case codeNoPort:
		return syscall.ECONNREFUSED
	}
	return nil
}

// icmpOf is the inverse of errorOfICMP for the error that a handler of a flow
// gives. What has no name of its own is told as an unreachable host.
func icmpOf(err error) (typ, code byte) {
	var timeout interface{ Timeout() bool }
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return icmpUnreachable, codeNoPort
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return icmpUnreachable, codeProhibited
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.ENETDOWN),
		errors.Is(err, syscall.EAFNOSUPPORT), errors.Is(err, syscall.EADDRNOTAVAIL):
		return icmpUnreachable, codeNoRoute
	case errors.Is(err, syscall.ETIMEDOUT), errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return icmpTimeExceeded, 0
	case errors.As(err, &timeout) && timeout.Timeout():
		return icmpTimeExceeded, 0
	}
	return icmpUnreachable, codeNoHost
}
