package snapproxy

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/snapproxy/snapproxy/scion"
	"github.com/snapproxy/snapproxy/tunnel"
)

// A rawTunnel is a tunnel to a SNAP without a SCION host behind it.
type rawTunnel struct {
	*tunnel.Conn[netip.AddrPort]
	bound netip.AddrPort // of its socket
	addr  scion.Addr     // that the SNAP assigned
	got   chan []byte
}

func (n *testNet) attach(t *testing.T) *rawTunnel {
	t.Helper()
	return n.attachFrom(t, "127.0.0.1:0")
}

func (n *testNet) attachFrom(t *testing.T, bind string) *rawTunnel {
	t.Helper()
	udp, err := tunnel.ListenUDP(netip.MustParseAddrPort(bind), tunnel.UDPConfig{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { udp.Close() })
	up := make(chan struct{}, 1)
	r := &rawTunnel{got: make(chan []byte, 64), bound: udp.LocalAddr()}
	r.Conn, err = tunnel.NewConn(tunnel.ConnConfig[netip.AddrPort]{
		Config:  tunnel.Config[netip.AddrPort]{Carrier: udp, PrivateKey: newKey(t)},
		PeerKey: n.snap.PublicKey(), Peer: n.snap.Addr(),
		Notify: func(s tunnel.Status) {
			if s.Up {
				up <- struct{}{}
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	run(t, func(ctx context.Context) error {
		return r.Run(ctx, func(packets [][]byte) error {
			for _, b := range packets {
				r.got <- append([]byte(nil), b...)
			}
			return nil
		})
	})
	await(t, up, "raw tunnel")
	assigned := r.Status().Assigned
	r.addr = scion.Addr{IA: n.snap.IA(), Host: assigned.Addr(), Port: assigned.Port()}
	return r
}

func (r *rawTunnel) next(t *testing.T) scion.Packet {
	t.Helper()
	select {
	case b := <-r.got:
		p, err := scion.ParsePacket(b)
		if err != nil {
			t.Fatal(err)
		}
		return p
	case <-time.After(10 * time.Second):
		t.Fatal("no packet after 10 s")
		panic("unreachable")
	}
}

func udpPacket(t testing.TB, from, to scion.Addr) []byte {
	t.Helper()
	b, err := scion.AppendUDP(nil, from, to, []byte("payload"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The SNAP forwards what names its sender as the source and a tunnel as the
// destination; the rest is counted, and its sender told why.
func TestSNAPForwards(t *testing.T) {
	snap, err := NewSNAP(SNAPConfig{IA: 0x1_ff00_0000_0110, Listen: netip.MustParseAddrPort("127.0.0.1:0"), PrivateKey: newKey(t), Authorize: everybody})
	if err != nil {
		t.Fatal(err)
	}
	run(t, snap.Run)
	n := &testNet{snap: snap}
	a, b := n.attach(t), n.attach(t)

	// Its first data makes b's tunnel its own; a packet to itself comes back.
	b.WritePackets([][]byte{udpPacket(t, b.addr, b.addr)})
	b.next(t)
	good := udpPacket(t, a.addr, b.addr)
	a.WritePackets([][]byte{good})
	if got := b.next(t); string(got.Bytes()) != string(good) {
		t.Errorf("forwarded %x, want %x", got.Bytes(), good)
	}

	otherPort, otherHost, otherIA := a.addr, a.addr, a.addr
	otherPort.Port++
	otherHost.Host = netip.MustParseAddr("127.0.0.9")
	otherIA.IA++
	far, nobody := b.addr, b.addr
	far.IA++
	nobody.Host = netip.MustParseAddr("127.0.0.9")
	oneHop := append([]byte(nil), good...)
	oneHop[8] = byte(scion.PathOneHop)
	malformed := append([]byte(nil), good...)
	malformed[0] = 0xf0
	for _, tt := range []struct {
		name      string
		packet    []byte
		counter   string
		typ, code uint8
	}{
		{"source port", udpPacket(t, otherPort, b.addr), "snap_spoofed", scmpParameterProblem, codeSource},
		{"source host", udpPacket(t, otherHost, b.addr), "snap_spoofed", scmpParameterProblem, codeSource},
		{"source ISD-AS", udpPacket(t, otherIA, b.addr), "snap_spoofed", scmpParameterProblem, codeSource},
		{"other ISD-AS", udpPacket(t, a.addr, far), "snap_no_route", scmpUnreachable, codeNoRoute},
		{"no such tunnel", udpPacket(t, a.addr, nobody), "snap_undeliverable", scmpUnreachable, codeAddressUnreachable},
		{"path type", oneHop, "snap_path_type", scmpParameterProblem, codePathType},
		{"malformed", malformed, "snap_malformed", scmpParameterProblem, codeMalformed},
		{"truncated", good[:len(good)-1], "snap_malformed", scmpParameterProblem, codeMalformed},
	} {
		before := snap.Counters()[tt.counter]
		a.WritePackets([][]byte{tt.packet})
		typ, code, ok := a.next(t).SCMP()
		if !ok || typ != tt.typ || code != tt.code {
			t.Errorf("%s: SCMP type %d code %d, want %d and %d", tt.name, typ, code, tt.typ, tt.code)
		}
		if got := snap.Counters()[tt.counter]; got != before+1 {
			t.Errorf("%s: %s rose by %d, want 1", tt.name, tt.counter, got-before)
		}
	}
	// The SNAP itself is not a destination, and an SCMP error about nothing of
	// the sender's is not believed nor answered.
	toSNAP := a.addr
	toSNAP.Port = snap.Addr().Port()
	forged, err := scion.AppendSCMPError(nil, scion.SCMPError{Type: scmpUnreachable, Src: a.addr, Dst: b.addr}, udpPacket(t, b.addr, nobody))
	if err != nil {
		t.Fatal(err)
	}
	a.WritePackets([][]byte{udpPacket(t, a.addr, toSNAP), forged, good})
	if got := b.next(t); string(got.Bytes()) != string(good) {
		t.Errorf("forwarded %x, want the good packet only", got.Bytes())
	}
	select {
	case b := <-a.got:
		t.Errorf("answered with %x", b)
	default:
	}
	if snap.Counters()["snap_spoofed"] != 4 || snap.Counters()["snap_undeliverable"] != 2 {
		t.Errorf("counters %v", snap.Counters())
	}
}
