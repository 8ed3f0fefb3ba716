package scion

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"testing"
)

// A sheet is a carrier that notes what is sent, and delivers what it is given.
type sheet struct {
	to      []netip.AddrPort
	sent    [][]byte
	deliver func(from []netip.AddrPort, packets [][]byte) error
	err     error
}

func (s *sheet) Run(ctx context.Context, deliver func([]netip.AddrPort, [][]byte) error) error {
	s.deliver = deliver
	return s.err
}

func (s *sheet) WritePackets(to []netip.AddrPort, packets [][]byte) (int, error) {
	for i, b := range packets {
		s.to, s.sent = append(s.to, to[i]), append(s.sent, slices.Clone(b))
	}
	return len(packets), s.err
}

var (
	directIA   = mustIA("1-ff00:0:111")
	directSelf = Addr{IA: directIA, Host: netip.MustParseAddr("10.0.0.9"), Port: 4000}
	farHost    = Addr{IA: mustIA("1-ff00:0:112"), Host: netip.MustParseAddr("10.0.0.1"), Port: 53}
	router41   = netip.MustParseAddrPort("10.0.0.1:30001")
	router100  = netip.MustParseAddrPort("[fd00::1]:30001")
	openHosts  = []netip.Prefix{netip.MustParsePrefix("10.0.7.0/24"), netip.MustParsePrefix("fd00:7::/32")}
)

