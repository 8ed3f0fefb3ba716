package netstack

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// A sink is gVisor's side of the link: it keeps the packets it gets.
type sink struct{ packets [][]byte }

func (s *sink) DeliverNetworkPacket(_ tcpip.NetworkProtocolNumber, pkt *stack.PacketBuffer) {
	if s == nil {
		return
	}
	v := pkt.ToView()
	defer v.Release()
	s.packets = append(s.packets, v.ToSlice())
}
func (*sink) DeliverLinkPacket(tcpip.NetworkProtocolNumber, *stack.PacketBuffer) {}

func sinkEndpoint(s *sink) *endpoint {
	e := new(endpoint)
	e.Attach(s)
	return e
}

// flowPacket makes a TCP packet of one of several flows.
func flowPacket(flow int, p tcpPacket) []byte {
	b := append(p.headers(), p.payload...)
	put16(b[40:], uint16(1000+flow))
	return b
}

func TestCoalescerMergesASuperSegment(t *testing.T) {
	p := tcpPacket{seq: 1<<32 - 500, flags: flagACK | flagPSH, options: bytes.Repeat([]byte{1}, 12), payload: randomBytes(60000)}
	var c coalescer
	got := new(sink)
	for _, b := range cutModel(p, 1312) {
		c.add(b)
	}
	c.flush(sinkEndpoint(got), new(counters))
	if len(got.packets) != 1 {
		t.Fatalf("%d packets, want 1", len(got.packets))
	}
	if b := got.packets[0]; !bytes.Equal(b[72:], p.payload) || int(be16(b[4:])) != len(b)-40 || b[53] != flagACK|flagPSH || be32(b[44:]) != p.seq {
		t.Errorf("merged packet is not the one that was cut: header %x", b[:72])
	}
}

func TestCoalescerKeepsApartWhatDiffers(t *testing.T) {
	first := tcpPacket{seq: 100, flags: flagACK, payload: make([]byte, 100)}
	for name, change := range map[string]func(p *tcpPacket, b []byte){
		"hole":        func(p *tcpPacket, b []byte) { put32(b[44:], 201) },
		"repetition":  func(p *tcpPacket, b []byte) { put32(b[44:], 100) },
		"ack":         func(p *tcpPacket, b []byte) { b[51]++ },
		"window":      func(p *tcpPacket, b []byte) { b[55]++ },
		"hop limit":   func(p *tcpPacket, b []byte) { b[7]-- },
		"class":       func(p *tcpPacket, b []byte) { b[1]++ },
		"source":      func(p *tcpPacket, b []byte) { b[20]++ },
		"destination": func(p *tcpPacket, b []byte) { b[30]++ },
		"port":        func(p *tcpPacket, b []byte) { b[43]++ },
		"SYN":         func(p *tcpPacket, b []byte) { b[53] |= flagSYN },
		"RST":         func(p *tcpPacket, b []byte) { b[53] |= flagRST },
		"no ACK":      func(p *tcpPacket, b []byte) { b[53] = 0 },
		"CWR":         func(p *tcpPacket, b []byte) { b[53] |= flagCWR },
	} {
		second := first
		second.seq = 200
		b := flowPacket(0, second)
		change(&second, b)
		var c coalescer
		got := new(sink)
		c.add(flowPacket(0, first))
		c.add(b)
		c.flush(sinkEndpoint(got), new(counters))
		if len(got.packets) != 2 || !bytes.Equal(got.packets[1], b) {
			t.Errorf("%s: merged", name)
		}
	}
}

// TestCoalescerAgainstModel adds random segments of several flows: for each
// flow, the same bytes at the same sequence numbers, in the same order, must
// come out, with the flags that mean something.
func TestCoalescerAgainstModel(t *testing.T) {
	type event struct {
		seq   uint32
		flags byte
		data  byte
	}
	events := func(packets [][]byte) map[uint16][]event {
		m := make(map[uint16][]event)
		for _, b := range packets {
			port, seq, h := be16(b[40:]), be32(b[44:]), 40+int(b[52]>>4)*4
			if len(b) == h {
				m[port] = append(m[port], event{seq: seq, flags: b[53]})
			}
			for i, d := range b[h:] {
				m[port] = append(m[port], event{seq: seq + uint32(i), data: d})
			}
			if b[53]&^(flagACK|flagPSH) != 0 {
				m[port] = append(m[port], event{seq: seq + uint32(len(b)-h), flags: b[53] &^ flagPSH})
			}
		}
		return m
	}
	r := rand.New(rand.NewPCG(1, 2))
	data := randomBytes(1500)
	for round := range 60 {
		var c coalescer
		got := new(sink)
		var in [][]byte
		var seq [100]uint32
		flows := 1 + r.IntN(len(seq))
		for range r.IntN(300) {
			flow := r.IntN(flows)
			p := tcpPacket{seq: seq[flow], flags: flagACK, payload: data[:r.IntN(1500)]}
			switch r.IntN(20) {
			case 0:
				p.flags |= flagFIN
			case 1:
				p.flags = flagRST
			case 2:
				p.seq += uint32(r.IntN(3000))
			case 3, 4:
				p.flags |= flagPSH
			case 5:
				p.payload = nil
			}
			seq[flow] = p.seq + uint32(len(p.payload))
			b := flowPacket(flow, p)
			in = append(in, b)
			c.add(b)
		}
		c.flush(sinkEndpoint(got), new(counters))
		want, have := events(in), events(got.packets)
		for port := range want {
			if len(want[port]) != len(have[port]) {
				t.Fatalf("round %d, port %d: %d events, want %d", round, port, len(have[port]), len(want[port]))
			}
			for i := range want[port] {
				if want[port][i] != have[port][i] {
					t.Fatalf("round %d, port %d: event %d = %v, want %v", round, port, i, have[port][i], want[port][i])
				}
			}
		}
		for _, b := range got.packets {
			if int(be16(b[4:]))+ipv6HeaderLen != len(b) || header.IPv6(b).PayloadLength() == 0 {
				t.Fatalf("length field %d of a packet of %d bytes", be16(b[4:]), len(b))
			}
		}
	}
}

func BenchmarkCoalesce(b *testing.B) {
	packets := cutModel(tcpPacket{flags: flagACK, payload: randomBytes(64000)}, 1312)
	var c coalescer
	e := new(endpoint)
	count := new(counters)
	b.SetBytes(64000)
	b.ReportAllocs()
	for b.Loop() {
		for _, p := range packets {
			c.add(p)
		}
		c.flush(e, count)
	}
}

func TestCoalescerAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	packets := cutModel(tcpPacket{flags: flagACK, payload: randomBytes(64000)}, 1312)
	var c coalescer
	e, count := new(endpoint), new(counters)
	if n := testing.AllocsPerRun(100, func() {
		for _, p := range packets {
			c.add(p)
		}
		c.flush(e, count)
	}); n != 0 {
		t.Errorf("%v allocations for a batch, want 0", n)
	}
}
