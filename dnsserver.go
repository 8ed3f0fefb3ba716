package snapproxy

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// A Resolver looks up the addresses of a name. network is "ip4" or "ip6", host
// is in lower case and ends in a dot.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

const (
	dnsPort    = 53
	dnsTTL     = 30 // seconds; the resolver of the standard library does not tell
	dnsTimeout = 5 * time.Second
	dnsIdle    = 10 * time.Second
	// dnsQueries bounds the questions under way at once; the next is answered
	// SERVFAIL.
	dnsQueries = 512
)

// A nameService answers the questions of an exit's clients: A and AAAA, from
// the resolver of the exit's host, without addresses that policy refuses.
type nameService struct {
	resolver Resolver
	policy   *policy
	names    map[string]netip.Addr // names answered by the exit itself, with the trailing dot
	queries  chan struct{}
}

func newNameService(r Resolver, p *policy, names map[string]netip.Addr) *nameService {
	if r == nil {
		r = newHostResolver()
	}
	return &nameService{resolver: r, policy: p, names: names, queries: make(chan struct{}, dnsQueries)}
}

// answer returns the packed answer to a packed question, or nil where silence
// is right. size is the largest answer that the transport takes.
func (s *nameService) answer(ctx context.Context, question []byte, size int) []byte {
	var q dns.Msg
	if err := q.Unpack(question); err != nil {
		if len(question) < 12 {
			return nil
		}
		m := &dns.Msg{MsgHdr: dns.MsgHdr{Id: binary.BigEndian.Uint16(question), Response: true, Rcode: dns.RcodeFormatError}}
		b, _ := m.Pack()
		return b
	}
	if q.Response {
		return nil
	}
	m := new(dns.Msg)
	m.SetReply(&q)
	m.RecursionAvailable = true
	opt := q.IsEdns0()
	if opt != nil {
		m.SetEdns0(dns.DefaultMsgSize, false)
		size = min(size, max(int(opt.UDPSize()), dns.MinMsgSize))
	} else {
		size = min(size, dns.MinMsgSize)
	}
	s.fill(ctx, &q, m)
	m.Truncate(size)
	b, err := m.Pack()
	if err != nil {
		return nil
	}
	return b
}

// fill puts the answer to q into m.
func (s *nameService) fill(ctx context.Context, q, m *dns.Msg) {
	if q.Opcode != dns.OpcodeQuery || len(q.Question) != 1 || q.Question[0].Qclass != dns.ClassINET {
		m.Rcode = dns.RcodeNotImplemented
		return
	}
	network := ""
	switch q.Question[0].Qtype {
	case dns.TypeA:
		network = "ip4"
	case dns.TypeAAAA:
		network = "ip6"
	default:
		m.Rcode = dns.RcodeNotImplemented
		return
	}
	select {
	case s.queries <- struct{}{}:
		defer func() { <-s.queries }()
	default:
		m.Rcode = dns.RcodeServerFailure
		return
	}
	addrs, rcode := s.lookup(ctx, network, strings.ToLower(q.Question[0].Name))
	m.Rcode = rcode
	if rcode == dns.RcodeRefused {
		if opt := m.IsEdns0(); opt != nil {
			opt.Option = append(opt.Option, &dns.EDNS0_EDE{InfoCode: dns.ExtendedErrorCodeFiltered})
		}
	}
	for _, a := range addrs {
		hdr := dns.RR_Header{Name: q.Question[0].Name, Rrtype: q.Question[0].Qtype, Class: dns.ClassINET, Ttl: dnsTTL}
		if a.Is4() {
			m.Answer = append(m.Answer, &dns.A{Hdr: hdr, A: a.AsSlice()})
		} else {
			m.Answer = append(m.Answer, &dns.AAAA{Hdr: hdr, AAAA: a.AsSlice()})
		}
	}
}

// lookup resolves one name of one family to the addresses that policy admits.
func (s *nameService) lookup(ctx context.Context, network, name string) ([]netip.Addr, int) {
	if a, ok := s.names[name]; ok {
		if a.Is4() == (network == "ip4") {
			return []netip.Addr{a}, dns.RcodeSuccess
		}
		return nil, dns.RcodeSuccess
	}
	if strings.HasSuffix(name, ".local.") || strings.HasSuffix(name, ".onion.") {
		return nil, dns.RcodeNameError // multicast DNS and Tor: never asked of a resolver
	}
	ctx, cancel := context.WithTimeout(ctx, dnsTimeout)
	defer cancel()
	addrs, err := s.resolver.LookupNetIP(ctx, network, name)
	var dnsErr *net.DNSError
	switch {
	case errors.As(err, &dnsErr) && dnsErr.IsNotFound:
		// The standard library does not tell "no such name" from "no address of
		// this family", so ask the other way before saying the stronger thing.
		other := "ip4"
		if network == "ip4" {
			other = "ip6"
		}
		if _, err := s.resolver.LookupNetIP(ctx, other, name); err == nil {
			return nil, dns.RcodeSuccess
		}
		return nil, dns.RcodeNameError
	case err != nil:
		return nil, dns.RcodeServerFailure
	}
	var admitted []netip.Addr
	for _, a := range addrs {
		if a = a.Unmap(); a.Is4() == (network == "ip4") && s.policy.check(a) == nil {
			admitted = append(admitted, a)
		}
	}
	if len(admitted) == 0 && len(addrs) > 0 {
		return nil, dns.RcodeRefused
	}
	return admitted, dns.RcodeSuccess
}

// A packetConn is the datagram socket of a netstack, as far as DNS needs it.
type packetConn interface {
	ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error)
	WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error)
	SetReadDeadline(time.Time) error
	Close() error
}

// serveUDP answers questions on c until c is closed.
func (s *nameService) serveUDP(ctx context.Context, g *group, c packetConn) error {
	buf := make([]byte, 64<<10)
	for {
		n, from, err := c.ReadFromUDPAddrPort(buf)
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return nil
			}
			return err
		}
		question := append([]byte(nil), buf[:n]...)
		g.Go(func() error {
			if b := s.answer(ctx, question, dns.MaxMsgSize); b != nil {
				c.WriteToUDPAddrPort(b, from)
			}
			return nil
		})
	}
}

// serveTCP answers the questions of one connection and closes it.
func (s *nameService) serveTCP(ctx context.Context, c net.Conn) {
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	for {
		c.SetDeadline(time.Now().Add(dnsIdle))
		var length [2]byte
		if _, err := io.ReadFull(c, length[:]); err != nil {
			return
		}
		question := make([]byte, binary.BigEndian.Uint16(length[:]))
		if _, err := io.ReadFull(c, question); err != nil {
			return
		}
		b := s.answer(ctx, question, dns.MaxMsgSize)
		if b == nil {
			return
		}
		if _, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)); err != nil {
			return
		}
	}
}
