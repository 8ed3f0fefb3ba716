package netstack

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"
)

var strangerAddr = netip.MustParseAddr("2001:db8::bad")

// packet makes an IPv6 packet with the right length, and for ICMPv6 the right
// checksum.
func packet(from, to netip.Addr, protocol byte, payload ...byte) []byte {
	b := make([]byte, ipv6HeaderLen, ipv6HeaderLen+len(payload))
	putIPv6(b, protocol, len(payload))
	src, dst := from.As16(), to.As16()
	copy(b[8:], src[:])
	copy(b[24:], dst[:])
	b = append(b, payload...)
	if protocol == protoICMP && len(payload) >= icmpHeaderLen {
		putChecksum(b, protoICMP, 2)
	}
	return b
}

// icmp makes an ICMPv6 message.
func icmp(typ, code byte, word uint32, body []byte) []byte {
	return append([]byte{typ, code, 0, 0, byte(word >> 24), byte(word >> 16), byte(word >> 8), byte(word)}, body...)
}

// An observed stack hands out what it sends.
type observed struct {
	*Stack
	out chan []byte
}

func observe(t testing.TB, cfg Config) observed {
	t.Helper()
	near, far := newPair(1312)
	far.peer = nil
	o := observed{out: make(chan []byte, 1000)}
	near.filter = func(b []byte) bool { o.out <- bytes.Clone(b); return false }
	cfg.Link = near
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	o.Stack = s
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		close(o.out)
	})
	return o
}

// answer returns what the stack sends after b and before the answer to a ping,
// which is sent next.
func (o observed) answer(b []byte) (packets [][]byte) {
	o.deliver([][]byte{b, packet(strangerAddr, o.Addr(), protoICMP, icmp(icmpEchoRequest, 0, 0xbeef, nil)...)})
	for b := range o.out {
		if b[6] == protoICMP && b[40] == icmpEchoReply && be32(b[44:]) == 0xbeef {
			break
		}
		packets = append(packets, b)
	}
	return packets
}

