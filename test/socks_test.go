//go:build unix

package test

import (
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"testing"
)

func portNumber(t *testing.T, addr string) uint16 {
	t.Helper()
	n, err := strconv.ParseUint(portOf(addr), 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	return uint16(n)
}

func TestSOCKSConnectsToWhatIsAsked(t *testing.T) {
	t.Parallel()
	tp := shared(t)
	o := echoServer(t)
	port := portNumber(t, o.addr)
	mapped := netip.AddrPortFrom(netip.MustParseAddr("::ffff:127.0.0.1"), port)
	for _, tt := range []struct{ name, request string }{
		{"IPv4", request(cmdConnect, o.addr)},
		{"name", requestByName(cmdConnect, "localhost", port)},
		{"name in capitals", requestByName(cmdConnect, "LocalHost", port)},
		{"name with the dot of the root", requestByName(cmdConnect, "localhost.", port)},
		{"IPv4 as a name", requestByName(cmdConnect, "127.0.0.1", port)},
		{"IPv4 in IPv6", request(cmdConnect, mapped.String())},
		{"IPv4 in IPv6 as a name", requestByName(cmdConnect, "::ffff:127.0.0.1", port)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := dialWire(t, tp.socks)
			w.write(noAuthGreeting)
			w.wants(noAuthSelected)
			w.write(tt.request)
			w.wantsReply(repGranted)
			w.write("hello")
			w.wants("hello")
			w.CloseWrite()
			w.wantsEnd()
		})
	}
}

func TestSOCKSRepliesTellWhy(t *testing.T) {
	t.Parallel()
	tp := shared(t)
	o := echoServer(t)
	port := portNumber(t, o.addr)
	silent := silentPort(t)
	for _, tt := range []struct {
		name, request string
		want          byte
	}{
		{"private address", request(cmdConnect, "10.1.2.3:80"), repPolicy},
		{"metadata address", request(cmdConnect, "169.254.169.254:80"), repPolicy},
		{"unspecified address", request(cmdConnect, "0.0.0.0:"+portOf(o.addr)), repPolicy},
		{"unspecified IPv6 address", request(cmdConnect, "[::]:"+portOf(o.addr)), repPolicy},
		{"private IPv6 address", request(cmdConnect, "[fd00::1]:80"), repPolicy},
		{"private address in IPv6", requestByName(cmdConnect, "::ffff:10.1.2.3", 80), repPolicy},
		{"private address in NAT64", request(cmdConnect, "[64:ff9b::10.1.2.3]:80"), repPolicy},
		{"private address in 6to4", request(cmdConnect, "[2002:a01:203::1]:80"), repPolicy},
		{"private address as a name", requestByName(cmdConnect, "10.1.2.3", 80), repPolicy},
		{"no route", request(cmdConnect, noRoute+":80"), repNetwork},
		{"no such name", requestByName(cmdConnect, "nowhere.onion", 80), repHost},
		{"refused", request(cmdConnect, closedPort(t)), repRefused},
		{"refused by name", requestByName(cmdConnect, "localhost", portNumber(t, closedPort(t))), repRefused},
		{"no answer", request(cmdConnect, silent), repTimeout},
		{"BIND", request(cmdBind, o.addr), repCommand},
		{"unknown command", request(9, o.addr), repCommand},
		{"unknown address type", "\x05\x01\x00\x02\x7f\x00\x00\x01\x00\x50", repAddressType},
		{"zone", requestByName(cmdConnect, "fe80::1%eth0", 80), repAddressType},
		{"empty name", requestByName(cmdConnect, "", port), repFailure},
		{"NUL in name", requestByName(cmdConnect, "localhost\x00.example", port), repFailure},
		{"name of 254 bytes", requestByName(cmdConnect, strings.Repeat("a.", 127), port), repFailure},
		{"name of 255 bytes", requestByName(cmdConnect, strings.Repeat("a", 255), port), repFailure},
		{"port 0", request(cmdConnect, "127.0.0.1:0"), repFailure},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			// The stream ends after the reply: askSOCKS wants no reset.
			if got := askSOCKS(t, tp.socks, tt.request); got != tt.want {
				t.Errorf("REP %d, want %d", got, tt.want)
			}
		})
	}
	t.Cleanup(func() {
		if n := o.accepted.Load(); n != 0 {
			t.Errorf("the origin has got %d connections", n)
		}
	})
}

