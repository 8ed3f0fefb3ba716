package scion

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"
)

func TestBatchIsOneWrite(t *testing.T) {
	h, port, u := newLoneHost(t)
	r := newRand(1)
	abroad := Addr{IA: ia211, Host: v6b, Port: 7, Path: mustPath(randomPath(r, 2, 2))}
	to := []Addr{peerB, peerB, abroad, peerB, abroad}
	var payloads [][]byte
	for i := range to {
		payloads = append(payloads, randomBytes(r, 300*i))
	}
	if n, err := port.WritePackets(to, payloads); n != len(to) || err != nil {
		t.Fatalf("WritePackets = %d, %v", n, err)
	}
	if u.batches != 1 {
		t.Errorf("%d writes, want 1", u.batches)
	}
	for i, got := range u.packets {
		if want := theirUDP(t, h.Local(), to[i], payloads[i]); !bytes.Equal(got, want) {
			t.Errorf("packet %d\n got %x\nwant %x", i, got, want)
		}
	}
}

func TestWhatCannotBeSent(t *testing.T) {
	tests := []struct {
		name    string
		to      Addr
		payload []byte
		want    Counters
	}{
		{"another AS without a path", Addr{IA: ia211, Host: v4b, Port: 1}, nil, Counters{NoPath: 2}},
		{"no host", Addr{IA: ia110, Port: 1}, nil, Counters{Unsendable: 2}},
		{"too long", peerB, make([]byte, 65528), Counters{Unsendable: 2}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h, port, u := newLoneHost(t)
			to := []Addr{peerB, tt.to, tt.to, peerB}
			if n, err := port.WritePackets(to, [][]byte{{1}, tt.payload, tt.payload, {2}}); n != 2 || err != nil {
				t.Errorf("WritePackets = %d, %v; want 2, nil", n, err)
			}
			tt.want.Sent = 2
			if c := h.Counters(); c != tt.want || len(u.packets) != 2 || u.batches != 1 {
				t.Errorf("counters %+v, want %+v", c, tt.want)
			}
			if n, err := port.WritePackets([]Addr{tt.to}, [][]byte{tt.payload}); n != 0 || err != nil || u.batches != 1 {
				t.Errorf("alone: WritePackets = %d, %v", n, err)
			}
		})
	}
}

func TestUnderlayThatRefuses(t *testing.T) {
	for _, tt := range []struct{ err, want error }{
		{nil, nil}, {syscall.ENETDOWN, nil}, {fmt.Errorf("write: %w", net.ErrClosed), net.ErrClosed},
	} {
		h := NewHost(HostConfig{Underlay: brokenUnderlay{tt.err}})
		h.SetLocal(Addr{IA: ia110, Host: v4a, Port: 1})
		port, err := h.Listen(0)
		if err != nil {
			t.Fatal(err)
		}
		n, err := port.WritePackets([]Addr{peerB, peerB, peerB, peerB}, make([][]byte, 4))
		if n != 2 || !errors.Is(err, tt.want) {
			t.Errorf("WritePackets = %d, %v; want 2, %v", n, err, tt.want)
		}
		if c := h.Counters(); c != (Counters{Sent: 2, Refused: 2}) {
			t.Errorf("counters %+v", c)
		}
	}
}

func TestSourceFollowsSetLocal(t *testing.T) {
	h, port, u := newLoneHost(t)
	fixed, err := h.Listen(53)
	if err != nil {
		t.Fatal(err)
	}
	for _, local := range []netip.AddrPort{
		netip.AddrPortFrom(v4a, 1000), netip.AddrPortFrom(v4a, 1001), netip.AddrPortFrom(v6a, 1001),
		netip.AddrPortFrom(netip.AddrFrom16(v4a.As16()), 1000), // mapped
	} {
		h.SetLocal(Addr{IA: ia110, Host: local.Addr(), Port: local.Port()})
		want := Addr{IA: ia110, Host: local.Addr().Unmap(), Port: local.Port()}
		if h.Local() != want {
			t.Fatalf("Local() = %s, want %s", h.Local(), want)
		}
		for p, number := range map[*Port]uint16{port: local.Port(), fixed: 53} {
			want.Port = number
			u.packets = nil
			if n, err := p.WritePackets([]Addr{peerB}, [][]byte{[]byte("x")}); n != 1 || err != nil {
				t.Fatalf("WritePackets = %d, %v", n, err)
			}
			if want := theirUDP(t, want, peerB, []byte("x")); !bytes.Equal(u.packets[0], want) {
				t.Errorf("from %s port %d\n got %x\nwant %x", local, number, u.packets[0], want)
			}
		}
	}
	h.SetLocal(Addr{})
	if n, err := port.WritePackets([]Addr{peerB}, [][]byte{{}}); n != 0 || err != nil {
		t.Errorf("detached: WritePackets = %d, %v", n, err)
	}
	if c := h.Counters(); c.NotAttached != 1 {
		t.Errorf("counters %+v", c)
	}
}

