package snapproxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"

	"github.com/snapproxy/snapproxy/scion"
)

const (
	// maxServers is how many of the DNS servers are asked, as resolv.conf(5)
	// has it.
	maxServers = 3
	// maxAliases bounds a chain of CNAME records.
	maxAliases = 8
	// nameMessage is the UDP size we announce: it passes unfragmented.
	nameMessage = 1232
)

// nameWaits are how long each server may take, in the first round and in the
// second.
var nameWaits = []time.Duration{2 * time.Second, 4 * time.Second}

// lookupTXT asks DNS for the addresses of a name, unless the last answer still
// holds.
func (n *Names) lookupTXT(ctx context.Context, name string) ([]scion.Addr, error) {
	name = dns.CanonicalName(name)
	if k, ok := n.recall(name); ok {
		return k.addrs, k.err
	}
	m, server, err := n.ask(ctx, name)
	if err != nil {
		return nil, err
	}
	r := readTXT(name, m)
	for _, err := range r.bad {
		n.logger.Debug("TXT record left out", "name", name, "error", err)
	}
	if len(r.addrs) == 0 {
		why := "no SCION address"
		if len(r.bad) > 0 {
			why += ": " + r.bad[0].Error()
		} else if m.Rcode == dns.RcodeNameError {
			why = "no such host"
		}
		err = &net.DNSError{Err: why, Name: strings.TrimSuffix(name, "."), Server: server, IsNotFound: true}
	}
	n.remember(name, r.addrs, err, r.ttl)
	return r.addrs, err
}

// ask returns the first answer of a DNS server that says whether the name has
// records or not.
func (n *Names) ask(ctx context.Context, name string) (m *dns.Msg, server string, err error) {
	q := new(dns.Msg)
	q.SetQuestion(name, dns.TypeTXT)
	q.SetEdns0(nameMessage, false)
	packed, err := q.Pack()
	if err != nil {
		return nil, "", &net.DNSError{Err: "no name of a host", Name: name, IsNotFound: true}
	}
	servers := n.cfg.Servers
	if len(servers) == 0 {
		servers = hostServers(ctx, name)
	}
	servers = servers[:min(len(servers), maxServers)]
	err = errors.New("there is no DNS server")
	for _, wait := range n.cfg.waits {
		for _, server = range servers {
			if m, err = n.exchange(ctx, server, q, packed, wait); err == nil {
				return m, server, nil
			}
			if ctx.Err() != nil {
				return nil, "", nameError(name, server, context.Cause(ctx))
			}
		}
	}
	return nil, "", nameError(name, server, err)
}

// nameError is the failure of a lookup that another time may succeed.
func nameError(name, server string, err error) error {
	var ne net.Error
	timeout := errors.Is(err, context.DeadlineExceeded) || errors.As(err, &ne) && ne.Timeout()
	e := &net.DNSError{
		UnwrapErr: err, Err: err.Error(), Name: strings.TrimSuffix(name, "."), Server: server,
		IsTimeout: timeout, IsTemporary: true,
	}
	if timeout {
		e.Err = "no answer in time"
	}
	return e
}

// exchange asks one server, over UDP and again, whole, over TCP if the answer
// was cut. It returns no answer that says nothing about the name.
func (n *Names) exchange(ctx context.Context, server string, q *dns.Msg, packed []byte, wait time.Duration) (*dns.Msg, error) {
	m, err := exchangeOver(ctx, "udp", server, q, packed, wait)
	if err == nil && m.Truncated {
		m, err = exchangeOver(ctx, "tcp", server, q, packed, wait)
	}
	switch {
	case err != nil:
		return nil, err
	case m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError:
		return nil, fmt.Errorf("server answers %s", rcodeWord(m.Rcode))
	case len(m.Answer) == 0 && m.Rcode == dns.RcodeSuccess && !m.Authoritative && !m.RecursionAvailable:
		return nil, errors.New("server does not know and does not ask others")
	}
	return m, nil
}

func rcodeWord(rcode int) string {
	if word, ok := dns.RcodeToString[rcode]; ok {
		return word
	}
	return fmt.Sprintf("code %d", rcode)
}

