package scion

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"
)

const (
	// maxEchos bounds the echo requests of an Echo that may still be answered.
	maxEchos      = 256
	echoCookieLen = 8
)

// An Echo sends SCMP echo requests and gets what comes back for them. Their
// identifier is the port assigned to the host: through a SNAP nothing else
// comes back, and border routers deliver by it too. All methods may be called
// at any time by any goroutine.
//
// The payload begins with eight random bytes that an answer must bring back, so
// that who has not seen the request cannot answer it. Payloads shorter than that
// have as many as fit.
type Echo struct {
	host    *Host
	deliver func(EchoReply)
	cookie  [echoCookieLen]byte

	mu   sync.Mutex // guards what follows
	sent [maxEchos]echoSent
	next int
}

// An echoSent is an echo request under way.
type echoSent struct {
	to       Addr // with its path
	hops     uint64
	sequence uint16
	size     int // of the payload
	used     bool
}

// An EchoReply is what came back for an echo request.
type EchoReply struct {
	// From is who answers or reports, with the path back and without a port.
	From Addr
	// To and Sequence are those of the request.
	To       Addr
	Sequence uint16
	// Size is the length in bytes of the SCION packet that came.
	Size int
	// Report is the SCMP error that came instead of an answer. If nil, this is
	// an answer. It is the receiver's to keep; it has no payload.
	Report *Report
}

// Echo returns what sends echo requests from this host until it is closed.
// Deliver is called for each answer, duplicates included, and for each SCMP
// error that came instead, by the goroutine of the host's Run; it must not
// block. The caller's clock tells how long an answer took: note the time before
// Request and in deliver.
func (h *Host) Echo(deliver func(EchoReply)) *Echo {
	e := &Echo{host: h, deliver: deliver}
	_, _ = rand.Read(e.cookie[:]) // never fails
	h.mu.Lock()
	defer h.mu.Unlock()
	echos := append(slices.Clone(*h.echos.Load()), e)
	h.echos.Store(&echos)
	return e
}

// Close ends the deliveries; one may be under way.
func (e *Echo) Close() {
	h := e.host
	h.mu.Lock()
	defer h.mu.Unlock()
	echos := slices.DeleteFunc(slices.Clone(*h.echos.Load()), func(x *Echo) bool { return x == e })
	h.echos.Store(&echos)
}

var errEchoRefused = errors.New("the underlay does not take it")

// Request sends an echo request with a payload of size bytes to the host of an
// address, on its path; the port does not count. The error wraps ENETDOWN while
// the host has no address, ENETUNREACH if the address is in another AS and has
// no path, and EMSGSIZE if the packet would be longer than SCION allows.
//
// The last 256 requests can be answered. Sequence numbers should not repeat
// among them.
func (e *Echo) Request(to Addr, sequence uint16, size int) error {
	b, err := e.request(to, sequence, size)
	if err != nil {
		return fmt.Errorf("send echo request to %s,%s: %w", to.IA, to.Host, err)
	}
	n, err := e.host.cfg.Underlay.WritePackets([][]byte{b})
	if err == nil && n == 0 {
		err = errEchoRefused
	}
	if err != nil {
		return fmt.Errorf("send echo request to %s,%s: %w", to.IA, to.Host, err)
	}
	return nil
}

// request makes an echo request and notes that it is sent.
func (e *Echo) request(to Addr, sequence uint16, size int) ([]byte, error) {
	local := e.host.local.Load()
	to.Host, to.Port = to.Host.Unmap(), 0
	switch {
	case local == nil:
		return nil, syscall.ENETDOWN
	case to.Path == nil && to.IA != local.IA:
		return nil, fmt.Errorf("%w: %w", errNoPath, syscall.ENETUNREACH)
	case size < 0 || size > maxPayload-scmpEchoLen:
		return nil, syscall.EMSGSIZE
	}
	b, err := appendHeader(nil, *local, to, ProtocolSCMP, scmpEchoLen+size)
	if err != nil {
		return nil, err
	}
	header := len(b)
	b = append(b, scmpEchoRequest, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, local.Port)
	b = binary.BigEndian.AppendUint16(b, sequence)
	b = append(b, e.cookie[:min(size, echoCookieLen)]...)
	b = append(b, make([]byte, max(0, size-echoCookieLen))...)
	setSCMPChecksum(b[addrOffset:header-to.Path.Len()], b[header:])

	e.mu.Lock()
	defer e.mu.Unlock()
	e.sent[e.next] = echoSent{to, to.Path.hash(), sequence, size, true}
	e.next = (e.next + 1) % maxEchos
	return b, nil
}

// find returns the latest request with a sequence number to a host that the
// payload, as far as it is there, is of.
func (e *Echo) find(ia IA, q Packet, source bool, sequence uint16, payload []byte) (echoSent, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for i := range maxEchos {
		s := e.sent[(e.next+maxEchos-1-i)%maxEchos]
		if !s.used || s.sequence != sequence || s.to.IA != ia {
			continue
		}
		cookie := e.cookie[:min(s.size, echoCookieLen)]
		if source { // an answer
			if q.SrcHost() == s.to.Host && len(payload) == s.size && bytes.HasPrefix(payload, cookie) {
				return s, true
			}
			continue
		}
		n := min(len(payload), len(cookie))
		if q.DstHost() == s.to.Host && q.hops() == s.hops && bytes.Equal(payload[:n], cookie[:n]) {
			return s, true
		}
	}
	return echoSent{}, false
}

// echoReply takes the answer to an echo request.
func (in *intake) echoReply(local *Addr, p Packet, scmp []byte) {
	c := &in.host.counters
	from, ok := in.source(local, p)
	if ok && len(scmp) >= scmpEchoLen && binary.BigEndian.Uint16(scmp[4:]) == local.Port {
		sequence := binary.BigEndian.Uint16(scmp[6:])
		for _, e := range *in.host.echos.Load() {
			if s, ok := e.find(p.SrcIA(), p, true, sequence, scmp[scmpEchoLen:]); ok {
				c.echoReplies.Add(1)
				e.deliver(EchoReply{From: from, To: s.to, Sequence: sequence, Size: p.Len()})
				return
			}
		}
	}
	c.scmp.Add(1)
}

// reportEcho takes an SCMP error about an echo request.
func (in *intake) reportEcho(local *Addr, r Report, p, q Packet, request []byte) {
	c := &in.host.counters
	if binary.BigEndian.Uint16(request[4:]) == local.Port {
		sequence := binary.BigEndian.Uint16(request[6:])
		for _, e := range *in.host.echos.Load() {
			s, ok := e.find(q.DstIA(), q, false, sequence, request[scmpEchoLen:])
			if !ok {
				continue
			}
			c.echoReplies.Add(1)
			from := Addr{IA: r.IA, Host: r.Host}
			if p.PathType() == PathSCION {
				from.Path = in.paths.reverse(p.RawPath())
			}
			r.To = s.to
			e.deliver(EchoReply{From: from, To: s.to, Sequence: sequence, Size: p.Len(), Report: &r})
			return
		}
	}
	c.scmp.Add(1)
}