func TestSameLocalKeepsPreparedHeaders(t *testing.T) {
	h, port, _ := newLoneHost(t)
	prepared := func() *template {
		tmpl, err := port.templates.get(h.local.Load(), 0, peerB)
		if err != nil {
			t.Fatal(err)
		}
		return tmpl
	}
	before := prepared()
	h.SetLocal(Addr{IA: ia110, Host: v4a, Port: 1000})
	if prepared() != before {
		t.Error("headers were prepared again")
	}
	h.SetLocal(Addr{IA: ia110, Host: v4a, Port: 1001})
	if prepared() == before {
		t.Error("headers of another source are used")
	}
}

func TestPreparedHeadersAreBounded(t *testing.T) {
	h, port, _ := newLoneHost(t)
	for i := range uint32(3 * maxTemplates) {
		to := Addr{IA: ia110, Host: netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), Port: 1}
		if _, err := port.templates.get(h.local.Load(), 0, to); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(port.templates.header.young) + len(port.templates.header.old); n > 2*maxTemplates {
		t.Errorf("%d entries, want at most %d", n, 2*maxTemplates)
	}
}

func TestHeaderSize(t *testing.T) {
	h := NewHost(HostConfig{})
	for _, p := range pairs() {
		h.SetLocal(Addr{})
		if p.from.Host.Is4() == p.to.Host.Is4() {
			if got, want := h.HeaderSize(p.to), headerSize(p.from.Host, p.to.Host, p.to.Path); got != want {
				t.Errorf("%s, detached: %d, want %d", p.name, got, want)
			}
		}
		h.SetLocal(Addr{IA: ia110, Host: p.from.Host, Port: 1})
		if got, want := h.HeaderSize(p.to), len(theirUDP(t, p.from, p.to, nil))-8; got != want {
			t.Errorf("%s: %d, want %d", p.name, got, want)
		}
	}
	h.SetLocal(Addr{IA: ia110, Host: v4a, Port: 1})
	if got := h.HeaderSize(peerB); got != 36 {
		t.Errorf("inside an AS over IPv4: %d, want 36", got)
	}
	h.SetLocal(Addr{IA: ia110, Host: v6a, Port: 1})
	if got := h.HeaderSize(Addr{Host: v6b}); got != 60 {
		t.Errorf("inside an AS over IPv6: %d, want 60", got)
	}
}

// A lockedSink is an underlay that checks packets and is safe for concurrent use.
type lockedSink struct {
	Underlay
	mu sync.Mutex
	n  int
	t  *testing.T
}

func (s *lockedSink) WritePackets(packets [][]byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range packets {
		p, err := ParsePacket(b)
		if err != nil || !sumHolds(addSum(pseudoSum(p.addresses(), 17, len(p.Payload())), p.Payload())) {
			s.t.Errorf("broken packet %x: %v", b, err)
		}
	}
	s.n += len(packets)
	return len(packets), nil
}

func TestConcurrentWrites(t *testing.T) {
	u := &lockedSink{t: t}
	h := NewHost(HostConfig{Underlay: u})
	h.SetLocal(Addr{IA: ia110, Host: v4a, Port: 1})
	port, err := h.Listen(0)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	const writers, batches = 4, 50
	for w := range writers {
		all.Go(func() {
			r := newRand(uint64(w))
			for i := range batches {
				to := []Addr{peerB, {IA: ia110, Host: v4b, Port: uint16(i)}, {IA: ia110, Host: v6b, Port: uint16(w)}}
				payloads := [][]byte{randomBytes(r, i), randomBytes(r, 100), {}}
				if n, err := port.WritePackets(to, payloads); n != 3 || err != nil {
					t.Errorf("WritePackets = %d, %v", n, err)
				}
			}
		})
	}
	for i := range uint16(100) {
		h.SetLocal(Addr{IA: ia110, Host: v4a, Port: i + 1})
	}
	all.Wait()
	if u.n != writers*batches*3 {
		t.Errorf("%d packets, want %d", u.n, writers*batches*3)
	}
}