func TestInboundDropsByReason(t *testing.T) {
	tcp := tcpPacket{flags: flagSYN}.headers()[40:]
	udp := udpPacket(farPort, netip.AddrPortFrom(clientAddr, 7), []byte("x"))[40:]
	quote := udpPacket(netip.AddrPortFrom(clientAddr, 1), farPort, nil)
	fragment := func(next byte) []byte { return append([]byte{next, 0, 0, 0, 0, 0, 0, 1}, make([]byte, 16)...) }
	neighbour := func(typ byte) []byte {
		return packet(strangerAddr, clientAddr, protoICMP, icmp(typ, 0, 0, make([]byte, 16))...)
	}
	edit := func(b []byte, change func(b []byte)) []byte {
		b = bytes.Clone(b)
		change(b)
		return b
	}
	good := packet(farAddr, clientAddr, protoTCP, tcp...)
	for _, tt := range []struct {
		name   string
		b      []byte
		reason string
	}{
		{"empty", []byte{}, "in_malformed"},
		{"short", good[:39], "in_malformed"},
		{"IPv4", edit(good, func(b []byte) { b[0] = 0x45 }), "in_malformed"},
		{"version 0", edit(good, func(b []byte) { b[0] = 0 }), "in_malformed"},
		{"version 15", edit(good, func(b []byte) { b[0] = 0xf0 }), "in_malformed"},
		{"cut off", good[:len(good)-1], "in_malformed"},
		{"no payload", packet(farAddr, clientAddr, protoTCP), "in_malformed"},
		{"short TCP", packet(farAddr, clientAddr, protoTCP, tcp[:19]...), "in_malformed"},
		{"TCP offset too small", edit(good, func(b []byte) { b[52] = 4 << 4 }), "in_malformed"},
		{"TCP offset too large", edit(good, func(b []byte) { b[52] = 15 << 4 }), "in_malformed"},
		{"short UDP", packet(farAddr, clientAddr, protoUDP, udp[:7]...), "in_malformed"},
		{"UDP length too small", packet(farAddr, clientAddr, protoUDP, edit(udp, func(b []byte) { b[5] = 7 })...), "in_malformed"},
		{"UDP length too large", packet(farAddr, clientAddr, protoUDP, edit(udp, func(b []byte) { b[5] = 99 })...), "in_malformed"},
		{"short ICMP", packet(farAddr, clientAddr, protoICMP, 1, 0, 0, 0), "in_malformed"},
		{"ICMP checksum", edit(neighbour(135), func(b []byte) { b[42]++ }), "in_malformed"},
		{"ICMP error without quote", packet(farAddr, clientAddr, protoICMP, icmp(1, 4, 0, quote[:47])...), "in_malformed"},
		{"our own source", packet(clientAddr, clientAddr, protoTCP, tcp...), "in_own_source"},
		{"multicast source", packet(netip.MustParseAddr("ff02::1"), clientAddr, protoTCP, tcp...), "in_bad_source"},
		{"no source", packet(netip.IPv6Unspecified(), clientAddr, protoTCP, tcp...), "in_bad_source"},
		{"multicast", packet(farAddr, netip.MustParseAddr("ff02::1"), protoUDP, udp...), "in_multicast"},
		{"no destination", packet(farAddr, netip.IPv6Unspecified(), protoTCP, tcp...), "in_bad_destination"},
		{"not ours", packet(farAddr, strangerAddr, protoTCP, tcp...), "in_not_ours"},
		{"hop-by-hop options", packet(farAddr, clientAddr, 0, append([]byte{protoTCP, 0, 1, 4, 0, 0, 0, 0}, tcp...)...), "in_extension_header"},
		{"routing header", packet(farAddr, clientAddr, 43, append([]byte{protoTCP, 0, 0, 0, 0, 0, 0, 0}, tcp...)...), "in_extension_header"},
		{"TCP in a fragment", packet(farAddr, clientAddr, protoFragment, fragment(protoTCP)...), "in_extension_header"},
		{"ICMP in a fragment", packet(farAddr, clientAddr, protoFragment, fragment(protoICMP)...), "in_extension_header"},
		{"short fragment", packet(farAddr, clientAddr, protoFragment, protoUDP, 0, 0, 0), "in_malformed"},
		{"SCTP", packet(farAddr, clientAddr, 132, make([]byte, 40)...), "in_protocol"},
		{"multicast listener query", neighbour(130), "in_neighbour_or_router"},
		{"router solicitation", neighbour(133), "in_neighbour_or_router"},
		{"router advertisement", neighbour(134), "in_neighbour_or_router"},
		{"neighbour solicitation", neighbour(135), "in_neighbour_or_router"},
		{"neighbour advertisement", neighbour(136), "in_neighbour_or_router"},
		{"redirect", neighbour(137), "in_neighbour_or_router"},
		{"echo reply", neighbour(129), "in_icmp_other"},
		{"error from a third party", packet(strangerAddr, clientAddr, protoICMP, icmp(1, 4, 0, quote)...), "in_icmp_forged"},
		{"error about a packet of somebody else", packet(farAddr, clientAddr, protoICMP,
			icmp(1, 4, 0, udpPacket(netip.AddrPortFrom(strangerAddr, 1), farPort, nil))...), "in_icmp_forged"},
		{"error about nothing of ours", packet(farAddr, clientAddr, protoICMP, icmp(1, 4, 0, quote)...), "in_icmp_unmatched"},
		{"parameter problem", packet(farAddr, clientAddr, protoICMP, icmp(4, 0, 0, quote)...), "in_icmp_unmatched"},
		{"packet too big", packet(farAddr, clientAddr, protoICMP, icmp(2, 0, 1280, quote)...), "in_icmp_unmatched"},
		{"packet too big below 1280", packet(farAddr, clientAddr, protoICMP, icmp(2, 0, 1279, quote)...), "in_packet_too_big_below_1280"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := observe(t, Config{Addr: clientAddr})
			if got := o.answer(tt.b); len(got) != 0 {
				t.Errorf("answered with %x", got)
			}
			for name, n := range o.Counters() {
				want := uint64(0)
				switch name {
				case tt.reason:
					want = 1
				case "in_packets":
					want = 2
				case "out_packets":
					continue // counted after the link has it
				}
				if n != want {
					t.Errorf("%s = %d, want %d", name, n, want)
				}
			}
		})
	}
}

func TestPaddingIsCut(t *testing.T) {
	o := observe(t, Config{Addr: clientAddr})
	c, err := o.ListenUDP(7)
	if err != nil {
		t.Fatal(err)
	}
	o.deliver([][]byte{append(udpPacket(farPort, netip.AddrPortFrom(clientAddr, 7), []byte("data")), 0, 0, 0)})
	buf := make([]byte, 10)
	if n, err := c.Read(buf); err != nil || string(buf[:n]) != "data" {
		t.Errorf("read %q, %v", buf[:n], err)
	}
}

