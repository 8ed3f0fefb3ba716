package netstack

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"
)

var datagramSizes = []int{0, 1, 1200, 9000, 60000, 65487, 65488, MaxDatagram}

func TestUDPFlowsCarryWholeDatagrams(t *testing.T) {
	p := startPair(t, 1312, Config{UDP: func(f *UDPFlow) {
		if f.Target() != farPort || f.Source().Addr() != clientAddr {
			t.Errorf("flow from %v to %v", f.Source(), f.Target())
		}
		c, err := f.Accept()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		echoDatagrams(c)
	}})
	t.Run("connected", func(t *testing.T) {
		c, err := p.client.DialUDP(farPort)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		buf := make([]byte, 1<<16)
		for _, n := range datagramSizes {
			want := randomBytes(n)
			if _, err := c.Write(want); err != nil {
				t.Fatalf("write %d: %v", n, err)
			}
			if got, err := c.Read(buf); err != nil || !bytes.Equal(buf[:got], want) {
				t.Fatalf("sent %d bytes, read %d, %v", n, got, err)
			}
		}
	})
	t.Run("not connected", func(t *testing.T) {
		c, err := p.client.ListenUDP(0)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		buf := make([]byte, 1<<16)
		for _, n := range datagramSizes {
			want := randomBytes(n)
			if _, err := c.WriteToUDPAddrPort(want, farPort); err != nil {
				t.Fatalf("write %d: %v", n, err)
			}
			got, from, err := c.ReadFromUDPAddrPort(buf)
			if err != nil || from != farPort || !bytes.Equal(buf[:got], want) {
				t.Fatalf("sent %d bytes, read %d from %v, %v", n, got, from, err)
			}
		}
	})
	if n := p.exit.Counters()["udp_flows"]; n != 2 {
		t.Errorf("%d flows, want 2", n)
	}
}

func TestUDPTooLarge(t *testing.T) {
	p := startPair(t, 1312, Config{})
	c, err := p.client.DialUDP(farPort)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write(make([]byte, MaxDatagram+1)); !errors.Is(err, syscall.EMSGSIZE) {
		t.Errorf("write = %v, want EMSGSIZE", err)
	}
}

func TestUDPShortBuffer(t *testing.T) {
	p := startPair(t, 1312, Config{})
	server, client := listenAndDial(t, p, 7)
	client.Write([]byte("whole"))
	client.Write([]byte("next"))
	buf := make([]byte, 4)
	if n, err := server.Read(buf); n != 4 || !errors.Is(err, io.ErrShortBuffer) {
		t.Errorf("read = %d, %v, want 4 and io.ErrShortBuffer", n, err)
	}
	if n, err := server.Read(buf); err != nil || string(buf[:n]) != "next" {
		t.Errorf("read = %q, %v", buf[:n], err)
	}
}

func TestUDPFlowKeepsDatagramsUntilAccept(t *testing.T) {
	accept := make(chan struct{})
	got := make(chan string, 3)
	p := startPair(t, 1312, Config{UDP: func(f *UDPFlow) {
		if f.Target().Port() == 9 {
			close(accept)
			f.Refuse(syscall.ECONNREFUSED)
			return
		}
		<-accept
		c, err := f.Accept()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		buf := make([]byte, 10)
		for range cap(got) {
			n, _ := c.Read(buf)
			got <- string(buf[:n])
		}
	}})
	c, err := p.client.ListenUDP(0)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	want := []string{"first", "", "third"}
	for _, w := range want {
		c.WriteToUDPAddrPort([]byte(w), farPort)
	}
	c.WriteToUDPAddrPort(nil, netip.AddrPortFrom(farAddr, 9)) // comes after the three
	for _, w := range want {
		if g := <-got; g != w {
			t.Errorf("read %q, want %q", g, w)
		}
	}
}

