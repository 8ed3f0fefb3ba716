package socks

import (
	"context"
	"errors"
	"net"
	"os"
	"syscall"
)

// REP values of RFC 1928 §6.
const (
	replySucceeded   = 0
	replyFailure     = 1
	replyPolicy      = 2
	replyNetwork     = 3
	replyHost        = 4
	replyRefused     = 5
	replyExpired     = 6 // "TTL expired" is the nearest there is to a timeout
	replyCommand     = 7
	replyAddressType = 8
)

// A rejection is an error in a request that has a reply.
type rejection struct {
	reply byte
	error
}

func (r rejection) Unwrap() error { return r.error }

// replyOf returns the REP that tells err. Where several attempts have failed
// and err holds all of them, the one that got furthest is told.
//
// A malformed name (empty, too long, a NUL in it) is a general failure: its
// address type is one that is supported, and a client that is told otherwise
// would try another type for the same name. An address with a zone is of a
// type that is not supported.
func replyOf(err error) byte {
	var dns *net.DNSError
	switch {
	case err == nil:
		return replySucceeded
	case errors.Is(err, syscall.ECONNREFUSED):
		return replyRefused
	case errors.Is(err, syscall.EACCES):
		return replyPolicy
	case errors.Is(err, syscall.ETIMEDOUT), errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return replyExpired
	case errors.As(err, &dns):
		if dns.IsTimeout {
			return replyExpired
		}
		return replyHost
	case errors.Is(err, syscall.EHOSTUNREACH):
		return replyHost
	case errors.Is(err, syscall.ENETUNREACH):
		return replyNetwork
	case errors.Is(err, ErrCommand):
		return replyCommand
	case errors.Is(err, syscall.EAFNOSUPPORT), errors.Is(err, ErrAddressType):
		return replyAddressType
	}
	return replyFailure
}