func TestPingIsAnsweredForTheOwnAddressOnly(t *testing.T) {
	o := observe(t, Config{Addr: exitAddr, TCP: func(f *TCPFlow) {}, UDP: func(f *UDPFlow) {}})
	ping := func(to netip.Addr) []byte {
		return packet(clientAddr, to, protoICMP, icmp(icmpEchoRequest, 0, 0x10001, []byte("payload"))...)
	}
	got := o.answer(ping(exitAddr))
	if want := packet(exitAddr, clientAddr, protoICMP, icmp(icmpEchoReply, 0, 0x10001, []byte("payload"))...); len(got) != 1 || !bytes.Equal(got[0], want) {
		t.Errorf("ping answered with %x, want %x", got, want)
	}
	if got := o.answer(ping(farAddr)); len(got) != 0 {
		t.Errorf("ping of another address answered with %x", got)
	}
	if n := o.Counters()["in_echo_not_ours"]; n != 1 {
		t.Errorf("in_echo_not_ours = %d, want 1", n)
	}
}

func TestRefusalMustQuoteTheSYN(t *testing.T) {
	o := observe(t, Config{Addr: clientAddr})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	errs := make(chan error, 1)
	go func() {
		_, err := o.DialTCP(ctx, farPort)
		errs <- err
	}()
	syn := <-o.out
	refusal := func(from netip.Addr, change func(quote []byte)) []byte {
		quote := bytes.Clone(syn)
		if change != nil {
			change(quote)
		}
		return packet(from, clientAddr, protoICMP, icmp(1, codeProhibited, 0, quote)...)
	}
	o.deliver([][]byte{
		refusal(strangerAddr, nil),
		refusal(farAddr, func(q []byte) { q[47]++ }),                                        // sequence number
		refusal(farAddr, func(q []byte) { q[41]++ }),                                        // source port
		refusal(farAddr, func(q []byte) { q[43]++ }),                                        // destination port
		refusal(farAddr, func(q []byte) { q[6] = protoUDP }),                                // protocol
		refusal(farAddr, func(q []byte) { copy(q[24:40], bytes.Repeat([]byte{0x20}, 16)) }), // destination
		packet(farAddr, clientAddr, protoICMP, icmp(icmpTooBig, 0, 1000, syn)...),
		packet(farAddr, clientAddr, protoICMP, icmp(icmpParameter, 0, 0, syn)...),
	})
	select {
	case err := <-errs:
		t.Fatalf("dial ended by a forged error: %v", err)
	default:
	}
	for name, want := range map[string]uint64{"in_icmp_forged": 2, "in_icmp_unmatched": 5, "in_packet_too_big_below_1280": 1, "dials_refused_by_icmp": 0} {
		if got := o.Counters()[name]; got != want {
			t.Errorf("%s = %d, want %d", name, got, want)
		}
	}
	o.deliver([][]byte{refusal(farAddr, nil)[:ipv6HeaderLen+icmpHeaderLen+ipv6HeaderLen+7]}) // cut off
	o.deliver([][]byte{refusal(farAddr, nil)})
	if err := <-errs; !errors.Is(err, syscall.EACCES) {
		t.Errorf("dial = %v, want EACCES", err)
	}
}

func TestEstablishedConnectionHeedsNoICMP(t *testing.T) {
	var fromClient []byte
	p := startPair(t, 1312, Config{TCP: acceptAnd(t, func(c *TCPConn) { echo(c) })}, func(p *pair) {
		p.clientLink.filter = func(b []byte) bool {
			if fromClient == nil {
				fromClient = bytes.Clone(b)
			}
			return true
		}
	})
	c := dial(t, p, farPort)
	for _, message := range [][]byte{icmp(1, 0, 0, fromClient), icmp(1, 4, 0, fromClient), icmp(2, 0, 576, fromClient), icmp(2, 0, 1280, fromClient), icmp(3, 0, 0, fromClient)} {
		p.client.deliver([][]byte{packet(farAddr, clientAddr, protoICMP, message...)})
	}
	checkEcho(t, c, 100_000)
	if n := p.clientLink.sent.Load(); n > 1000 {
		t.Errorf("%d packets for 100 kB", n)
	}
}

