package snapproxy

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"

	"github.com/miekg/dns"
)

// fakeResolver answers from a map; a name that is not in it does not exist, a
// nil list is a server failure.
type fakeResolver map[string][]netip.Addr

func (r fakeResolver) LookupNetIP(_ context.Context, network, host string) ([]netip.Addr, error) {
	addrs, ok := r[host]
	if ok && addrs == nil {
		return nil, &net.DNSError{Err: "server misbehaving", Name: host, IsTemporary: true}
	}
	var out []netip.Addr
	for _, a := range addrs {
		if a.Is4() == (network == "ip4") {
			out = append(out, a)
		}
	}
	if len(out) == 0 {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	return out, nil
}

func addrs(list ...string) []netip.Addr {
	out := []netip.Addr{}
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

func testNames(t *testing.T) *nameService {
	t.Helper()
	p, err := newPolicy(nil, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return newNameService(fakeResolver{
		"both.test.":    addrs("1.1.1.1", "2606:4700::1"),
		"four.test.":    addrs("1.1.1.1", "1.0.0.1"),
		"private.test.": addrs("10.0.0.1"),
		"mixed.test.":   addrs("10.0.0.1", "1.1.1.1"),
		"broken.test.":  nil,
	}, p, map[string]netip.Addr{demoName: netip.MustParseAddr("fd53:4e41::1")})
}

// Question and answer as a client of the exit sees them, with both halves of
// our own code.
func TestNameService(t *testing.T) {
	s := testNames(t)
	notFound := func(err error) bool { var d *net.DNSError; return errors.As(err, &d) && d.IsNotFound }
	prohibited := func(err error) bool { return errors.Is(err, syscall.EACCES) }
	failed := func(err error) bool { var d *net.DNSError; return errors.As(err, &d) && !d.IsNotFound }
	for _, tt := range []struct {
		name  string
		qtype uint16
		want  []netip.Addr
		err   func(error) bool
	}{
		{"both.test", dns.TypeA, addrs("1.1.1.1"), nil},
		{"BOTH.test.", dns.TypeAAAA, addrs("2606:4700::1"), nil},
		{"four.test", dns.TypeA, addrs("1.1.1.1", "1.0.0.1"), nil},
		{"four.test", dns.TypeAAAA, nil, nil}, // no address of this family is not "no such name"
		{"mixed.test", dns.TypeA, addrs("1.1.1.1"), nil},
		{"private.test", dns.TypeA, nil, prohibited},
		{"none.test", dns.TypeA, nil, notFound},
		{"printer.local", dns.TypeA, nil, notFound},
		{"broken.test", dns.TypeA, nil, failed},
		{"demo.snapproxy.internal", dns.TypeAAAA, addrs("fd53:4e41::1"), nil},
		{"demo.snapproxy.internal", dns.TypeA, nil, nil},
	} {
		q := new(dns.Msg)
		q.SetQuestion(dns.Fqdn(tt.name), tt.qtype)
		q.SetEdns0(1232, false)
		packed, err := q.Pack()
		if err != nil {
			t.Fatal(err)
		}
		m := reply(q, s.answer(t.Context(), packed, dns.MaxMsgSize))
		if m == nil {
			t.Errorf("%s %s: no answer", tt.name, dns.TypeToString[tt.qtype])
			continue
		}
		got, err := addresses(tt.name, m)
		if tt.err != nil && (err == nil || !tt.err(err)) || tt.err == nil && err != nil {
			t.Errorf("%s %s: error %v", tt.name, dns.TypeToString[tt.qtype], err)
		}
		if len(got) != len(tt.want) {
			t.Errorf("%s %s: got %v, want %v", tt.name, dns.TypeToString[tt.qtype], got, tt.want)
			continue
		}
		for i := range got {
			if got[i] != tt.want[i] {
				t.Errorf("%s %s: got %v, want %v", tt.name, dns.TypeToString[tt.qtype], got, tt.want)
			}
		}
	}
}

func TestNameServiceRefusesWhatItIsNotFor(t *testing.T) {
	s := testNames(t)
	for _, tt := range []struct {
		name  string
		alter func(*dns.Msg)
		want  int
	}{
		{"other type", func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeANY }, dns.RcodeNotImplemented},
		{"other class", func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS }, dns.RcodeNotImplemented},
		{"update", func(m *dns.Msg) { m.Opcode = dns.OpcodeUpdate }, dns.RcodeNotImplemented},
		{"two questions", func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) }, dns.RcodeNotImplemented},
	} {
		q := new(dns.Msg)
		q.SetQuestion("both.test.", dns.TypeA)
		tt.alter(q)
		packed, err := q.Pack()
		if err != nil {
			t.Fatal(err)
		}
		var m dns.Msg
		if err := m.Unpack(s.answer(t.Context(), packed, dns.MaxMsgSize)); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		} else if m.Rcode != tt.want {
			t.Errorf("%s: rcode %d, want %d", tt.name, m.Rcode, tt.want)
		}
	}
	r := new(dns.Msg)
	r.SetQuestion("both.test.", dns.TypeA)
	r.Response = true
	packed, _ := r.Pack()
	if b := s.answer(t.Context(), packed, dns.MaxMsgSize); b != nil {
		t.Error("an answer was answered")
	}
}

// A long answer is cut to what the asker takes, and says so.
func TestNameServiceTruncates(t *testing.T) {
	var many []netip.Addr
	for i := range 100 {
		many = append(many, netip.AddrFrom4([4]byte{1, 1, 1, byte(i)}))
	}
	s := testNames(t)
	s.resolver = fakeResolver{"many.test.": many}
	q := new(dns.Msg)
	q.SetQuestion("many.test.", dns.TypeA)
	packed, _ := q.Pack()
	b := s.answer(t.Context(), packed, dns.MaxMsgSize)
	if m := reply(q, b); m == nil || !m.Truncated || len(b) > dns.MinMsgSize {
		t.Errorf("%d bytes, truncated %v", len(b), m != nil && m.Truncated)
	}
}

func FuzzNameService(f *testing.F) {
	q := new(dns.Msg)
	q.SetQuestion("both.test.", dns.TypeA)
	packed, _ := q.Pack()
	f.Add(packed)
	f.Add([]byte{})
	f.Add(make([]byte, 12))
	p, _ := newPolicy(nil, nil, nil)
	s := newNameService(fakeResolver{"both.test.": addrs("1.1.1.1")}, p, nil)
	f.Fuzz(func(t *testing.T, b []byte) {
		a := s.answer(t.Context(), b, dns.MaxMsgSize)
		if a == nil {
			return
		}
		var m dns.Msg
		if err := m.Unpack(a); err != nil || !m.Response {
			t.Errorf("answer does not parse: %v", err)
		}
	})
}

func TestInterleave(t *testing.T) {
	got := interleave([][]netip.Addr{addrs("::1", "::2", "::3"), addrs("1.1.1.1")})
	want := addrs("::1", "1.1.1.1", "::2", "::3")
	for i := range want {
		if i >= len(got) || got[i] != want[i] {
			t.Fatalf("got %v, want %v", got, want)
		}
	}
}

// The host's files are heeded, with and without the final dot.
func TestHostResolver(t *testing.T) {
	got, err := newHostResolver().LookupNetIP(t.Context(), "ip4", "localhost.")
	if err != nil || len(got) == 0 || !got[0].IsLoopback() {
		t.Errorf("localhost: %v, %v", got, err)
	}
}
