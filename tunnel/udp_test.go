package tunnel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"
)

var loopbacks = []struct{ name, addr, other string }{
	{"v4", "127.0.0.1:0", "127.0.0.2"},
	{"v6", "[::1]:0", ""},
}

func TestUDPBurstsArriveWholeAndInOrder(t *testing.T) {
	for _, tt := range loopbacks {
		for _, limit := range []int{0, 9216, 100} {
			t.Run(fmt.Sprintf("%s/%d", tt.name, limit), func(t *testing.T) {
				a := listenUDP(t, tt.addr, UDPConfig{CoalesceLimit: limit})
				b := listenUDP(t, tt.addr, UDPConfig{})
				got := runUDP(t, b)
				// Runs of equal size, smaller ends, larger ones behind, empty ones, and
				// more than fit one call.
				var want [][]byte
				for i, n := range []int{1200, 1200, 1200, 700, 1300, 1300, 0, 0, 1, 1, 1, 9000, 60000, 5} {
					want = append(want, bytes.Repeat([]byte{byte(i)}, n))
				}
				for i := range 150 {
					want = append(want, bytes.Repeat([]byte{byte(i)}, 512))
				}
				if n, err := a.WritePackets(repeat(b.LocalAddr(), len(want)), want); n != len(want) || err != nil {
					t.Fatalf("WritePackets = %d, %v, want %d", n, err, len(want))
				}
				for i, w := range want {
					d := <-got
					if d.from != a.LocalAddr() {
						t.Fatalf("datagram %d is from %v, want %v", i, d.from, a.LocalAddr())
					}
					if !bytes.Equal(d.packet, w) || d.packet == nil {
						t.Fatalf("datagram %d has %d bytes (nil %t), want %d", i, len(d.packet), d.packet == nil, len(w))
					}
				}
				if c := b.Counters(); c["received"] != uint64(len(want)) || c["receive_truncated"] != 0 {
					t.Errorf("counters %v, want %d received", c, len(want))
				}
			})
		}
	}
}

func TestUDPToManyAddressesAtOnce(t *testing.T) {
	a := listenUDP(t, "127.0.0.1:0", UDPConfig{})
	var (
		socks []*UDP
		got   []<-chan datagram
		to    []netip.AddrPort
		bytes [][]byte
	)
	for range 3 {
		b := listenUDP(t, "127.0.0.1:0", UDPConfig{})
		socks, got = append(socks, b), append(got, runUDP(t, b))
	}
	for i := range 90 {
		to = append(to, socks[i/2%3].LocalAddr())
		bytes = append(bytes, []byte{byte(i)})
	}
	if n, err := a.WritePackets(to, bytes); n != 90 || err != nil {
		t.Fatalf("WritePackets = %d, %v, want 90", n, err)
	}
	for i := range 90 {
		if d := <-got[i/2%3]; d.packet[0] != byte(i) {
			t.Fatalf("got datagram %d, want %d", d.packet[0], i)
		}
	}
}

func TestUDPLocalAddrIsExactAndUnmapped(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0", "0.0.0.0:0", "[::]:0", "[::ffff:127.0.0.1]:0"} {
		want := netip.MustParseAddrPort(addr).Addr().Unmap()
		if got := listenUDP(t, addr, UDPConfig{}).LocalAddr(); got.Addr() != want || got.Port() == 0 {
			t.Errorf("listening on %s gave %v", addr, got)
		}
	}
	taken := listenUDP(t, "127.0.0.1:0", UDPConfig{}).LocalAddr()
	if u, err := ListenUDP(taken, UDPConfig{}); err == nil {
		u.Close()
		t.Error("a port was bound twice")
	}
	if _, err := ListenUDP(netip.AddrPort{}, UDPConfig{}); err == nil {
		t.Error("listening on no address succeeded")
	}
}