func TestUDPQueueIsBounded(t *testing.T) {
	link, _ := newPair(1312)
	s, err := New(Config{Addr: exitAddr, Link: link})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	c, err := s.ListenUDP(7)
	if err != nil {
		t.Fatal(err)
	}
	empty := udpPacket(farPort, netip.AddrPortFrom(exitAddr, 7), nil)
	const most = maxUDPQueue / datagramOverhead
	for range most + 10 {
		s.deliver([][]byte{empty})
	}
	if n := s.Counters()["in_udp_overflow"]; n != 10 {
		t.Errorf("%d datagrams too many, want 10", n)
	}
	for i := range most {
		if _, err := c.Read(nil); err != nil {
			t.Fatalf("read %d: %v", i, err)
		}
	}
	c.SetReadDeadline(time.Unix(1, 0))
	if _, err := c.Read(nil); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read = %v, want a timeout", err)
	}
	c.Close()
	if c.bytes != 0 {
		t.Errorf("%d bytes counted in an empty queue", c.bytes)
	}
}

func TestUDPPorts(t *testing.T) {
	link, _ := newPair(1312)
	s, err := New(Config{Addr: exitAddr, Link: link})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	a, err := s.ListenUDP(53)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.ListenUDP(53); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("second listener = %v, want EADDRINUSE", err)
	}
	a.Close()
	if err := a.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("second Close = %v, want net.ErrClosed", err)
	}
	if _, err = s.ListenUDP(53); err != nil {
		t.Errorf("listen after Close: %v", err)
	}
	seen := map[string]bool{}
	for range 1000 {
		c, err := s.ListenUDP(0)
		if err != nil {
			t.Fatal(err)
		}
		seen[c.LocalAddr().String()] = true
	}
	if len(seen) != 1000 {
		t.Errorf("%d different ports, want 1000", len(seen))
	}
}

func TestUDPDeadlineAndClose(t *testing.T) {
	p := startPair(t, 1312, Config{})
	server, _ := listenAndDial(t, p, 7)
	server.SetReadDeadline(time.Now().Add(time.Millisecond))
	_, err := server.Read(nil)
	var ne net.Error
	if !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &ne) || !ne.Timeout() {
		t.Errorf("read = %v, want a timeout", err)
	}
	server.SetReadDeadline(time.Time{})
	errs := make(chan error)
	go func() { _, err := server.Read(nil); errs <- err }()
	server.Close()
	if err := <-errs; !errors.Is(err, net.ErrClosed) {
		t.Errorf("read = %v, want net.ErrClosed", err)
	}
	if _, err := server.WriteToUDPAddrPort(nil, farPort); !errors.Is(err, net.ErrClosed) {
		t.Errorf("write = %v, want net.ErrClosed", err)
	}
}

// listenAndDial opens a socket on a port of the exit and one connected to it.
func listenAndDial(t *testing.T, p *pair, port uint16) (server, client *UDPConn) {
	t.Helper()
	server, err := p.exit.ListenUDP(port)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	client, err = p.client.DialUDP(netip.AddrPortFrom(exitAddr, port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return server, client
}

func echoDatagrams(c *UDPConn) {
	buf := make([]byte, 1<<16)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		c.Write(buf[:n])
	}
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(n)}).Read(b)
	return b
}

// udpPacket makes a UDP packet.
func udpPacket(from, to netip.AddrPort, payload []byte) []byte {
	b := make([]byte, ipv6HeaderLen+udpHeaderLen+len(payload))
	putIPv6(b, protoUDP, udpHeaderLen+len(payload))
	src, dst := from.Addr().As16(), to.Addr().As16()
	copy(b[8:], src[:])
	copy(b[24:], dst[:])
	put16(b[40:], from.Port())
	put16(b[42:], to.Port())
	put16(b[44:], uint16(udpHeaderLen+len(payload)))
	copy(b[48:], payload)
	putChecksum(b, protoUDP, 6)
	return b
}
