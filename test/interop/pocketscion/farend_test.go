//go:build interop && linux

package pocketscion

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"
)

// target is an address that a far end turns round as it does any other.
var target = netip.MustParseAddrPort("192.0.2.7:7007")

// TestClientReachesFarEnd is the inner tunnel with our client and the SDK's
// core at the other end: UDP of 1 to 9,000 bytes through SOCKS.
func TestClientReachesFarEnd(t *testing.T) {
	t.Parallel()
	n := startNetwork(t)
	end, a := startFarEnd(t, n)
	sizes := []int{1, 2, 3, 8, 100, 500, 900, 904, 905, 983, 984, 985, 1200, 1232, 1233, 1452, 2000, 4096, 8191, 8192, 8999, 9000}
	for size := 17; size < 9000; size += 173 {
		sizes = append(sizes, size)
	}
	var slowest time.Duration
	for i, size := range sizes {
		slowest = max(slowest, a.roundTrip(uint32(i), size))
	}
	t.Logf("%d datagrams of 1 to 9000 bytes came back whole, the slowest after %v", len(sizes), slowest.Round(time.Millisecond))

	end.stdin.Close()
	end.wait(patience)
	lines := strings.Split(end.stdout.String(), "\n")
	var saw struct{ Turned, Largest, Refused int }
	parse(t, lines[1], &saw)
	if saw.Largest != 9000+48 || saw.Refused != 0 {
		t.Errorf("the far end saw packets of %d bytes at most, want %d, and refused %d datagrams", saw.Largest, 9000+48, saw.Refused)
	}
}

// TestFarEndOutlivesKeys holds a conversation for longer than the keys of a
// session live, so that both tunnels must have made new ones.
func TestFarEndOutlivesKeys(t *testing.T) {
	t.Parallel()
	n := startNetwork(t)
	_, a := startFarEnd(t, n)
	const pause = 50 * time.Millisecond
	tick := time.NewTicker(pause)
	defer tick.Stop()
	var sent, lost int
	var longest time.Duration
	for begin := time.Now(); time.Since(begin) < transferTime; <-tick.C {
		took, ok := a.try(uint32(sent), 1+sent*37%2000, 2*time.Second)
		sent++
		longest = max(longest, took)
		if !ok {
			lost++
		}
	}
	t.Logf("%d datagrams in %v, %d lost, the longest wait %v", sent, transferTime, lost, longest.Round(time.Millisecond))
	if lost > 1+sent/1000 {
		t.Errorf("%d of %d datagrams lost", lost, sent)
	}
}

// startFarEnd starts a far end in east, a client of it in west, and an
// association with that client.
func startFarEnd(t *testing.T, n *network) (*process, *association) {
	t.Helper()
	end := startPeer(t, append([]string{"far-end"}, n.stack(east)...)...)
	p := &pair{dir: t.TempDir()}
	p.newKey(t, "client")
	socks, _ := listeners(t, p.startClient(t, end.awaitLine(0), n.attach(west)))
	return end, associate(t, socks)
}

// An association is a UDP association with a SOCKS server.
type association struct {
	t   *testing.T
	udp *net.UDPConn
	buf []byte
}

// associate asks a SOCKS server for an association (RFC 1928 §7).
func associate(t *testing.T, socks string) *association {
	t.Helper()
	c, err := net.Dial("tcp", socks)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	reply := make([]byte, 10)
	if _, err := c.Write([]byte("\x05\x01\x00")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, reply[:2]); err != nil || reply[1] != 0 {
		t.Fatalf("SOCKS greeting answered by %v, %v", reply[:2], err)
	}
	if _, err := c.Write([]byte("\x05\x03\x00\x01\x00\x00\x00\x00\x00\x00")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, reply); err != nil || reply[1] != 0 || reply[3] != 1 {
		t.Fatalf("SOCKS UDP ASSOCIATE answered by %v, %v", reply, err)
	}
	at := netip.AddrPortFrom(netip.AddrFrom4([4]byte(reply[4:8])), binary.BigEndian.Uint16(reply[8:]))
	udp, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(at))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { udp.Close() })
	udp.SetReadBuffer(1 << 20)
	return &association{t, udp, make([]byte, 1<<16)}
}

// roundTrip sends a datagram until it is back, and returns how long that took.
func (a *association) roundTrip(number uint32, size int) time.Duration {
	a.t.Helper()
	begin := time.Now()
	for time.Since(begin) < patience {
		if _, ok := a.try(number, size, 2*time.Second); ok {
			return time.Since(begin)
		}
	}
	a.t.Fatalf("a datagram of %d bytes does not come back", size)
	return 0
}

// try sends a datagram once and waits for it to come back.
func (a *association) try(number uint32, size int, wait time.Duration) (time.Duration, bool) {
	a.t.Helper()
	payload := pattern(number, size)
	to := target.Addr().As4()
	datagram := append([]byte{0, 0, 0, 1}, to[:]...)
	datagram = append(binary.BigEndian.AppendUint16(datagram, target.Port()), payload...)
	begin := time.Now()
	if _, err := a.udp.Write(datagram); err != nil {
		a.t.Fatal(err)
	}
	a.udp.SetReadDeadline(begin.Add(wait))
	for {
		n, err := a.udp.Read(a.buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return time.Since(begin), false
		}
		if err != nil {
			a.t.Fatal(err)
		}
		if bytes.Equal(a.buf[:n], datagram) {
			return time.Since(begin), true
		}
		// One that came late: its number differs, if it is long enough for one.
		if n == len(datagram) && size >= 4 && bytes.Equal(a.buf[:n-size+4], datagram[:len(datagram)-size+4]) {
			a.t.Fatalf("a datagram of %d bytes came back changed", size)
		}
	}
}

// pattern is the payload of a datagram: its number and bytes that follow from it.
func pattern(number uint32, size int) []byte {
	b := binary.BigEndian.AppendUint32(make([]byte, 0, size+4), number)
	for x := number*2654435761 + 1; len(b) < size; x = x*1664525 + 1013904223 {
		b = append(b, byte(x>>24))
	}
	return b[:size]
}
