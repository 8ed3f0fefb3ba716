package tunnel

import (
	"bytes"
	"context"
	"log/slog"
	"net/netip"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

func TestUDPSegmentsAndCoalesces(t *testing.T) {
	a, b := listenUDP(t, "127.0.0.1:0", UDPConfig{}), listenUDP(t, "127.0.0.1:0", UDPConfig{})
	if !a.socket.segment.Load() || !b.socket.gro {
		t.Skip("the kernel has no UDP_SEGMENT or UDP_GRO")
	}
	packets := repeat(make([]byte, 1200), 100)
	if n, err := a.WritePackets(repeat(b.LocalAddr(), 100), packets); n != 100 || err != nil {
		t.Fatalf("WritePackets = %d, %v", n, err)
	}
	got := runUDP(t, b)
	for range 100 {
		<-got
	}
	if c := a.Counters(); c["send_calls"] != 1 || c["send_bursts"] != 2 {
		t.Errorf("%d calls and %d bursts, want 1 and 2", c["send_calls"], c["send_bursts"])
	}
	if calls := b.Counters()["receive_calls"]; calls > 3 {
		t.Errorf("%d calls to receive, want at most 3", calls)
	}
}

func TestUDPBurstLimit(t *testing.T) {
	a, b := listenUDP(t, "127.0.0.1:0", UDPConfig{CoalesceLimit: 9216}), listenUDP(t, "127.0.0.1:0", UDPConfig{})
	longest := 0
	system := a.socket.sendmmsg
	a.socket.sendmmsg = func(fd uintptr, messages []unix.Mmsghdr) (int, syscall.Errno) {
		for _, m := range messages {
			n := 0
			for _, v := range unsafe.Slice(m.Hdr.Iov, int(m.Hdr.Iovlen)) {
				n += int(v.Len)
			}
			longest = max(longest, n)
		}
		return system(fd, messages)
	}
	if n, err := a.WritePackets(repeat(b.LocalAddr(), 100), repeat(make([]byte, 1200), 100)); n != 100 || err != nil {
		t.Fatalf("WritePackets = %d, %v", n, err)
	}
	if longest > 9216 {
		t.Errorf("a burst has %d bytes, want at most 9216", longest)
	}
	a.SetCoalesceLimit(0)
	if n, err := a.WritePackets(repeat(b.LocalAddr(), 54), repeat(make([]byte, 1200), 54)); n != 54 || err != nil {
		t.Fatalf("WritePackets = %d, %v", n, err)
	}
	if longest != 54*1200 {
		t.Errorf("without the limit the longest burst has %d bytes, want %d", longest, 54*1200)
	}
}

func TestUDPWildcardAnswersFromTheAddressAsked(t *testing.T) {
	for _, wildcard := range []string{"0.0.0.0:0", "[::]:0"} {
		b := listenUDP(t, wildcard, UDPConfig{})
		got := runUDP(t, b)
		for _, asked := range []string{"127.0.0.5", "127.0.0.6", "127.0.0.5"} {
			a := listenUDP(t, "127.0.0.1:0", UDPConfig{})
			back := runUDP(t, a)
			to := netip.AddrPortFrom(netip.MustParseAddr(asked), b.LocalAddr().Port())
			send(t, a, to, "ask")
			d := <-got
			answer := repeat([]byte("answer"), 3) // a burst
			if n, err := b.WritePackets(repeat(d.from, 3), answer); n != 3 || err != nil {
				t.Fatalf("WritePackets = %d, %v", n, err)
			}
			for range 3 {
				if d := <-back; d.from != to || string(d.packet) != "answer" {
					t.Errorf("on %s: %q from %v, want the answer from %v", wildcard, d.packet, d.from, to)
				}
			}
		}
	}
}

func TestUDPForgetsAnAddressThatIsGone(t *testing.T) {
	a, b := listenUDP(t, "127.0.0.1:0", UDPConfig{}), listenUDP(t, "0.0.0.0:0", UDPConfig{})
	got := runUDP(t, a)
	// As if it had been ours when a asked there.
	b.socket.asked.note(a.LocalAddr(), netip.MustParseAddr("192.0.2.77"))
	if n, err := b.WritePackets(repeat(a.LocalAddr(), 2), [][]byte{{1}, {2}}); n != 2 || err != nil {
		t.Fatalf("WritePackets = %d, %v, want 2; counters %v", n, err, b.Counters())
	}
	for i := range 2 {
		if d := <-got; d.packet[0] != byte(i+1) {
			t.Errorf("got %d, want %d", d.packet[0], i+1)
		}
	}
}

func TestUDPAskedAddressesAreBounded(t *testing.T) {
	var asked askedAddrs
	local := netip.MustParseAddr("127.0.0.1")
	remote := func(i int) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 1)
	}
	regular := netip.MustParseAddrPort("192.0.2.1:1")
	for i := range 5 * maxAsked {
		asked.note(remote(i), local)
		if i%maxAsked == 0 {
			asked.note(regular, local)
		}
	}
	if n := len(asked.new) + len(asked.old); n > 2*maxAsked {
		t.Errorf("%d addresses are remembered, want at most %d", n, 2*maxAsked)
	}
	if asked.local(regular) != local {
		t.Error("one that asks regularly was forgotten")
	}
	if asked.local(remote(0)).IsValid() {
		t.Error("the oldest was not forgotten")
	}
}