func TestUDPErrorMustQuoteTheFlow(t *testing.T) {
	o := observe(t, Config{Addr: clientAddr})
	c, err := o.DialUDP(farPort)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.Write([]byte("x"))
	sent := <-o.out
	other := bytes.Clone(sent)
	other[41]++
	o.deliver([][]byte{
		packet(strangerAddr, clientAddr, protoICMP, icmp(1, 4, 0, sent)...),
		packet(farAddr, clientAddr, protoICMP, icmp(1, 4, 0, other)...),
	})
	c.SetReadDeadline(time.Unix(1, 0))
	if _, err := c.Read(nil); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read = %v, want a timeout", err)
	}
	o.deliver([][]byte{packet(farAddr, clientAddr, protoICMP, icmp(1, 4, 0, sent)...)})
	if _, err := c.Write(nil); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("write = %v, want ECONNREFUSED", err)
	}
	if _, err := c.Write(nil); err != nil {
		t.Errorf("second write = %v: an error is told once", err)
	}
}

func TestInboundMSSIsClamped(t *testing.T) {
	o := observe(t, Config{Addr: exitAddr})
	ln, err := o.ListenTCP(80)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	syn := packet(clientAddr, exitAddr, protoTCP, tcpPacket{flags: flagSYN, options: []byte{2, 4, 0xff, 0xff}}.headers()[40:]...)
	put16(syn[42:], 80)
	o.deliver([][]byte{syn})
	if got := be16(syn[62:]); got != 1252 {
		t.Errorf("MSS = %d, want 1252", got)
	}
	<-o.out // SYN-ACK
	if n := o.Counters()["mss_clamped"]; n != 1 {
		t.Errorf("mss_clamped = %d, want 1", n)
	}
}

func TestNothingIsSentUnasked(t *testing.T) {
	o := observe(t, Config{Addr: exitAddr, TCP: func(*TCPFlow) {}, UDP: func(*UDPFlow) {}})
	if got := o.answer(nil); len(got) != 0 {
		t.Errorf("sent %x", got)
	}
	for name, n := range o.Counters() {
		if n != 0 && name != "in_packets" && name != "in_malformed" && name != "out_packets" {
			t.Errorf("%s = %d, want 0", name, n)
		}
	}
}

// FuzzInbound delivers a batch: each packet is a length of two bytes and what
// follows.
func FuzzInbound(f *testing.F) {
	syn := packet(clientAddr, farAddr, protoTCP, tcpPacket{flags: flagSYN, options: []byte{2, 4, 5, 0}}.headers()[40:]...)
	data := packet(clientAddr, exitAddr, protoTCP, append(tcpPacket{flags: flagACK}.headers()[40:], "data"...)...)
	dgram := udpPacket(netip.AddrPortFrom(clientAddr, 1), farPort, []byte("x"))
	seeds := [][]byte{
		syn, data, dgram,
		packet(clientAddr, exitAddr, protoICMP, icmp(icmpEchoRequest, 0, 1, nil)...),
		packet(farAddr, exitAddr, protoICMP, icmp(1, 4, 0, udpPacket(netip.AddrPortFrom(exitAddr, 7), farPort, nil))...),
		packet(clientAddr, farAddr, protoFragment, append([]byte{protoUDP, 0, 0, 1, 0, 0, 0, 1}, dgram[40:]...)...),
	}
	for i := range seeds {
		f.Add(frame(seeds[i]))
		f.Add(append(frame(seeds[i]), frame(seeds[(i+1)%len(seeds)])...))
	}
	o := observe(f, Config{
		Addr: exitAddr,
		TCP:  func(f *TCPFlow) { f.Refuse(syscall.EACCES) },
		UDP:  func(f *UDPFlow) { f.Refuse(syscall.EHOSTUNREACH) },
	})
	if _, err := o.ListenUDP(7); err != nil {
		f.Fatal(err)
	}
	if _, err := o.ListenTCP(80); err != nil {
		f.Fatal(err)
	}
	go func() {
		for b := range o.out {
			if len(b) < 40 || b[0]>>4 != 6 || int(be16(b[4:]))+40 != len(b) || b[24] == 0xff {
				panic("sent a malformed packet")
			}
		}
	}()
	f.Fuzz(func(t *testing.T, in []byte) {
		var batch [][]byte
		for len(in) >= 2 {
			n := min(int(binary.BigEndian.Uint16(in)), len(in)-2)
			b := bytes.Clone(in[2 : 2+n])
			in = in[2+n:]
			if len(b) >= 48 && b[6] == protoICMP {
				put16(b[4:], uint16(len(b)-40))
				putChecksum(b, protoICMP, 2) // let it past the first check
			}
			batch = append(batch, b)
		}
		if err := o.deliver(batch); err != nil {
			t.Fatal(err)
		}
	})
}

func frame(b []byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)
}
