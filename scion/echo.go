package scion

import "errors"

// An Echo sends SCMP echo requests and gets what comes back for them.
type Echo struct {
	host    *Host
	deliver func(EchoReply)
}

// An EchoReply is what came back for an echo request.
type EchoReply struct {
	// From is who answers, with the path back and no port.
	From Addr
	// Sequence is that of the request.
	Sequence uint16
	// Size is the length in bytes of the SCION packet that came.
	Size int
	// Report is the SCMP error that came instead of an answer. If nil, this is
	// an answer. It is lent until Deliver returns, like what is in it.
	Report *Report
}

// Echo returns what sends echo requests from this host until it is closed.
func (h *Host) Echo(deliver func(EchoReply)) *Echo { return &Echo{host: h, deliver: deliver} }

// Request sends an echo request with a payload of size bytes to the host of an
// address, on its path.
func (e *Echo) Request(to Addr, sequence uint16, size int) error { return errors.ErrUnsupported }

// Close ends the deliveries.
func (e *Echo) Close() {}