func TestUDPHintWhenRefused(t *testing.T) {
	for _, tt := range loopbacks {
		t.Run(tt.name, func(t *testing.T) {
			a, gone := listenUDP(t, tt.addr, UDPConfig{}), listenUDP(t, tt.addr, UDPConfig{})
			alive := listenUDP(t, tt.addr, UDPConfig{})
			got := runUDP(t, alive)
			dead := gone.LocalAddr()
			gone.Close()
			hints := runUDP(t, a)
			for range 3 {
				send(t, a, dead, "anybody?")
				if d := <-hints; d.packet != nil || d.from != dead {
					t.Fatalf("got %q from %v, want a hint about %v", d.packet, d.from, dead)
				}
				// The error is not taken for one of another send.
				send(t, a, alive.LocalAddr(), "you")
				<-got
			}
			if n := a.Counters()["unreachable_hints"]; n != 3 {
				t.Errorf("%d hints counted, want 3", n)
			}
		})
	}
}

// TestUDPHintIsNotLostToASend is about an error that a send takes away before the
// receiver has seen it.
func TestUDPHintIsNotLostToASend(t *testing.T) {
	a, gone := listenUDP(t, "127.0.0.1:0", UDPConfig{}), listenUDP(t, "127.0.0.1:0", UDPConfig{})
	dead := gone.LocalAddr()
	gone.Close()
	for range 5 {
		send(t, a, dead, "anybody?") // the first brings an error, the others meet it
	}
	hints := runUDP(t, a)
	if d := <-hints; d.packet != nil || d.from != dead {
		t.Fatalf("got %q from %v, want a hint about %v", d.packet, d.from, dead)
	}
}

func TestUDPSegmentationRefused(t *testing.T) {
	for _, errno := range []syscall.Errno{unix.EIO, unix.EINVAL} {
		t.Run(unix.ErrnoName(errno), func(t *testing.T) {
			var log lines
			a := listenUDP(t, "127.0.0.1:0", UDPConfig{Logger: slog.New(slog.NewTextHandler(&log, nil))})
			b := listenUDP(t, "127.0.0.1:0", UDPConfig{})
			got := runUDP(t, b)
			segmented := refuseSegments(a, errno)
			if !a.socket.segment.Load() {
				t.Skip("the kernel has no UDP_SEGMENT")
			}
			for range 3 {
				var want [][]byte
				for i := range 40 {
					want = append(want, bytes.Repeat([]byte{byte(i)}, 1000))
				}
				want = append(want, []byte("short"), []byte("longer than that"))
				if n, err := a.WritePackets(repeat(b.LocalAddr(), len(want)), want); n != len(want) || err != nil {
					t.Fatalf("WritePackets = %d, %v, want %d", n, err, len(want))
				}
				for i, w := range want {
					if d := <-got; !bytes.Equal(d.packet, w) {
						t.Fatalf("datagram %d has %d bytes, want %d", i, len(d.packet), len(w))
					}
				}
			}
			if n := segmented.Load(); n != 1 {
				t.Errorf("%d segmented messages were tried, want 1", n)
			}
			if a.socket.segment.Load() {
				t.Error("the socket goes on segmenting")
			}
			if n := strings.Count(log.String(), "level=INFO"); n != 1 {
				t.Errorf("%d info lines, want 1:\n%s", n, log.String())
			}
		})
	}
}

// TestUDPOversizeIsNoFaultOfSegmentation: kernels say EINVAL to a burst of
// segments that do not fit the interface.
func TestUDPOversizeIsNoFaultOfSegmentation(t *testing.T) {
	a, b := listenUDP(t, "127.0.0.1:0", UDPConfig{}), listenUDP(t, "127.0.0.1:0", UDPConfig{})
	if !a.socket.segment.Load() {
		t.Skip("the kernel has no UDP_SEGMENT")
	}
	a.socket.sendmmsg = func(_ uintptr, messages []unix.Mmsghdr) (int, syscall.Errno) {
		if messages[0].Hdr.Iovlen > 1 {
			return 0, unix.EINVAL
		}
		return 0, unix.EMSGSIZE
	}
	n, err := a.WritePackets(repeat(b.LocalAddr(), 3), repeat(make([]byte, 2000), 3))
	if n != 0 || err != nil || a.Counters()["send_too_large"] != 3 {
		t.Errorf("WritePackets = %d, %v, too large %d, want 0, nil, 3", n, err, a.Counters()["send_too_large"])
	}
	if !a.socket.segment.Load() {
		t.Error("segmentation was turned off")
	}
}

