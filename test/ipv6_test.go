//go:build unix

package test

import (
	"net"
	"net/netip"
	"strings"
	"testing"
)

// Underlay, listeners and targets over IPv6, in the same ways.
func TestIPv6(t *testing.T) {
	t.Parallel()
	o := serveIPv6(t)
	tp := build(t, layout{host: "::1"})
	if !strings.HasPrefix(tp.exit.line(), "--exit "+isdAS+",[::1]:") || !strings.HasPrefix(tp.socks, "[::1]:") {
		t.Errorf("ready lines %q, %q", tp.exit.line(), tp.client.line())
	}
	w := connectSOCKS(t, tp.socks, o.addr)
	w.write("hello")
	w.wants("hello")
	w = connectHTTP(t, tp.http, o.addr)
	w.write("hello")
	w.wants("hello")
	carry(t, connectSOCKS(t, tp.socks, serveTCP(t, "[::1]:0", hashThenSend).addr), 4<<20)

	a := associate(t, tp.socks, "[::]:0")
	if a.relay.Addr() != netip.IPv6Loopback() {
		t.Errorf("the relay is at %v", a.relay)
	}
	a.exchange(datagram(serveUDP(t, "[::1]:0", same).addr, make([]byte, 9000)))
	a.exchange(datagram(udpEcho(t).addr, make([]byte, 9000)))

	// The other way to write the exit's address.
	exit := flagOf(tp.exit.line(), "--exit")
	ia, host, _ := strings.Cut(exit, ",")
	turned := "[" + ia + "," + strings.TrimPrefix(host, "[") // [IA,IP]:PORT
	c := tp.startClient("--exit", turned)
	connectSOCKS(t, listenerOf(c).socks, o.addr)

	tp.snap.kill()
	tp.refusesUntilBack(t)
	tp.restartSNAP()
	tp.serves(t)
}

func TestIPv6TargetsOverIPv4(t *testing.T) {
	t.Parallel()
	o := serveIPv6(t)
	tp := shared(t)
	w := connectSOCKS(t, tp.socks, o.addr)
	w.write("hello")
	w.wants("hello")
	a := associate(t, tp.socks, anywhere)
	a.exchange(datagram(serveUDP(t, "[::1]:0", same).addr, []byte("hello")))
}

// serveIPv6 is echoServer on IPv6.
func serveIPv6(t *testing.T) *origin {
	t.Helper()
	ln, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Skipf("no IPv6 on loopback: %v", err)
	}
	ln.Close()
	return serveTCP(t, "[::1]:0", echo)
}
