package snapproxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

const exitTXT = `exit.example.org. 300 IN TXT "scion=v1;[1-ff00:0:110,192.0.2.1],[2-ff00:0:210,2001:db8::1]"`

func TestDNSKnowsBothForms(t *testing.T) {
	s := newDNSServer(t, map[string][]string{
		"exit.example.org.": {
			`exit.example.org. 300 IN TXT "v=spf1 -all"`,
			`exit.example.org. 300 IN TXT "scion=v1;[1-ff00:0:110," "192.0.2.1]"`,
			`exit.example.org. 300 IN TXT "scion=2-ff00:0:210,2001:db8::1"`,
			`exit.example.org. 300 IN TXT "scion=1-ff00:0:110,192.0.2.1"`,
			`exit.example.org. 300 IN TXT "scion=v1;[1-ff00:0:110,192.0.2.9],[oops]"`,
			`other.example.org. 300 IN TXT "scion=3-ff00:0:310,192.0.2.3"`,
		},
		"alias.example.org.": {
			`ALIAS.example.org. 300 IN CNAME www.Example.org.`,
			`www.example.org. 300 IN CNAME exit.example.org.`,
			exitTXT,
			`alias.example.org. 300 IN TXT "scion=3-ff00:0:310,192.0.2.3"`,
		},
	})
	n := newTestNames(t, NamesConfig{Servers: []string{s.addr}})
	const want = "1-ff00:0:110,192.0.2.1:0 2-ff00:0:210,[2001:db8::1]:0"
	for _, name := range []string{"exit.example.org", "EXIT.example.org.", "alias.example.org"} {
		addrs, err := n.Lookup(t.Context(), name)
		if got := texts(addrs); err != nil || got != want {
			t.Errorf("%s is %q, %v; want %q", name, got, err, want)
		}
	}
	if got := s.asked.Load(); got != 2 {
		t.Errorf("%d questions, want 2: names do not differ by case or a final dot", got)
	}
}

func TestNamesWithoutSCIONAddressesAreNotFound(t *testing.T) {
	s := newDNSServer(t, map[string][]string{
		"web.example.org.": {`web.example.org. 300 IN TXT "v=spf1 -all"`},
		"bad.example.org.": {`bad.example.org. 300 IN TXT "scion=v1;[1-ff00:0:110,nowhere]"`},
	})
	n := newTestNames(t, NamesConfig{Servers: []string{s.addr}})
	for name, want := range map[string]string{
		"web.example.org":  "no SCION address",
		"bad.example.org":  "host is not an IP address",
		"none.example.org": "no such host",
	} {
		_, err := n.Lookup(t.Context(), name)
		var unknown *net.DNSError
		if !errors.As(err, &unknown) || !unknown.IsNotFound || unknown.IsTemporary || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want one that is not found and says %q", name, err, want)
		}
	}
}

// TestAnswersOf64KiBComeOverTCP: the first is cut short over UDP; the size of
// the second is that of the largest DNS message.
func TestAnswersOf64KiBComeOverTCP(t *testing.T) {
	filler := strings.Repeat(`"`+strings.Repeat("x", 255)+`" `, 200)
	s := newDNSServer(t, map[string][]string{"exit.example.org.": {"exit.example.org. 300 IN TXT " + filler, exitTXT}})
	n := newTestNames(t, NamesConfig{Servers: []string{s.addr}})
	addrs, err := n.Lookup(t.Context(), "exit.example.org")
	if got, want := texts(addrs), "1-ff00:0:110,192.0.2.1:0 2-ff00:0:210,[2001:db8::1]:0"; err != nil || got != want {
		t.Errorf("Lookup = %q, %v; want %q", got, err, want)
	}
}

func TestHostileAnswersAreBounded(t *testing.T) {
	thousands := make([]string, 1500)
	for i := range thousands {
		thousands[i] = fmt.Sprintf(`exit.example.org. 4294967295 IN TXT "scion=1-ff00:0:110,10.0.%d.%d"`, i/256, i%256+1)
	}
	var loop []string
	for i := range 20 {
		loop = append(loop, fmt.Sprintf("n%d. 300 IN CNAME n%d.", i, (i+1)%20))
	}
	s := newDNSServer(t, map[string][]string{
		"exit.example.org.": thousands,
		"n0.":               append(loop, `n9. 300 IN TXT "scion=1-1,::1"`),
	})
	n := newTestNames(t, NamesConfig{Servers: []string{s.addr}})
	addrs, err := n.Lookup(t.Context(), "exit.example.org")
	if err != nil || len(addrs) != maxAddresses {
		t.Errorf("%d addresses, %v", len(addrs), err)
	}
	if addrs, err := n.Lookup(t.Context(), "n0"); err == nil {
		t.Errorf("an endless alias is %v", addrs)
	}
}

