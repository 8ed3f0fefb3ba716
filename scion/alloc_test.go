package scion

import (
	"fmt"
	"testing"
)

// A null is an underlay that takes everything and keeps nothing.
type null struct{ Underlay }

func (null) WritePackets(packets [][]byte) (int, error) { return len(packets), nil }

// burst is a batch of 45 datagrams, as many as a super-segment of 64 KiB is
// cut into, to and from a peer on a path of 2 segments and 5 hops.
type burst struct {
	host    *Host
	port    *Port
	in      *intake
	to      []Addr
	payload [][]byte
	packets [][]byte
}

func newBurst(t testing.TB, path *Path) *burst {
	t.Helper()
	h, port, _ := newLoneHost(t)
	h.cfg.Underlay = null{}
	port.receiver = &receiver{deliver: func([]Addr, [][]byte) error { return nil }}
	b := &burst{host: h, port: port, in: newIntake(h)}
	peer, local := peerB, h.Local()
	if path != nil {
		peer.IA, peer.Path, local.Path = ia211, path, path.Reverse()
	}
	r := newRand(1)
	for range 45 {
		payload := randomBytes(r, 1300)
		packet, err := AppendUDP(nil, peer, local, payload)
		if err != nil {
			t.Fatal(err)
		}
		b.to, b.payload, b.packets = append(b.to, peer), append(b.payload, payload), append(b.packets, packet)
	}
	return b
}

func testPaths() map[string]*Path {
	return map[string]*Path{"empty": nil, "2 segments, 5 hops": mustPath(randomPath(newRand(1), 2, 3))}
}

func (b *burst) write(t testing.TB) {
	if n, err := b.port.WritePackets(b.to, b.payload); n != len(b.to) || err != nil {
		t.Fatalf("WritePackets = %d, %v", n, err)
	}
}

func (b *burst) receive(t testing.TB) {
	if err := b.in.receive(b.packets); err != nil {
		t.Fatal(err)
	}
}

func TestNothingIsAllocated(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	for name, path := range testPaths() {
		b := newBurst(t, path)
		scratch := make([]byte, 0, 2000)
		bounced := SCMPError{Type: 1, Src: b.host.Local(), Dst: b.to[0]}
		tests := map[string]func(){
			"encode": func() {
				if _, err := AppendUDP(scratch, b.host.Local(), b.to[0], b.payload[0]); err != nil {
					t.Fatal(err)
				}
			},
			"encode an SCMP error": func() {
				if _, err := AppendSCMPError(scratch, bounced, b.packets[0]); err != nil {
					t.Fatal(err)
				}
			},
			"decode": func() {
				p, err := ParsePacket(b.packets[0])
				if err != nil {
					t.Fatal(err)
				}
				port, err := p.DeliveryPort()
				if err != nil || port != 1000 || p.DstHost() != v4a || p.SrcHost() != v4b || p.SrcIA() != b.to[0].IA {
					t.Fatal(port, err)
				}
			},
			"reverse": func() { appendReversedPath(scratch, b.to[0].Path.Append(scratch)) },
			"write":   func() { b.write(t) },
			"receive": func() { b.receive(t) },
		}
		if path == nil {
			delete(tests, "reverse")
		}
		peer, local := b.to[0], b.host.Local()
		local.Path = peer.Path.Reverse()
		echo, err := appendHeader(nil, peer, local, ProtocolSCMP, 8)
		if err != nil {
			t.Fatal(err)
		}
		n := len(echo)
		echo = append(echo, scmpEchoRequest, 0, 0, 0, 0, 1, 0, 1)
		setSCMPChecksum(echo[addrOffset:n-local.Path.Len()], echo[n:])
		sent, err := AppendUDP(nil, b.host.Local(), peer, b.payload[0])
		if err != nil {
			t.Fatal(err)
		}
		report, err := AppendSCMPError(nil, SCMPError{Type: 1, Src: peer, Dst: local}, sent)
		if err != nil {
			t.Fatal(err)
		}
		for name, packet := range map[string][]byte{"receive echo": echo, "receive report": report} {
			batch := [][]byte{packet, packet}
			tests[name] = func() {
				if err := b.in.receive(batch); err != nil {
					t.Fatal(err)
				}
			}
		}
		b.host.cfg.Report = func(Report) {}
		b.write(t) // what reports can be about
		for what, f := range tests {
			if got := testing.AllocsPerRun(100, f); got != 0 {
				t.Errorf("%s path: %s allocates %.1f times", name, what, got)
			}
		}
		c := b.host.Counters()
		if c.Sent == 0 || c.Received == 0 || c.Echoed == 0 || c.Unreachable == 0 || c.Reports != c.Unreachable ||
			c != (Counters{Sent: c.Sent, Received: c.Received, Echoed: c.Echoed, Unreachable: c.Unreachable, Reports: c.Reports}) {
			t.Errorf("%s path: counters %+v", name, c)
		}
	}
}

func BenchmarkParsePacket(b *testing.B) {
	for name, path := range testPaths() {
		b.Run(name, func(b *testing.B) {
			packet := newBurst(b, path).packets[0]
			b.ReportAllocs()
			for b.Loop() {
				p, err := ParsePacket(packet)
				if err != nil || p.SrcIA() == 0 || !p.SrcHost().IsValid() {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkAppendUDP(b *testing.B) {
	for name, path := range testPaths() {
		b.Run(name, func(b *testing.B) {
			burst := newBurst(b, path)
			from, scratch := burst.host.Local(), make([]byte, 0, 2000)
			b.ReportAllocs()
			b.SetBytes(int64(len(burst.payload[0])))
			for b.Loop() {
				if _, err := AppendUDP(scratch, from, burst.to[0], burst.payload[0]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkReverse(b *testing.B) {
	for _, shape := range [][]int{{2}, {2, 3}, {3, 3, 3}} {
		b.Run(fmt.Sprint(shape), func(b *testing.B) {
			raw, scratch := randomPath(newRand(1), shape...), make([]byte, 0, 1000)
			b.ReportAllocs()
			for b.Loop() {
				appendReversedPath(scratch, raw)
			}
		})
	}
}

// The bytes of these two are those of the payloads, 45 in a batch.

func BenchmarkWrite(b *testing.B) {
	for name, path := range testPaths() {
		b.Run(name, func(b *testing.B) {
			burst := newBurst(b, path)
			b.ReportAllocs()
			b.SetBytes(int64(len(burst.payload) * len(burst.payload[0])))
			for b.Loop() {
				burst.write(b)
			}
		})
	}
}

func BenchmarkReceive(b *testing.B) {
	for name, path := range testPaths() {
		b.Run(name, func(b *testing.B) {
			burst := newBurst(b, path)
			b.ReportAllocs()
			b.SetBytes(int64(len(burst.payload) * len(burst.payload[0])))
			for b.Loop() {
				burst.receive(b)
			}
		})
	}
}
