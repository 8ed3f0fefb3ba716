package snapproxy

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"github.com/miekg/dns"
)

// Waits for an answer before a question is asked again, then given up. The
// sum is more than the exit's own dnsTimeout.
var dnsWaits = []time.Duration{time.Second, 2 * time.Second, 3 * time.Second}

// A resolver asks the exit's name service for addresses, through the tunnel.
// It never asks anybody else.
type resolver struct {
	server netip.AddrPort
	listen func() (packetConn, error)
	dial   func(context.Context, netip.AddrPort) (net.Conn, error)
}

// lookup returns the addresses of name, which is no IP literal, ordered as RFC
// 8305 section 4 says: the families in turn, IPv6 first. network may limit
// the family ("tcp4", "udp6", …).
func (r *resolver) lookup(ctx context.Context, network, name string) ([]netip.Addr, error) {
	type result struct {
		addrs []netip.Addr
		err   error
	}
	types := []uint16{dns.TypeAAAA, dns.TypeA}
	switch network[len(network)-1] {
	case '4':
		types = types[1:]
	case '6':
		types = types[:1]
	}
	results := make([]chan result, len(types))
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for i, qtype := range types {
		results[i] = make(chan result, 1)
		go func() {
			addrs, err := r.query(ctx, name, qtype)
			results[i] <- result{addrs, err}
		}()
	}
	var families [][]netip.Addr
	var errs []error
	for _, c := range results {
		got := <-c
		if got.err != nil {
			errs = append(errs, got.err)
		}
		if len(got.addrs) > 0 {
			families = append(families, got.addrs)
		}
	}
	if len(families) == 0 {
		return nil, worst(name, errs)
	}
	return interleave(families), nil
}

// interleave takes from the lists in turn.
func interleave(lists [][]netip.Addr) []netip.Addr {
	var out []netip.Addr
	for i := 0; ; i++ {
		before := len(out)
		for _, l := range lists {
			if i < len(l) {
				out = append(out, l[i])
			}
		}
		if len(out) == before {
			return out
		}
	}
}

// worst chooses the error that says most about why a name has no address.
func worst(name string, errs []error) error {
	for _, is := range []func(error) bool{
		func(err error) bool { return errors.Is(err, syscall.EACCES) },
		func(err error) bool { var d *net.DNSError; return !errors.As(err, &d) },
		func(err error) bool { var d *net.DNSError; return errors.As(err, &d) && !d.IsNotFound },
	} {
		if i := slices.IndexFunc(errs, is); i >= 0 {
			return errs[i]
		}
	}
	return &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
}

// query asks one question, over UDP and again, whole, over TCP if the answer
// was cut.
func (r *resolver) query(ctx context.Context, name string, qtype uint16) ([]netip.Addr, error) {
	q := new(dns.Msg)
	q.SetQuestion(dns.Fqdn(name), qtype)
	q.SetEdns0(dns.DefaultMsgSize, false)
	packed, err := q.Pack()
	if err != nil {
		return nil, &net.DNSError{Err: err.Error(), Name: name, IsNotFound: true}
	}
	m, err := r.exchangeUDP(ctx, q, packed)
	if err == nil && m.Truncated {
		m, err = r.exchangeTCP(ctx, q, packed)
	}
	if err != nil {
		return nil, fmt.Errorf("look up %s: %w", name, err)
	}
	return addresses(name, m)
}

// addresses reads an answer.
func addresses(name string, m *dns.Msg) ([]netip.Addr, error) {
	switch m.Rcode {
	case dns.RcodeSuccess:
	case dns.RcodeNameError:
		return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
	case dns.RcodeRefused:
		if opt := m.IsEdns0(); opt != nil {
			for _, o := range opt.Option {
				if ede, ok := o.(*dns.EDNS0_EDE); ok && ede.InfoCode == dns.ExtendedErrorCodeFiltered {
					return nil, fmt.Errorf("look up %s: %w", name, errProhibited)
				}
			}
		}
		fallthrough
	default:
		return nil, &net.DNSError{Err: "the exit's name service answered " + dns.RcodeToString[m.Rcode], Name: name, IsTemporary: true}
	}
	var addrs []netip.Addr
	for _, rr := range m.Answer {
		var ip net.IP
		switch rr := rr.(type) {
		case *dns.A:
			ip = rr.A
		case *dns.AAAA:
			ip = rr.AAAA
		}
		if a, ok := netip.AddrFromSlice(ip); ok {
			addrs = append(addrs, a.Unmap())
		}
	}
	return addrs, nil
}

func (r *resolver) exchangeUDP(ctx context.Context, q *dns.Msg, packed []byte) (*dns.Msg, error) {
	c, err := r.listen()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	buf := make([]byte, dns.MaxMsgSize)
	for _, wait := range dnsWaits {
		if _, err := c.WriteToUDPAddrPort(packed, r.server); err != nil {
			return nil, err
		}
		c.SetReadDeadline(time.Now().Add(wait))
		for {
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			n, from, err := c.ReadFromUDPAddrPort(buf)
			if err != nil {
				if ne, ok := err.(net.Error); ok && ne.Timeout() && ctx.Err() == nil {
					break
				}
				if ctx.Err() != nil {
					err = context.Cause(ctx)
				}
				return nil, err
			}
			if m := reply(q, buf[:n]); m != nil && from == r.server {
				return m, nil
			}
		}
	}
	return nil, syscall.ETIMEDOUT
}

func (r *resolver) exchangeTCP(ctx context.Context, q *dns.Msg, packed []byte) (*dns.Msg, error) {
	c, err := r.dial(ctx, r.server)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	c.SetDeadline(time.Now().Add(2 * dnsTimeout))
	if _, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(packed))), packed...)); err != nil {
		return nil, err
	}
	var length [2]byte
	if _, err := io.ReadFull(c, length[:]); err != nil {
		return nil, err
	}
	b := make([]byte, binary.BigEndian.Uint16(length[:]))
	if _, err := io.ReadFull(c, b); err != nil {
		return nil, err
	}
	if m := reply(q, b); m != nil {
		return m, nil
	}
	return nil, errors.New("answer does not fit the question")
}

// reply returns b as the answer to q, or nil if it is none.
func reply(q *dns.Msg, b []byte) *dns.Msg {
	m := new(dns.Msg)
	if m.Unpack(b) != nil || !m.Response || m.Id != q.Id || len(m.Question) != 1 || m.Question[0] != q.Question[0] {
		return nil
	}
	return m
}