// TestOnlyTheAnswerToTheQuestionCounts: what comes before it may be forged.
func TestOnlyTheAnswerToTheQuestionCounts(t *testing.T) {
	s := startDNS(t, dnsServer{names: map[string][]string{"exit.example.org.": {exitTXT}}, before: func(w dns.ResponseWriter, q *dns.Msg) {
		forged := answer(t, []string{`exit.example.org. 300 IN TXT "scion=3-ff00:0:310,192.0.2.3"`})
		forged.SetReply(q)
		forged.Id++
		w.WriteMsg(forged)
		forged.Id = q.Id
		forged.Question[0].Name = "other.example.org."
		w.WriteMsg(forged)
		forged.Question = nil
		w.WriteMsg(forged)
		w.Write([]byte{byte(q.Id >> 8), byte(q.Id), 0x80, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0xc0, 12}) // a name that is itself
		w.Write(nil)
	}})
	n := newTestNames(t, NamesConfig{Servers: []string{s.addr}})
	addrs, err := n.Lookup(t.Context(), "exit.example.org")
	if got := texts(addrs); err != nil || !strings.HasPrefix(got, "1-ff00:0:110,192.0.2.1") {
		t.Errorf("Lookup = %q, %v", got, err)
	}
}

func TestTheNextServerIsAskedWhenOneFails(t *testing.T) {
	good := newDNSServer(t, map[string][]string{"exit.example.org.": {exitTXT}})
	failing := startDNS(t, dnsServer{rcode: dns.RcodeServerFailure})
	lame := startDNS(t, dnsServer{lame: true})
	for _, first := range []string{failing.addr, lame.addr, closedUDP(t)} {
		n := newTestNames(t, NamesConfig{Servers: []string{first, good.addr}})
		if addrs, err := n.Lookup(t.Context(), "exit.example.org"); err != nil || len(addrs) != 2 {
			t.Errorf("after %s: %v, %v", first, addrs, err)
		}
	}
	n := newTestNames(t, NamesConfig{Servers: []string{failing.addr}})
	_, err := n.Lookup(t.Context(), "exit.example.org")
	var d *net.DNSError
	if !errors.As(err, &d) || !d.IsTemporary || d.IsNotFound || d.IsTimeout || !strings.Contains(err.Error(), "SERVFAIL") {
		t.Errorf("a failing server: %v", err)
	}
}