func TestUDPNeverWaitsForRoom(t *testing.T) {
	for _, errno := range []syscall.Errno{unix.EAGAIN, unix.ENOBUFS} {
		a := listenUDP(t, "127.0.0.1:0", UDPConfig{})
		a.socket.sendmmsg = func(uintptr, []unix.Mmsghdr) (int, syscall.Errno) { return 0, errno }
		to := repeat(a.LocalAddr(), 3)
		n, err := a.WritePackets(to, [][]byte{{1}, {2, 2}, {3}})
		if n != 0 || err != nil || a.Counters()["send_buffer_full"] != 3 {
			t.Errorf("%v: WritePackets = %d, %v, %d counted, want 0, nil, 3", errno, n, err, a.Counters()["send_buffer_full"])
		}
	}
}

func TestUDPErrorsInTheMiddleHarmNobodyElse(t *testing.T) {
	a, b := listenUDP(t, "127.0.0.1:0", UDPConfig{}), listenUDP(t, "127.0.0.1:0", UDPConfig{})
	got := runUDP(t, b)
	v6 := netip.MustParseAddrPort("[2001:db8::1]:1")
	nowhere := netip.MustParseAddrPort("127.0.0.1:0") // EINVAL
	to := []netip.AddrPort{b.LocalAddr(), v6, nowhere, b.LocalAddr(), {}, b.LocalAddr()}
	n, err := a.WritePackets(to, [][]byte{{1}, {2}, {3}, {4}, {5}, {6}})
	if n != 3 || err != nil {
		t.Errorf("WritePackets = %d, %v, want 3", n, err)
	}
	for _, want := range []byte{1, 4, 6} {
		if d := <-got; d.packet[0] != want {
			t.Errorf("got %d, want %d", d.packet[0], want)
		}
	}
	if c := a.Counters(); c["send_family"] != 2 || c["send_errors"] != 1 {
		t.Errorf("send_family %d, send_errors %d, want 2, 1", c["send_family"], c["send_errors"])
	}
}

func TestUDPDoesNotAllocate(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	for _, tt := range append(loopbacks, struct{ name, addr, other string }{"wildcard", "0.0.0.0:0", ""}) {
		t.Run(tt.name, func(t *testing.T) {
			a := listenUDP(t, tt.addr, UDPConfig{})
			self := a.LocalAddr()
			if self.Addr().IsUnspecified() {
				self = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), self.Port())
			}
			to, packets := repeat(self, 50), repeat(make([]byte, 1400), 50)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			arrived := make(chan int, 100)
			done := make(chan struct{})
			go func() {
				defer close(done)
				a.Run(ctx, func(_ []netip.AddrPort, packets [][]byte) error {
					arrived <- len(packets)
					return nil
				})
			}()
			exchange := func() {
				a.WritePackets(to, packets)
				for n := 0; n < 50; {
					n += <-arrived
				}
			}
			for range 100 {
				exchange()
			}
			if n := testing.AllocsPerRun(500, exchange); n > 0 {
				t.Errorf("%v allocations for 50 datagrams out and in, want 0", n)
			}
			cancel()
			<-done
		})
	}
}

// refuseSegments makes the system refuse segmented messages, and counts them.
func refuseSegments(u *UDP, errno syscall.Errno) *atomic.Int64 {
	var segmented atomic.Int64
	system := u.socket.sendmmsg
	u.socket.sendmmsg = func(fd uintptr, messages []unix.Mmsghdr) (int, syscall.Errno) {
		for i := range messages {
			if messages[i].Hdr.Iovlen > 1 {
				if i > 0 {
					return system(fd, messages[:i])
				}
				segmented.Add(1)
				return 0, errno
			}
		}
		return system(fd, messages)
	}
	return &segmented
}

func TestUDPCountsWhatItHasNoRoomFor(t *testing.T) {
	a, b := listenUDP(t, "127.0.0.1:0", UDPConfig{}), listenUDP(t, "127.0.0.1:0", UDPConfig{ReceiveBuffer: 1 << 16})
	sent, lost := uint64(0), func() uint64 { return b.Counters()["receive_overflow"] }
	if lost() != 0 {
		t.Fatalf("%d were lost before any was sent", lost())
	}
	// Of different sizes, so that they do not come as a burst.
	packets := [][]byte{make([]byte, 1000), make([]byte, 1001), make([]byte, 1002)}
	for range 20000 {
		n, err := a.WritePackets(repeat(b.LocalAddr(), 3), packets)
		if sent += uint64(n); err != nil {
			t.Fatal(err)
		}
		if lost() > 0 {
			break
		}
	}
	missing := lost()
	if missing == 0 {
		t.Fatalf("of %d datagrams that nobody took none is counted as lost", sent)
	}
	b.Close()
	if got := lost(); got != missing {
		t.Errorf("%d after the socket was closed, %d before", got, missing)
	}
}