func TestSOCKSGreeting(t *testing.T) {
	t.Parallel()
	tp := shared(t)
	for _, tt := range []struct{ name, greeting, want string }{
		{"no method", "\x05\x00", "\x05\xff"},
		{"only passwords", passwordOffered, "\x05\xff"},
		{"only GSSAPI", "\x05\x01\x01", "\x05\xff"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := dialWire(t, tp.socks)
			w.write(tt.greeting)
			w.wants(tt.want)
			w.wantsEnd()
		})
	}
	t.Run("no authentication among others", func(t *testing.T) {
		w := dialWire(t, tp.socks)
		w.write("\x05\x04\x01\x02\x00\x80")
		w.wants(noAuthSelected)
	})
	t.Run("another version in the request", func(t *testing.T) {
		w := dialWire(t, tp.socks)
		w.write(noAuthGreeting)
		w.wants(noAuthSelected)
		w.write("\x04" + request(cmdConnect, "127.0.0.1:80")[1:])
		if rep, _ := w.reply(); rep == repGranted {
			t.Error("granted")
		}
		w.wantsEnd()
	})
}

func TestSOCKSByteByByte(t *testing.T) {
	t.Parallel()
	tp := shared(t)
	o := echoServer(t)
	w := dialWire(t, tp.socks)
	w.SetNoDelay(true)
	w.write(strings.Split(noAuthGreeting, "")...)
	w.wants(noAuthSelected)
	for _, b := range []byte(requestByName(cmdConnect, "localhost", portNumber(t, o.addr))) {
		w.write(string([]byte{b}))
	}
	w.wantsReply(repGranted)
	w.write("x")
	w.wants("x")
}

// What a client sends before it has read the reply belongs to the stream.
func TestSOCKSKeepsWhatIsReadAhead(t *testing.T) {
	t.Parallel()
	tp := shared(t)
	o := echoServer(t)
	for _, size := range []int{1, 5000, 300_000} {
		w := dialWire(t, tp.socks)
		payload := strings.Repeat("ahead", size/5+1)[:size]
		go io.WriteString(w.TCPConn, noAuthGreeting+request(cmdConnect, o.addr)+payload)
		w.wants(noAuthSelected)
		w.wantsReply(repGranted)
		w.wants(payload)
	}
}

// A client that says all it has to say and ends its side before it is answered
// gets its answer.
func TestSOCKSClientMayEndItsSideAhead(t *testing.T) {
	t.Parallel()
	tp := shared(t)
	o := echoServer(t)
	w := dialWire(t, tp.socks)
	w.write(noAuthGreeting + request(cmdConnect, o.addr) + "all of it")
	w.CloseWrite()
	w.wants(noAuthSelected)
	w.wantsReply(repGranted)
	w.wants("all of it")
	w.wantsEnd()
}

// A refused client that has more to say gets its reply and no reset.
func TestSOCKSRefusalArrives(t *testing.T) {
	t.Parallel()
	tp := shared(t)
	closed := closedPort(t)
	for range 20 {
		w := dialWire(t, tp.socks)
		w.write(noAuthGreeting + request(cmdConnect, closed) + strings.Repeat("more", 5000))
		w.wants(noAuthSelected)
		w.wantsReply(repRefused)
		w.wantsEnd()
	}
}

func TestSOCKSForwardCarriesToItsTarget(t *testing.T) {
	t.Parallel()
	o := echoServer(t)
	gone := closedPort(t)
	tp := shared(t)
	c := tp.startClient("--socks", "off", "--http", "off",
		"--forward", "0=localhost:"+portOf(o.addr), "--forward", "tcp:127.0.0.1:0="+gone)
	l := listenerOf(c)
	if len(l.forwards) != 2 || l.socks != "" || l.http != "" {
		t.Fatalf("ready line %q", c.line())
	}
	w := dialWire(t, l.forwards[0])
	w.write("through")
	w.CloseWrite()
	w.wants("through")
	w.wantsEnd()

	c2, err := net.Dial("tcp", l.forwards[1])
	if err == nil { // else the reset was quicker
		var n int
		if n, err = c2.Read(make([]byte, 1)); err == nil || err == io.EOF {
			t.Errorf("a forward to a closed port gives %d bytes and %v, want a reset", n, err)
		}
		c2.Close()
	}
}

func TestOneListenerSpeaksBoth(t *testing.T) {
	t.Parallel()
	tp := shared(t)
	if tp.socks != tp.http {
		t.Fatalf("listeners %s and %s, want one", tp.socks, tp.http)
	}
	c := tp.startClient("--socks", "0", "--http", "127.0.0.1:0")
	if l := listenerOf(c); l.socks == "" || l.http == "" {
		t.Errorf("ready line %q", c.line())
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	apart := ln.Addr().String()
	ln.Close()
	l := listenerOf(tp.startClient("--socks", "0", "--http", apart))
	if l.socks == l.http {
		t.Errorf("listeners of different addresses are one: %s", l.socks)
	}
	o := echoServer(t)
	for _, proxy := range []string{l.socks, l.http} { // each speaks both
		connectSOCKS(t, proxy, o.addr)
		connectHTTP(t, proxy, o.addr)
	}
}
