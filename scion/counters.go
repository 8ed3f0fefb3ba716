package scion

import "sync/atomic"

// Counters says what became of the packets of a host since it was made.
type Counters struct {
	Received    uint64 // datagrams and reports handed to ports
	Sent        uint64 // datagrams that the underlay took
	Echoed      uint64 // SCMP echo requests answered
	Unreachable uint64 // SCMP errors that became nil packets to ports
	Reports     uint64 // SCMP errors about datagrams of the host's
	SNAPReports uint64 // those of them that are from the SNAP itself
	EchoReplies uint64 // echo replies, or SCMP errors instead, that Echo took

	// Received packets that were dropped.
	Malformed        uint64 // not a packet, a part missing, or an impossible source
	WrongDestination uint64 // for another ISD-AS or host
	NoPort           uint64 // for a port that nobody receives on
	PathType         uint64 // on a path that is neither empty nor of type SCION
	Checksum         uint64
	Extension        uint64 // with extension headers that cannot be skipped
	Protocol         uint64 // neither UDP nor SCMP
	SCMP             uint64 // SCMP messages that nobody waits for or that cannot be true
	EchoFlood        uint64 // SCMP echo requests beyond 64 KiB in a batch

	// Datagrams that were not sent.
	NotAttached uint64 // the host has no address
	NoPath      uint64 // to another AS without a path
	Unsendable  uint64 // no address, or too long
	Refused     uint64 // the underlay did not take them
}

type counters struct {
	received, sent, echoed, unreachable           atomic.Uint64
	reports, snapReports, echoReplies             atomic.Uint64
	malformed, wrongDestination, noPort, pathType atomic.Uint64
	checksum, extension, protocol, scmp           atomic.Uint64
	echoFlood                                     atomic.Uint64
	notAttached, noPath, unsendable, refused      atomic.Uint64
}

func (c *counters) snapshot() Counters {
	return Counters{
		Received:         c.received.Load(),
		Sent:             c.sent.Load(),
		Echoed:           c.echoed.Load(),
		Unreachable:      c.unreachable.Load(),
		Reports:          c.reports.Load(),
		SNAPReports:      c.snapReports.Load(),
		EchoReplies:      c.echoReplies.Load(),
		Malformed:        c.malformed.Load(),
		WrongDestination: c.wrongDestination.Load(),
		NoPort:           c.noPort.Load(),
		PathType:         c.pathType.Load(),
		Checksum:         c.checksum.Load(),
		Extension:        c.extension.Load(),
		Protocol:         c.protocol.Load(),
		SCMP:             c.scmp.Load(),
		EchoFlood:        c.echoFlood.Load(),
		NotAttached:      c.notAttached.Load(),
		NoPath:           c.noPath.Load(),
		Unsendable:       c.unsendable.Load(),
		Refused:          c.refused.Load(),
	}
}
