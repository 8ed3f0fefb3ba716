//go:build unix

package test

import (
	"bytes"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// An association is a SOCKS UDP association whose datagrams the test makes.
type association struct {
	t       *testing.T
	control *wire
	relay   netip.AddrPort // where the proxy expects the datagrams
	socket  *net.UDPConn
}

// associate asks for an association and opens a socket for it. said is the
// address that the client claims to send from.
func associate(t *testing.T, proxy, said string) *association {
	t.Helper()
	w := dialWire(t, proxy)
	w.write(noAuthGreeting)
	w.wants(noAuthSelected)
	w.write(request(cmdAssociate, said))
	a := &association{t: t, control: w, relay: w.wantsReply(repGranted)}
	a.socket = a.open(hostPort(w.LocalAddr().(*net.TCPAddr).IP.String(), "0"))
	return a
}

// anywhere is what a client says that does not know its address yet.
const anywhere = "0.0.0.0:0"

func (a *association) open(addr string) *net.UDPConn {
	a.t.Helper()
	c, err := net.ListenPacket("udp", addr)
	if err != nil {
		a.t.Fatal(err)
	}
	a.t.Cleanup(func() { c.Close() })
	return c.(*net.UDPConn)
}

// datagram frames a payload to a target (RFC 1928 §7).
func datagram(target string, payload []byte) []byte {
	return append(appendAddr([]byte{0, 0, 0}, target), payload...)
}

func datagramByName(name string, port uint16, payload []byte) []byte {
	return append(appendName([]byte{0, 0, 0}, name, port), payload...)
}

func (a *association) send(b []byte) {
	a.t.Helper()
	if _, err := a.socket.WriteToUDPAddrPort(b, a.relay); err != nil {
		a.t.Fatal(err)
	}
}

// receive returns the next datagram for the client, nil if none comes in time.
func (a *association) receive(wait time.Duration) []byte {
	a.t.Helper()
	buf := make([]byte, 64<<10)
	a.socket.SetReadDeadline(time.Now().Add(wait))
	n, from, err := a.socket.ReadFromUDPAddrPort(buf)
	if isTimeout(err) {
		return nil
	}
	if err != nil {
		a.t.Fatalf("receive: %v", err)
	}
	if netip.AddrPortFrom(from.Addr().Unmap(), from.Port()) != a.relay {
		a.t.Errorf("datagram from %v, want %v", from, a.relay)
	}
	return buf[:n]
}

// exchange sends a datagram until it comes back: datagrams may be lost.
func (a *association) exchange(b []byte) {
	a.t.Helper()
	for range 8 {
		a.send(b)
		if got := a.receive(patience / 8); got != nil {
			if !bytes.Equal(got, b) {
				a.t.Errorf("got %d bytes %.20x…, want %d bytes %.20x…", len(got), got, len(b), b)
			}
			return
		}
	}
	a.t.Errorf("datagram of %d bytes to %.20x does not come back", len(b), b)
}

// lost sends a datagram that must not come back: what is sent after it does.
func (a *association) lost(b []byte, beacon *udpOrigin) {
	a.t.Helper()
	a.send(b)
	a.exchange(datagram(beacon.addr, []byte("beacon")))
}

func TestUDPDatagramsStayWhole(t *testing.T) {
	t.Parallel()
	tp := shared(t)
	o := udpEcho(t)
	a := associate(t, tp.socks, anywhere)
	if a.relay.Addr() != netip.MustParseAddr("127.0.0.1") || a.relay.Port() == 0 {
		t.Errorf("the relay is at %v, want the address of the TCP connection", a.relay)
	}
	port := portNumber(t, o.addr)
	for _, size := range []int{0, 1, 1200, 1400, 9000, 60000, 65000} {
		payload := bytes.Repeat([]byte{byte(size)}, size)
		a.exchange(datagram(o.addr, payload))
		a.exchange(datagramByName("localhost", port, payload)) // comes back under its name
	}
	a.exchange(datagramByName("127.0.0.1", port, []byte("address as a name")))
	a.exchange(datagram("[::ffff:127.0.0.1]:"+portOf(o.addr), []byte("mapped")))
}

func TestUDPDropsWhatIsNotInOrder(t *testing.T) {
	t.Parallel()
	tp := shared(t)
	beacon, strange := udpEcho(t), udpEcho(t)
	a := associate(t, tp.socks, anywhere)
	for name, b := range map[string][]byte{
		"fragment":       append([]byte{0, 0, 1}, datagram(strange.addr, []byte("x"))[3:]...),
		"last fragment":  append([]byte{0, 0, 0x81}, datagram(strange.addr, []byte("x"))[3:]...),
		"reserved":       append([]byte{0, 1, 0}, datagram(strange.addr, []byte("x"))[3:]...),
		"address type":   {0, 0, 0, 2, 127, 0, 0, 1, 0, 80, 'x'},
		"empty":          {},
		"truncated":      datagram(strange.addr, nil)[:8],
		"empty name":     datagramByName("", 80, []byte("x")),
		"no such name":   datagramByName("nowhere.onion", 80, []byte("x")),
		"port 0":         datagram("127.0.0.1:0", []byte("x")),
		"policy":         datagram("10.1.2.3:53", []byte("x")),
		"policy in IPv6": datagram("[64:ff9b::10.1.2.3]:53", []byte("x")),
		"no route":       datagram(noRoute+":9", []byte("x")),
		"closed port":    datagram(closedUDP(t), []byte("x")),
	} {
		a.lost(b, beacon)
		if t.Failed() {
			t.Fatalf("after a datagram with: %s", name)
		}
	}
	if n := strange.received.Load(); n != 0 {
		t.Errorf("%d datagrams have passed", n)
	}
}

// closedUDP is an address that answers datagrams with an ICMP error.
func closedUDP(t *testing.T) string {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.LocalAddr().String()
}

// The client is who has the TCP connection: by its address, and by the port
// from which it sends first.
func TestUDPTakesOnlyTheClients(t *testing.T) {
	t.Parallel()
	tp := shared(t)
	beacon, victim := udpEcho(t), udpEcho(t)
	a := associate(t, tp.socks, anywhere)
	elsewhere := a.open("127.0.0.2:0")
	if _, err := elsewhere.WriteToUDPAddrPort(datagram(victim.addr, []byte("x")), a.relay); err != nil {
		t.Skipf("a second loopback address: %v", err)
	}
	a.exchange(datagram(beacon.addr, []byte("first"))) // and now the port is known
	other := a.open("127.0.0.1:0")
	other.WriteToUDPAddrPort(datagram(victim.addr, []byte("x")), a.relay)
	a.exchange(datagram(beacon.addr, []byte("second")))
	if n := victim.received.Load(); n != 0 {
		t.Errorf("%d datagrams of others have passed", n)
	}
}

func TestUDPPortMayBeSaidAhead(t *testing.T) {
	t.Parallel()
	tp := shared(t)
	beacon, victim := udpEcho(t), udpEcho(t)
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	a := associate(t, tp.socks, c.LocalAddr().String())
	a.send(datagram(victim.addr, []byte("x"))) // from another port than was said
	a.socket = c.(*net.UDPConn)
	a.exchange(datagram(beacon.addr, []byte("said")))
	if n := victim.received.Load(); n != 0 {
		t.Errorf("%d datagrams of another port have passed", n)
	}
}

// Only targets may answer, each for itself.
func TestUDPAnswersComeFromTargets(t *testing.T) {
	t.Parallel()
	tp := shared(t)
	beacon := udpEcho(t)
	stranger, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	target, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	a := associate(t, tp.socks, anywhere)
	a.send(datagram(target.LocalAddr().String(), []byte("x")))
	target.SetReadDeadline(time.Now().Add(patience))
	_, exit, err := target.ReadFrom(make([]byte, 10))
	if err != nil {
		t.Fatal(err)
	}
	stranger.WriteTo([]byte("unasked"), exit)
	a.exchange(datagram(beacon.addr, []byte("beacon")))
	target.WriteTo([]byte("late"), exit)
	if got, want := a.receive(patience), datagram(target.LocalAddr().String(), []byte("late")); !bytes.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// An association ends with its TCP connection, and not before.
func TestUDPEndsWithTheTCPConnection(t *testing.T) {
	t.Parallel()
	tp := shared(t)
	beacon := udpEcho(t)
	for _, end := range []func(*wire){
		func(w *wire) { w.Close() },
		func(w *wire) { w.CloseWrite() },
		func(w *wire) { w.SetLinger(0); w.Close() },
	} {
		a := associate(t, tp.socks, anywhere)
		a.exchange(datagram(beacon.addr, []byte("alive")))
		end(a.control)
		if !eventually(patience, func() bool {
			c, err := net.ListenPacket("udp", a.relay.String())
			if err == nil {
				c.Close()
			}
			return err == nil
		}) {
			t.Error("the socket of an association outlives it")
		}
	}
}

// More targets than an association keeps: the newest stay.
func TestUDPTargetsAreLimited(t *testing.T) {
	t.Parallel()
	tp := shared(t)
	a := associate(t, tp.socks, anywhere)
	for range 300 {
		a.exchange(datagram(udpEcho(t).addr, []byte("x")))
		if t.Failed() {
			return
		}
	}
}

func TestUDPCarriesDNS(t *testing.T) {
	t.Parallel()
	tp := shared(t)
	server := serveUDP(t, "127.0.0.1:0", func(b []byte) []byte {
		q := new(dns.Msg)
		if q.Unpack(b) != nil {
			return nil
		}
		m := new(dns.Msg)
		m.SetReply(q)
		for i := range 200 { // an answer of several kilobytes
			m.Answer = append(m.Answer, &dns.A{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET}, A: net.IPv4(192, 0, 2, byte(i))})
		}
		b, _ = m.Pack()
		return b
	})
	q := new(dns.Msg)
	q.SetQuestion("many.example.", dns.TypeA)
	packed, err := q.Pack()
	if err != nil {
		t.Fatal(err)
	}
	a := associate(t, tp.socks, anywhere)
	sent := datagram(server.addr, packed)
	head := len(sent) - len(packed)
	var got []byte
	for tries := 0; got == nil && tries < 8; tries++ {
		a.send(sent)
		got = a.receive(patience / 8)
	}
	m := new(dns.Msg)
	if len(got) < head || !bytes.Equal(got[:head], sent[:head]) || m.Unpack(got[head:]) != nil || len(m.Answer) != 200 {
		t.Errorf("answer of %d bytes with %d records", len(got), len(m.Answer))
	}
}

// What cannot come back whole does not come back at all.
func TestUDPNeverTruncates(t *testing.T) {
	t.Parallel()
	tp := shared(t)
	beacon := udpEcho(t)
	o := serveUDP(t, "127.0.0.1:0", func([]byte) []byte { return make([]byte, 65507) }) // no room for a header
	a := associate(t, tp.socks, anywhere)
	a.lost(datagram(o.addr, []byte("x")), beacon)
}
