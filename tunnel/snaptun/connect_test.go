package snaptun

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"
	"time"
)

// TestConnectWithMultipleClients is the unit test of the original SNAPtun
// server: two clients connect, learn their addresses and send a packet each, and
// the server passes the first one's packet on to the second.
func TestConnectWithMultipleClients(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	serverKey := PrivateKey(bytes.Repeat([]byte{2}, 32))
	server, err := NewResponder(ResponderConfig[netip.AddrPort]{
		PrivateKey:     serverKey,
		Authorize:      func(PublicKey, time.Time) bool { return true },
		SealedAddr:     func(a netip.AddrPort) netip.AddrPort { return a },
		HandshakeLimit: 100,
	}, now)
	if err != nil {
		t.Fatal(err)
	}
	clients := []struct {
		addr   netip.AddrPort
		key    PrivateKey
		packet []byte
	}{
		{netip.MustParseAddrPort("192.168.1.1:1234"), PrivateKey{}, scionLike("TEST0")},
		{netip.MustParseAddrPort("192.168.1.2:4321"), PrivateKey(bytes.Repeat([]byte{1}, 32)), scionLike("TEST1")},
	}
	sessions := make([]*Session, len(clients))
	for i, c := range clients {
		t.Run(fmt.Sprintf("client %d", i), func(t *testing.T) {
			s, err := NewSession(SessionConfig{PrivateKey: c.key, PeerKey: serverKey.PublicKey()}, now)
			if err != nil {
				t.Fatal(err)
			}
			sessions[i] = s
			if out, err := s.Seal(nil, c.packet, now); err != nil || out != nil {
				t.Fatalf("Seal without a session = %d bytes, %v; want the packet to be queued", len(out), err)
			}
			initiation := s.NextTransmit()
			if len(initiation) != initiationSize || s.NextTransmit() != nil {
				t.Fatalf("want one initiation, have %d bytes", len(initiation))
			}
			if _, payload, err := server.HandleDatagram(bytes.Clone(initiation), c.addr, now); err != nil || payload != nil {
				t.Fatalf("server takes initiation: %x, %v", payload, err)
			}
			to, response := server.NextTransmit()
			if to != c.addr || len(response) != responseSize {
				t.Fatalf("response of %d bytes to %v", len(response), to)
			}
			if _, err := s.HandleDatagram(bytes.Clone(response), now); err != nil {
				t.Fatal(err)
			}
			ev, _ := s.NextEvent()
			if want := (Established{Assigned: c.addr, Initiator: true}); ev != want {
				t.Fatalf("event %v, want %v", ev, want)
			}
			var got [][]byte
			for b := s.NextTransmit(); b != nil; b = s.NextTransmit() {
				p, payload, err := server.HandleDatagram(bytes.Clone(b), c.addr, now)
				if err != nil {
					t.Fatal(err)
				}
				if p.Key() != c.key.PublicKey() || p.Origin() != c.addr {
					t.Fatalf("packet is from %v at %v", p.Key(), p.Origin())
				}
				if payload != nil {
					got = append(got, payload)
				}
			}
			if len(got) != 1 || !bytes.Equal(got[0], c.packet) {
				t.Fatalf("server got %x, want %x", got, c.packet)
			}
		})
	}
	if server.Len() != 2 {
		t.Fatalf("%d peers, want 2", server.Len())
	}
	out, to, err := server.Seal(nil, clients[1].addr, clients[0].packet, now)
	if err != nil || to != clients[1].addr {
		t.Fatalf("server sends to %v: %v", to, err)
	}
	payload, err := sessions[1].HandleDatagram(out, now)
	if err != nil || !bytes.Equal(payload, clients[0].packet) {
		t.Fatalf("client 1 got %x, %v; want %x", payload, err, clients[0].packet)
	}
}

// scionLike returns the test packet of the original: a simplified SCION header.
func scionLike(payload string) []byte {
	const version, class, flow = 0, 0xaa, 0xabcde
	b := binary.BigEndian.AppendUint32(nil, version<<28|class<<20|flow)
	b = binary.BigEndian.AppendUint16(b, uint16(len(payload)))
	b = append(b, 17, 7) // next header UDP, hop count
	b = binary.BigEndian.AppendUint64(b, 0x0123456789abcdef)
	b = binary.BigEndian.AppendUint64(b, 0xfedcba9876543210)
	return append(b, payload...)
}