// exchangeOver sends a question and waits for the answer to it. What else comes
// over UDP is ignored: it may be forged.
func exchangeOver(ctx context.Context, network, server string, q *dns.Msg, packed []byte, wait time.Duration) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	c, err := new(net.Dialer).DialContext(ctx, network, server)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })()
	conn := &dns.Conn{Conn: c, UDPSize: dns.MaxMsgSize}
	if _, err := conn.Write(packed); err != nil {
		return nil, err
	}
	buf := make([]byte, dns.MaxMsgSize)
	for {
		length, err := conn.Read(buf)
		if err != nil {
			return nil, err
		}
		if m := reply(q, buf[:length]); m != nil {
			return m, nil
		}
		if network == "tcp" {
			return nil, errors.New("server answers another question")
		}
	}
}

// hostServers returns the DNS servers of the host, which the standard library
// knows on each system and tells only to what dials them.
func hostServers(ctx context.Context, name string) []string {
	var mu sync.Mutex
	var servers []string
	r := &net.Resolver{PreferGo: true, Dial: func(_ context.Context, _, server string) (net.Conn, error) {
		mu.Lock()
		defer mu.Unlock()
		if !slices.Contains(servers, server) {
			servers = append(servers, server)
		}
		return nil, errors.New("not dialled")
	}}
	r.LookupTXT(ctx, name)
	mu.Lock()
	defer mu.Unlock()
	return slices.Clone(servers)
}

// A txtAnswer is what an answer says of a name.
type txtAnswer struct {
	addrs []scion.Addr
	bad   []error       // records that mean to publish addresses, but do not
	ttl   time.Duration // how long that holds
}

// readTXT reads the TXT records of a name, or of what it is an alias of. Records
// of other names are ignored.
func readTXT(name string, m *dns.Msg) txtAnswer {
	ttl := ^uint32(0)
	owned := func(rr dns.RR, rrtype uint16) bool {
		h := rr.Header()
		if h.Rrtype != rrtype || h.Class != dns.ClassINET || dns.CanonicalName(h.Name) != name {
			return false
		}
		ttl = min(ttl, seconds(h.Ttl))
		return true
	}
	for range maxAliases {
		i := slices.IndexFunc(m.Answer, func(rr dns.RR) bool { return owned(rr, dns.TypeCNAME) })
		if i < 0 {
			break
		}
		name = dns.CanonicalName(m.Answer[i].(*dns.CNAME).Target)
	}
	var a txtAnswer
	records := 0
	for _, rr := range m.Answer {
		if !owned(rr, dns.TypeTXT) {
			continue
		}
		records++
		addrs, _, err := parseTXT(unescape(strings.Join(rr.(*dns.TXT).Txt, "")))
		if err != nil && len(a.bad) < maxAddresses {
			a.bad = append(a.bad, err)
		}
		for _, addr := range addrs {
			if len(a.addrs) < maxAddresses && !slices.Contains(a.addrs, addr) {
				a.addrs = append(a.addrs, addr)
			}
		}
	}
	if records == 0 {
		ttl = min(ttl, negativeTTL(name, m))
	}
	a.ttl = time.Duration(ttl) * time.Second
	return a
}

// negativeTTL is how long it holds that there is no record (RFC 2308 section 5).
func negativeTTL(name string, m *dns.Msg) uint32 {
	for _, rr := range m.Ns {
		if soa, ok := rr.(*dns.SOA); ok && dns.IsSubDomain(soa.Hdr.Name, name) {
			return min(seconds(soa.Hdr.Ttl), seconds(soa.Minttl))
		}
	}
	return 0
}

// seconds is a time to live as RFC 2181 section 8 reads it.
func seconds(ttl uint32) uint32 {
	if ttl > 1<<31-1 {
		return 0
	}
	return ttl
}

// unescape undoes what package dns does to bytes that zone files write in
// another way: \DDD in decimal and \ before any other.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch digits := s[min(i+1, len(s)):min(i+4, len(s))]; {
		case s[i] != '\\' || digits == "":
			b.WriteByte(s[i])
		case len(digits) == 3 && isDigit(digits[0]) && isDigit(digits[1]) && isDigit(digits[2]):
			b.WriteByte((digits[0]-'0')*100 + (digits[1]-'0')*10 + digits[2] - '0')
			i += 3
		default:
			b.WriteByte(digits[0])
			i++
		}
	}
	return b.String()
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