// newTestDirect makes a Direct that receives from its carrier what deliver is
// called with, into got.
func newTestDirect(t testing.TB) (d *Direct, carrier *sheet, got *[][]byte) {
	t.Helper()
	routers, err := NewRouters(map[uint16]netip.AddrPort{41: router41, 100: router100})
	if err != nil {
		t.Fatal(err)
	}
	carrier, got = new(sheet), new([][]byte)
	d = NewDirect(DirectConfig{Carrier: carrier, IA: directIA, Routers: routers, ASHosts: openHosts})
	if err := d.Run(t.Context(), func(packets [][]byte) error {
		for _, b := range packets {
			*got = append(*got, slices.Clone(b))
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return d, carrier, got
}

// oneLink is a path of a segment with two hop fields that leaves by an
// interface.
func oneLink(egress uint16, consDir bool) *Path {
	raw := make([]byte, metaLen+infoLen+2*hopLen)
	binary.BigEndian.PutUint32(raw, 2<<12)
	first := raw[metaLen+infoLen:]
	if consDir {
		raw[metaLen] = infoConsDir
		binary.BigEndian.PutUint16(first[4:], egress)
	} else {
		binary.BigEndian.PutUint16(first[2:], egress)
	}
	return mustPath(raw)
}

// ended is the path p after its last hop.
func ended(p *Path) *Path {
	raw := p.Append(nil)
	raw[0] |= 1
	return mustPath(raw)
}

func on(a Addr, p *Path) Addr {
	a.Path = p
	return a
}

func mustUDP(t testing.TB, from, to Addr) []byte {
	t.Helper()
	b, err := AppendUDP(nil, from, to, []byte("payload"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func neighbor(host string, port uint16) Addr {
	return Addr{IA: directIA, Host: netip.MustParseAddr(host), Port: port}
}

// A packet goes to the router that owns its first interface, or to a host that
// was opened, and nowhere else.
func TestDirectSends(t *testing.T) {
	oneHop := mustUDP(t, directSelf, on(farHost, oneLink(41, true)))
	oneHop[8] = byte(PathOneHop)
	service := mustUDP(t, directSelf, neighbor("10.0.7.1", 80))
	service[9] |= 0x40
	for _, tt := range []struct {
		name    string
		packet  []byte
		to      string // nowhere
		counter string
	}{
		{"by 41", mustUDP(t, directSelf, on(farHost, oneLink(41, true))), "10.0.0.1:30001", ""},
		{"by 41 against construction", mustUDP(t, directSelf, on(farHost, oneLink(41, false))), "10.0.0.1:30001", ""},
		{"by 100", mustUDP(t, directSelf, on(farHost, oneLink(100, true))), "[fd00::1]:30001", ""},
		{"by an interface of no router", mustUDP(t, directSelf, on(farHost, oneLink(7, true))), "", "no_router"},
		{"by no interface", mustUDP(t, directSelf, on(farHost, ended(oneLink(41, true)))), "", "no_router"},
		{"to an open host", mustUDP(t, directSelf, neighbor("10.0.7.1", 80)), "10.0.7.1:80", ""},
		{"to an open host of IPv6", mustUDP(t, directSelf, neighbor("fd00:7::5", 80)), "[fd00:7::5]:80", ""},
		{"to a closed host", mustUDP(t, directSelf, neighbor("10.0.8.1", 80)), "", "closed_host"},
		{"to this machine", mustUDP(t, directSelf, neighbor("127.0.0.1", 53)), "", "closed_host"},
		{"to another AS without a path", mustUDP(t, directSelf, on(farHost, nil)), "", "closed_host"},
		{"to a service", service, "", "closed_host"},
		{"on a path of another type", oneHop, "", "path_type"},
		{"garbage", []byte("garbage"), "", "malformed"},
		{"a part", mustUDP(t, directSelf, neighbor("10.0.7.1", 80))[:40], "", "malformed"},
	} {
		d, carrier, _ := newTestDirect(t)
		n, err := d.WritePackets([][]byte{tt.packet})
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		switch {
		case tt.to == "" && (n != 0 || len(carrier.sent) != 0):
			t.Errorf("%s: sent to %v", tt.name, carrier.to)
		case tt.to == "" && d.Counters()[tt.counter] != 1:
			t.Errorf("%s: counters %v, want %s", tt.name, d.Counters(), tt.counter)
		case tt.to != "" && (n != 1 || len(carrier.to) != 1 || carrier.to[0].String() != tt.to || !bytes.Equal(carrier.sent[0], tt.packet)):
			t.Errorf("%s: sent to %v, want %s", tt.name, carrier.to, tt.to)
		}
	}
}

func TestOpenHost(t *testing.T) {
	all := []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
	loopback := []netip.Prefix{netip.MustParsePrefix("127.7.0.0/16"), netip.MustParsePrefix("::1/128")}
	for _, tt := range []struct {
		host   string
		opened []netip.Prefix
		want   bool
	}{
		{"10.0.0.1", all, true}, {"fd00::1", all, true}, {"10.0.0.1", nil, false}, {"10.0.0.1", loopback, false},
		{"127.0.0.1", all, false}, {"::1", all, false}, {"127.7.0.1", loopback, true}, {"127.8.0.1", loopback, false}, {"::1", loopback, true},
		{"127.7.0.1", slices.Concat(all, loopback), true},
		{"0.0.0.0", all, false}, {"::", all, false}, {"224.0.0.1", all, false}, {"ff02::1", all, false}, {"255.255.255.255", all, false},
		{"::ffff:10.0.0.1", all, false}, {"::ffff:127.0.0.1", all, false}, {"::ffff:0.0.0.0", all, false},
	} {
		if got := OpenHost(tt.opened, netip.MustParseAddr(tt.host)); got != tt.want {
			t.Errorf("OpenHost(%v, %s) = %v", tt.opened, tt.host, got)
		}
	}
	if OpenHost(all, netip.Addr{}) {
		t.Error("no address is open")
	}
}

// SCMP requests are for a host and not for a program of it.
func TestDirectSendsRequestsToTheHost(t *testing.T) {
	d, carrier, _ := newTestDirect(t)
	for _, typ := range []byte{scmpEchoRequest, scmpEchoReply, scmpTracerouteRequest} {
		b, err := appendHeader(nil, directSelf, neighbor("10.0.7.1", 0), ProtocolSCMP, scmpEchoLen)
		if err != nil {
			t.Fatal(err)
		}
		d.WritePackets([][]byte{append(b, typ, 0, 0, 0, 0x0f, 0xa0, 0, 1)})
	}
	want := []netip.AddrPort{netip.MustParseAddrPort("10.0.7.1:30041"), netip.MustParseAddrPort("10.0.7.1:4000"), netip.MustParseAddrPort("10.0.7.1:30041")}
	if !slices.Equal(carrier.to, want) {
		t.Errorf("sent to %v, want %v", carrier.to, want)
	}
}

// Routers bring packets on paths, hosts that were opened only their own.
func TestDirectReceives(t *testing.T) {
	open, other := neighbor("10.0.7.1", 80), neighbor("10.0.7.2", 80)
	far := on(directSelf, oneLink(5, true).Reverse())
	stranger := neighbor("10.9.9.9", 80)
	foreign := open
	foreign.IA = farHost.IA
	ap := func(a Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(a.Host, port) }
	for _, tt := range []struct {
		name    string
		from    netip.AddrPort
		packet  []byte
		counter string // none: it enters
	}{
		{"from a router", router41, mustUDP(t, farHost, far), ""},
		{"from another router", router100, mustUDP(t, farHost, far), ""},
		{"from another port of a router", netip.AddrPortFrom(router41.Addr(), 30002), mustUDP(t, farHost, far), "foreign"},
		{"from a router without a path", router41, mustUDP(t, neighbor("10.0.0.1", 30001), directSelf), "foreign"},
		{"from an open host", ap(open, 80), mustUDP(t, open, directSelf), ""},
		{"from another port of an open host", ap(open, 30041), mustUDP(t, open, directSelf), ""},
		{"from an open host as another", ap(open, 80), mustUDP(t, other, directSelf), "foreign"},
		{"from an open host as one of another AS", ap(open, 80), mustUDP(t, foreign, directSelf), "foreign"},
		{"from an open host on a path", ap(open, 80), mustUDP(t, farHost, far), "foreign"},
		{"from a stranger", ap(stranger, 80), mustUDP(t, stranger, directSelf), "foreign"},
		{"from a stranger on a path", ap(stranger, 80), mustUDP(t, farHost, far), "foreign"},
		{"garbage of a stranger", ap(stranger, 80), []byte("garbage"), "foreign"},
		{"garbage of a router", router41, []byte("garbage"), "bad"},
		{"nothing of a router", router41, []byte{}, "bad"},
		{"a hint", router41, nil, "hints"},
	} {
		d, carrier, got := newTestDirect(t)
		if err := carrier.deliver([]netip.AddrPort{tt.from}, [][]byte{tt.packet}); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		switch {
		case tt.counter == "" && (len(*got) != 1 || !bytes.Equal((*got)[0], tt.packet)):
			t.Errorf("%s: got %x, counters %v", tt.name, *got, d.Counters())
		case tt.counter != "" && (len(*got) != 0 || d.Counters()[tt.counter] != 1):
			t.Errorf("%s: got %x, counters %v, want %s", tt.name, *got, d.Counters(), tt.counter)
		}
		if len(carrier.sent) != 0 {
			t.Errorf("%s: it was answered", tt.name)
		}
	}
}

func TestDirectKeepsTheOrderAndTheGood(t *testing.T) {
	d, carrier, got := newTestDirect(t)
	good := func(host string) []byte { return mustUDP(t, neighbor(host, 1), directSelf) }
	from := func(host string) netip.AddrPort { return netip.AddrPortFrom(netip.MustParseAddr(host), 1) }
	err := carrier.deliver([]netip.AddrPort{from("10.0.7.1"), from("10.1.1.1"), from("10.0.7.2")}, [][]byte{good("10.0.7.1"), good("10.1.1.1"), good("10.0.7.2")})
	if err != nil || len(*got) != 2 || !bytes.Equal((*got)[0], good("10.0.7.1")) || !bytes.Equal((*got)[1], good("10.0.7.2")) {
		t.Errorf("got %x, %v", *got, err)
	}
	d.SetRouters(nil)
	if n, err := d.WritePackets([][]byte{mustUDP(t, directSelf, on(farHost, oneLink(41, true))), mustUDP(t, directSelf, neighbor("10.0.7.1", 1))}); n != 1 || err != nil {
		t.Errorf("WritePackets = %d, %v after the routers are gone, want 1", n, err)
	}
	carrier.err = errors.New("broken")
	if _, err := d.WritePackets([][]byte{mustUDP(t, directSelf, neighbor("10.0.7.1", 1))}); !errors.Is(err, carrier.err) {
		t.Errorf("WritePackets = %v, want the carrier's error", err)
	}
	if err := d.Run(t.Context(), nil); !errors.Is(err, carrier.err) {
		t.Errorf("Run = %v, want the carrier's error", err)
	}
}

// The problem is that of the hop field by which the packet would leave.
func TestUnknownEgressPointsToTheHopField(t *testing.T) {
	crossing := mustPath(randomPath(newRand(1), 2, 2)).Append(nil)
	crossing[0], crossing[3] = 1, 0 // at the end of the first of two segments
	binary.BigEndian.PutUint32(crossing, 1<<24|2<<12|2<<6)
	crossing[metaLen] &^= infoConsDir | infoPeer
	crossing[metaLen+infoLen] = infoConsDir
	for _, tt := range []struct {
		name string
		path *Path
		code uint8
		hop  int
	}{
		{"first hop", oneLink(7, true), 50, metaLen + infoLen},
		{"first hop against construction", oneLink(7, false), 49, metaLen + infoLen},
		{"where segments cross", mustPath(crossing), 50, metaLen + 2*infoLen + 2*hopLen},
	} {
		p, err := ParsePacket(mustUDP(t, directSelf, on(farHost, tt.path)))
		if err != nil {
			t.Fatal(err)
		}
		code, pointer := p.UnknownEgress()
		if want := uint32(hostOffset + 8 + tt.hop); code != tt.code || pointer != want {
			t.Errorf("%s: code %d, pointer %d, want %d and %d", tt.name, code, pointer, tt.code, want)
		}
	}
}

// Whatever comes in: nothing enters but as described, and nothing panics, nor
// when it is sent out again.
func FuzzDirect(f *testing.F) {
	for _, b := range [][]byte{
		mustUDP(f, farHost, on(directSelf, oneLink(5, true))), mustUDP(f, neighbor("10.0.7.1", 80), directSelf),
		mustUDP(f, directSelf, on(farHost, mustPath(randomPath(newRand(3), 2, 3, 2)))), []byte("garbage"),
	} {
		f.Add(b, uint8(0))
		f.Add(b, uint8(2))
	}
	sources := []netip.AddrPort{router41, router100, netip.MustParseAddrPort("10.0.7.1:80"), netip.MustParseAddrPort("192.0.2.1:30001")}
	f.Fuzz(func(t *testing.T, b []byte, source uint8) {
		d, carrier, got := newTestDirect(t)
		from := sources[int(source)%len(sources)]
		if err := carrier.deliver([]netip.AddrPort{from}, [][]byte{b}); err != nil {
			t.Fatal(err)
		}
		p, err := ParsePacket(b)
		entered := len(*got) == 1
		switch {
		case entered && err != nil:
			t.Error("what is no packet entered")
		case entered && p.PathType() == PathEmpty && (p.SrcHost() != from.Addr() || p.SrcIA() != directIA || source%4 != 2):
			t.Errorf("%s entered as %s from %s", p.SrcHost(), p.SrcIA(), from)
		case entered && p.PathType() != PathEmpty && source%4 > 1:
			t.Errorf("a packet on a path entered from %s", from)
		}
		d.WritePackets([][]byte{b})
		for _, to := range carrier.to {
			if to != router41 && to != router100 && !OpenHost(openHosts, to.Addr()) {
				t.Errorf("sent to %s", to)
			}
		}
		if err == nil && p.PathType() == PathSCION {
			if _, pointer := p.UnknownEgress(); int(pointer) >= p.Len() {
				t.Errorf("pointer %d of %d bytes", pointer, p.Len())
			}
		}
	})
}

// A paper is a carrier that takes everything and keeps nothing.
type paper struct{ *sheet }

func (paper) WritePackets(_ []netip.AddrPort, packets [][]byte) (int, error) {
	return len(packets), nil
}

// directBurst is a batch of 45 packets each way.
func directBurst(t testing.TB) (write, receive func()) {
	d, carrier, _ := newTestDirect(t)
	d.cfg.Carrier = paper{carrier}
	if err := d.Run(t.Context(), func([][]byte) error { return nil }); err != nil {
		t.Fatal(err)
	}
	out := slices.Repeat([][]byte{mustUDP(t, directSelf, on(farHost, oneLink(41, true)))}, 45)
	in := slices.Repeat([][]byte{mustUDP(t, farHost, on(directSelf, oneLink(5, true)))}, 45)
	from := slices.Repeat([]netip.AddrPort{router41}, 45)
	return func() { d.WritePackets(out) }, func() { carrier.deliver(from, in) }
}

func TestDirectAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("pools forget under the race detector")
	}
	write, receive := directBurst(t)
	if n := testing.AllocsPerRun(100, write); n != 0 {
		t.Errorf("sending a batch allocates %v times", n)
	}
	if n := testing.AllocsPerRun(100, receive); n != 0 {
		t.Errorf("receiving a batch allocates %v times", n)
	}
}

func BenchmarkDirect(b *testing.B) {
	write, receive := directBurst(b)
	for name, f := range map[string]func(){"write": write, "receive": receive} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				f()
			}
		})
	}
}