func TestSilentServersTimeOut(t *testing.T) {
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	silent := c.LocalAddr().String()
	n := newTestNames(t, NamesConfig{Servers: []string{silent}, waits: []time.Duration{time.Millisecond, time.Millisecond}})
	_, err = n.Lookup(t.Context(), "exit.example.org")
	var d *net.DNSError
	if !errors.As(err, &d) || !d.IsTimeout || d.IsNotFound {
		t.Errorf("no answer: %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("gone")
	n = newTestNames(t, NamesConfig{Servers: []string{silent}, waits: []time.Duration{time.Hour}})
	failed := make(chan error)
	go func() {
		_, err := n.Lookup(ctx, "exit.example.org")
		failed <- err
	}()
	if _, _, err := c.ReadFrom(make([]byte, 2000)); err != nil {
		t.Fatal(err)
	}
	cancel(gone)
	if err := <-failed; !errors.Is(err, gone) {
		t.Errorf("after the caller left: %v", err)
	}
}

func TestAnswersAreRememberedForTheirTime(t *testing.T) {
	s := newDNSServer(t, map[string][]string{
		"short.": {`short. 10 IN TXT "scion=1-1,::1"`},
		"long.":  {`long. 400000 IN TXT "scion=1-1,::1"`},
		"never.": {`never. 0 IN TXT "scion=1-1,::1"`},
		"huge.":  {`huge. 4294967295 IN TXT "scion=1-1,::1"`},
		"alias.": {`alias. 10 IN CNAME long.`, `long. 400000 IN TXT "scion=1-1,::1"`},
		"none.":  {`. 60 IN SOA a. b. 1 2 3 4 20`},
	})
	for name, holds := range map[string]time.Duration{
		"short": 10 * time.Second, "long": maxKnownFor, "never": 0, "huge": 0, "alias": 10 * time.Second, "none": 20 * time.Second, "nowhere": 0,
	} {
		now := time.Unix(1e9, 0)
		n := newTestNames(t, NamesConfig{Servers: []string{s.addr}, clock: func() time.Time { return now }})
		before := s.asked.Load()
		_, first := n.Lookup(t.Context(), name)
		now = now.Add(holds - time.Nanosecond)
		_, second := n.Lookup(t.Context(), name)
		if fmt.Sprint(first) != fmt.Sprint(second) {
			t.Errorf("%s: first %v, then %v", name, first, second)
		}
		asked := s.asked.Load() - before
		now = now.Add(time.Nanosecond)
		n.Lookup(t.Context(), name)
		switch again := s.asked.Load() - before; {
		case holds > 0 && asked != 1:
			t.Errorf("%s is asked for %d times while the answer holds", name, asked)
		case holds > 0 && again != 2, holds == 0 && again != 3:
			t.Errorf("%s is asked for %d times, after %v too", name, again, holds)
		}
	}
}

// TestWhatIsRememberedIsBounded also holds that callers may change what they got.
func TestWhatIsRememberedIsBounded(t *testing.T) {
	s := startDNS(t, dnsServer{any: `"scion=1-1,::1"`})
	n := newTestNames(t, NamesConfig{Servers: []string{s.addr}})
	for i := range maxKnownNames + 10 {
		if _, err := n.Lookup(t.Context(), fmt.Sprintf("n%d", i)); err != nil {
			t.Fatal(err)
		}
	}
	if len(n.known) > maxKnownNames {
		t.Errorf("%d names are remembered", len(n.known))
	}
	for range 2 {
		addrs, err := n.LookupPort(t.Context(), "n0:80")
		if err != nil || addrs[0].Port != 80 {
			t.Fatal(addrs, err)
		}
		addrs, err = n.Lookup(t.Context(), "n0")
		if err != nil || addrs[0].Port != 0 {
			t.Errorf("a caller's port is remembered: %v, %v", addrs, err)
		}
	}
}

func TestTheHostsServersAreFound(t *testing.T) {
	for _, s := range hostServers(t.Context(), "exit.example.org.") {
		if _, _, err := net.SplitHostPort(s); err != nil {
			t.Errorf("server %q: %v", s, err)
		}
	}
}

// A dnsServer is a DNS server over UDP and TCP.
type dnsServer struct {
	addr   string
	names  map[string][]string // records by question, in the form of a zone file
	any    string              // if not "", the TXT record of all names
	rcode  int                 // if not zero or lame, of all answers
	lame   bool
	before func(dns.ResponseWriter, *dns.Msg) // over UDP, before the answer
	asked  *atomic.Int64                      // questions over UDP
	t      *testing.T
}

func newDNSServer(t *testing.T, names map[string][]string) *dnsServer {
	t.Helper()
	return startDNS(t, dnsServer{names: names})
}

func startDNS(t *testing.T, s dnsServer) *dnsServer {
	t.Helper()
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tcp, err := net.Listen("tcp", udp.LocalAddr().String())
	if err != nil {
		udp.Close()
		t.Skipf("the TCP port is taken: %v", err)
	}
	s.addr, s.asked, s.t = tcp.Addr().String(), new(atomic.Int64), t
	for _, server := range []*dns.Server{{PacketConn: udp, Handler: &s}, {Listener: tcp, Handler: &s}} {
		started, ended := make(chan struct{}), make(chan struct{})
		server.NotifyStartedFunc = func() { close(started) }
		go func() {
			defer close(ended)
			server.ActivateAndServe()
		}()
		<-started
		t.Cleanup(func() {
			server.Shutdown()
			<-ended
		})
	}
	return &s
}

func (s *dnsServer) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	records, ok := s.names[dns.CanonicalName(q.Question[0].Name)]
	if s.any != "" {
		records, ok = []string{q.Question[0].Name + " 300 IN TXT " + s.any}, true
	}
	m := answer(s.t, records)
	m.SetReply(q)
	m.RecursionAvailable = !s.lame
	switch {
	case s.rcode != 0 || s.lame:
		m.Rcode = s.rcode
	case !ok:
		m.Rcode = dns.RcodeNameError
	}
	if w.LocalAddr().Network() == "udp" {
		s.asked.Add(1)
		if s.before != nil {
			s.before(w, q)
		}
		m.Truncate(nameMessage)
	}
	w.WriteMsg(m)
}

// closedUDP returns an address at which nobody listens.
func closedUDP(t *testing.T) string {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.LocalAddr().String()
}