func TestUDPDualStack(t *testing.T) {
	b := listenUDP(t, "[::]:0", UDPConfig{})
	got := runUDP(t, b)
	for _, addr := range []string{"127.0.0.1", "::1"} {
		ip := netip.MustParseAddr(addr)
		a := listenUDP(t, netip.AddrPortFrom(ip, 0).String(), UDPConfig{})
		back := runUDP(t, a)
		send(t, a, netip.AddrPortFrom(ip, b.LocalAddr().Port()), "ask")
		d := <-got
		if d.from != a.LocalAddr() {
			t.Errorf("seen as %v, want %v", d.from, a.LocalAddr())
		}
		send(t, b, d.from, "answer")
		if d := <-back; d.from.Addr() != ip || string(d.packet) != "answer" {
			t.Errorf("%q from %v, want the answer from %v", d.packet, d.from, ip)
		}
	}
}

func TestUDPDropsWhatCannotBeSent(t *testing.T) {
	a, b := listenUDP(t, "127.0.0.1:0", UDPConfig{}), listenUDP(t, "127.0.0.1:0", UDPConfig{})
	got := runUDP(t, b)
	large := make([]byte, 66000)
	n, err := a.WritePackets(
		repeat(b.LocalAddr(), 3), [][]byte{large, large, []byte("after")})
	if n != 1 || err != nil {
		t.Errorf("WritePackets = %d, %v, want 1, nil", n, err)
	}
	if d := <-got; string(d.packet) != "after" {
		t.Errorf("got %d bytes, want what stood behind", len(d.packet))
	}
	if c := a.Counters(); c["send_too_large"] != 2 {
		t.Errorf("send_too_large = %d, want 2", c["send_too_large"])
	}
}

func TestUDPClosed(t *testing.T) {
	u := listenUDP(t, "127.0.0.1:0", UDPConfig{})
	done := make(chan error)
	go func() { done <- u.Run(t.Context(), nil) }()
	if err := u.Close(); err != nil {
		t.Error(err)
	}
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Run = %v, want net.ErrClosed", err)
	}
	if _, err := u.WritePackets(repeat(u.LocalAddr(), 1), [][]byte{{1}}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("WritePackets = %v, want net.ErrClosed", err)
	}
	if err := u.Run(t.Context(), nil); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Run again = %v, want net.ErrClosed", err)
	}
}

func TestUDPRunEndsWithItsContextAndRunsAgain(t *testing.T) {
	u := listenUDP(t, "127.0.0.1:0", UDPConfig{})
	for range 3 {
		ctx, cancel := context.WithCancel(t.Context())
		send(t, u, u.LocalAddr(), "self")
		err := u.Run(ctx, func(_ []netip.AddrPort, packets [][]byte) error {
			if string(packets[0]) != "self" {
				t.Errorf("got %q", packets[0])
			}
			cancel()
			return nil
		})
		if err != nil {
			t.Errorf("Run = %v, want nil", err)
		}
	}
	want := errors.New("enough")
	send(t, u, u.LocalAddr(), "self")
	if err := u.Run(t.Context(), func([]netip.AddrPort, [][]byte) error { return want }); !errors.Is(err, want) {
		t.Errorf("Run = %v, want %v", err, want)
	}
}

type datagram struct {
	from   netip.AddrPort
	packet []byte
}

func listenUDP(tb testing.TB, addr string, cfg UDPConfig) *UDP {
	tb.Helper()
	u, err := ListenUDP(netip.MustParseAddrPort(addr), cfg)
	if err != nil {
		tb.Skipf("no socket on %s: %v", addr, err)
	}
	tb.Cleanup(func() { u.Close() })
	return u
}

// runUDP receives copies in the background until the test ends.
func runUDP(tb testing.TB, u *UDP) <-chan datagram {
	got := make(chan datagram, 4096)
	done := make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer close(done)
		u.Run(ctx, func(from []netip.AddrPort, packets [][]byte) error {
			for i, p := range packets {
				if p != nil {
					p = append([]byte{}, p...)
				}
				got <- datagram{from[i], p}
			}
			return nil
		})
	}()
	tb.Cleanup(func() { cancel(); <-done })
	return got
}

func send(tb testing.TB, u *UDP, to netip.AddrPort, packet string) {
	tb.Helper()
	if n, err := u.WritePackets([]netip.AddrPort{to}, [][]byte{[]byte(packet)}); n != 1 || err != nil {
		tb.Fatalf("WritePackets to %v = %d, %v", to, n, err)
	}
}

func repeat[T any](v T, n int) []T {
	s := make([]T, n)
	for i := range s {
		s[i] = v
	}
	return s
}
