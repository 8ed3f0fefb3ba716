//go:build interop && linux

package pocketscion

import (
	"context"
	"errors"
	"net"
	"net/url"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/snapproxy/snapproxy/scion"
	"github.com/snapproxy/snapproxy/scion/endhost"
	"github.com/snapproxy/snapproxy/tunnel/control"
	"github.com/snapproxy/snapproxy/tunnel/snaptun"
)

// A probe is a tunnel to a SNAP in the hands of a test, so that it can send what
// no program of ours would.
type probe struct {
	t       *testing.T
	conn    *net.UDPConn // connected to the SNAP
	session *snaptun.Session
	local   scion.Addr
	buf     []byte
}

// newProbe attaches to the SNAP that an endhost API names.
func newProbe(t *testing.T, api, token, ia string) *probe {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	bearer := func(context.Context) (string, error) { return token, nil }
	u, err := url.Parse(api)
	if err != nil {
		t.Fatal(err)
	}
	hosts, err := endhost.NewClient(endhost.ClientConfig{URL: u, Token: bearer})
	if err != nil {
		t.Fatal(err)
	}
	defer hosts.Close()
	home, err := scion.ParseIA(ia)
	if err != nil {
		t.Fatal(err)
	}
	underlays, err := hosts.Underlays(ctx, home)
	if err != nil || len(underlays.SNAPs) == 0 {
		t.Fatalf("underlays %+v, %v", underlays, err)
	}
	anywhere := func(*url.URL) error { return nil }
	snap, err := control.NewClient(control.ClientConfig{URL: underlays.SNAPs[0].URL, Token: bearer, Allow: anywhere})
	if err != nil {
		t.Fatal(err)
	}
	defer snap.Close()
	plane, err := snap.DataPlane(ctx)
	if err != nil {
		t.Fatal(err)
	}
	key, err := snaptun.NewPrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	if err := snap.Register(ctx, key.PublicKey()); err != nil {
		t.Fatal(err)
	}
	p := &probe{t: t, buf: make([]byte, 1<<16)}
	if p.conn, err = net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(plane.Addr)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.conn.Close() })
	if p.session, err = snaptun.NewSession(snaptun.SessionConfig{PrivateKey: key, PeerKey: plane.Key}, time.Now()); err != nil {
		t.Fatal(err)
	}
	at := p.conn.LocalAddr().(*net.UDPAddr).AddrPort()
	p.local = scion.Addr{IA: home, Host: at.Addr(), Port: at.Port()}
	if err := p.session.Initiate(time.Now()); err != nil {
		t.Fatal(err)
	}
	p.transmit()
	p.receive(time.Second)
	if !p.session.Up(time.Now()) {
		t.Fatal("no answer from the SNAP")
	}
	return p
}

// receive returns the SCION packets that come until nothing has come for a time.
func (p *probe) receive(quiet time.Duration) (packets [][]byte) {
	p.t.Helper()
	for {
		p.conn.SetReadDeadline(time.Now().Add(quiet))
		n, err := p.conn.Read(p.buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return packets
		}
		if err != nil {
			p.t.Fatal(err)
		}
		payload, err := p.session.HandleDatagram(p.buf[:n], time.Now())
		if err != nil {
			p.t.Logf("datagram of %d bytes: %v", n, err)
		}
		if len(payload) > 0 {
			packets = append(packets, append([]byte(nil), payload...))
		}
		p.transmit()
	}
}

func (p *probe) transmit() {
	p.t.Helper()
	for b := p.session.NextTransmit(); b != nil; b = p.session.NextTransmit() {
		if _, err := p.conn.Write(b); err != nil {
			p.t.Fatal(err)
		}
	}
}

// packet is a SCION/UDP packet of a size in all, to a host of our own AS.
func (p *probe) packet(to scion.Addr, number uint32, size int) []byte {
	p.t.Helper()
	const header = 36 + 8
	b, err := scion.AppendUDP(nil, p.local, to, pattern(number, size-header))
	if err != nil {
		p.t.Fatal(err)
	}
	return b
}

// send sends packets, all of one size, as one burst that the kernel may hand
// over in one piece.
func (p *probe) send(packets ...[]byte) {
	p.t.Helper()
	var all []byte
	segment := 0
	for _, packet := range packets {
		before := len(all)
		var err error
		if all, err = p.session.Seal(all, packet, time.Now()); err != nil {
			p.t.Fatal(err)
		}
		segment = len(all) - before
	}
	p.segments(segment)
	defer p.segments(0)
	if _, err := p.conn.Write(all); err != nil {
		p.t.Fatalf("send %d bytes in segments of %d: %v", len(all), segment, err)
	}
}

// segments makes the kernel cut what is written into datagrams of a size, 0: not.
func (p *probe) segments(size int) {
	p.t.Helper()
	raw, err := p.conn.SyscallConn()
	if err != nil {
		p.t.Fatal(err)
	}
	var set error
	if err := raw.Control(func(fd uintptr) { set = unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_SEGMENT, size) }); err != nil {
		p.t.Fatal(err)
	}
	if set != nil {
		p.t.Skipf("no UDP_SEGMENT: %v", set)
	}
}

// echoServer is the address of a server that says it in its first line.
func echoServer(t *testing.T, p *process) scion.Addr {
	t.Helper()
	a, err := scion.ParseAddr(p.awaitLine(0))
	if err != nil {
		t.Fatal(err)
	}
	return a
}
