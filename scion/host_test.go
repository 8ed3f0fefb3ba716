package scion

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/gopacket/gopacket"
	"github.com/scionproto/scion/pkg/slayers"
)

func TestDatagramIsAnswered(t *testing.T) {
	for _, hosts := range [][2]netip.Addr{{v4a, v4b}, {v6a, v6b}, {v4a, v6b}} {
		t.Run(fmt.Sprint(hosts), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b, portA, portB := runPair(t, hosts[0], hosts[1])
				gotA, gotB := collect(t, portA), collect(t, portB)
				sent := [][]byte{[]byte("one"), {}, []byte("three")}
				to := []Addr{b.Local(), b.Local(), b.Local()}
				if n, err := portA.WritePackets(to, sent); n != 3 || err != nil {
					t.Fatalf("WritePackets = %d, %v", n, err)
				}
				synctest.Wait()
				gotB.want(t, datagram{a.Local(), "one"}, datagram{a.Local(), ""}, datagram{a.Local(), "three"})
				if n, err := portB.WritePackets([]Addr{gotB.datagrams[0].from}, [][]byte{[]byte("answer")}); n != 1 || err != nil {
					t.Fatalf("WritePackets = %d, %v", n, err)
				}
				synctest.Wait()
				gotA.want(t, datagram{b.Local(), "answer"})
				if c := b.Counters(); c != (Counters{Received: 3, Sent: 1}) {
					t.Errorf("counters %+v", c)
				}
			})
		})
	}
}

func TestAnswerTakesTheWayBack(t *testing.T) {
	h, port, u := newLoneHost(t)
	got := &collected{}
	port.receiver = got.receiver()
	there := mustPath(randomPath(newRand(1), 2, 3, 2))
	peer := Addr{IA: ia211, Host: v6b, Port: 7}
	to := h.Local()
	to.Path = there
	in := newIntake(h)
	for range 2 {
		if err := in.receive([][]byte{theirUDP(t, peer, to, []byte("x"))}); err != nil {
			t.Fatal(err)
		}
	}
	first, second := got.datagrams[0].from, got.datagrams[1].from
	if first != second || first.Origin() != peer || *first.Path != *there.Reverse() {
		t.Fatalf("datagrams are from %+v and %+v", first, second)
	}
	if n, err := port.WritePackets([]Addr{first}, [][]byte{[]byte("y")}); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	peer.Path = there.Reverse()
	if want := theirUDP(t, h.Local(), peer, []byte("y")); !bytes.Equal(u.packets[0], want) {
		t.Errorf("answer\n got %x\nwant %x", u.packets[0], want)
	}
	if got, want := h.HeaderSize(first), 28+4+16+there.Len(); got != want {
		t.Errorf("HeaderSize = %d, want %d", got, want)
	}
}

func TestRunsOfABatchAreDeliveredTogether(t *testing.T) {
	h, assigned, _ := newLoneHost(t)
	other, err := h.Listen(2000)
	if err != nil {
		t.Fatal(err)
	}
	var runs []string
	note := func(name string) *receiver {
		return &receiver{deliver: func(from []Addr, packets [][]byte) error {
			runs = append(runs, fmt.Sprintf("%s %s", name, bytes.Join(packets, nil)))
			if len(from) != len(packets) {
				t.Errorf("%d addresses for %d packets", len(from), len(packets))
			}
			return nil
		}}
	}
	assigned.receiver, other.receiver = note("assigned"), note("2000")
	var batch [][]byte
	for i, port := range []uint16{1000, 1000, 2000, 3000, 2000, 1000} {
		to := h.Local()
		to.Port = port
		batch = append(batch, theirUDP(t, peerB, to, []byte{'a' + byte(i)}))
	}
	if err := newIntake(h).receive(batch); err != nil {
		t.Fatal(err)
	}
	if want := []string{"assigned ab", "2000 ce", "assigned f"}; !slices.Equal(runs, want) {
		t.Errorf("got %q, want %q", runs, want)
	}
	if c := h.Counters(); c != (Counters{Received: 5, NoPort: 1}) {
		t.Errorf("counters %+v", c)
	}
}

func TestDroppedPackets(t *testing.T) {
	local := Addr{IA: ia110, Host: v4a, Port: 1000}
	elsewhere := func(f func(a *Addr)) Addr { a := local; f(&a); return a }
	edit := func(f func(b []byte)) []byte {
		b := theirUDP(t, peerB, local, []byte("payload"))
		f(b)
		return b
	}
	raw := func(next slayers.L4ProtocolType, payload string) []byte {
		return serialize(t, theirHeader(t, peerB, local, next), gopacket.Payload(payload))
	}
	abroad := Addr{IA: ia211, Host: v4b, Port: 1}
	echo := &slayers.SCMPEcho{Identifier: 1000}
	badSCMP := theirSCMP(t, peerB, local, 128, 0, echo)
	badSCMP[len(badSCMP)-1]++
	oneHop := theirUDP(t, abroad, elsewhere(func(a *Addr) { a.Path = mustPath(randomPath(newRand(1), 2)) }), nil)
	oneHop[8] = byte(PathOneHop)
	tests := []struct {
		name   string
		packet []byte
		want   Counters
	}{
		{"nonsense", []byte("nonsense"), Counters{Malformed: 1}},
		{"empty", []byte{}, Counters{Malformed: 1}},
		{"truncated", theirUDP(t, peerB, local, []byte("payload"))[:40], Counters{Malformed: 1}},
		{"wrong ISD-AS", theirUDP(t, peerB, elsewhere(func(a *Addr) { a.IA = ia211 }), nil), Counters{WrongDestination: 1}},
		{"ISD-AS 0-0", theirUDP(t, peerB, elsewhere(func(a *Addr) { a.IA = 0 }), nil), Counters{WrongDestination: 1}},
		{"echo to ISD-AS 0-0", theirSCMP(t, peerB, elsewhere(func(a *Addr) { a.IA = 0 }), 128, 0, echo), Counters{WrongDestination: 1}},
		{"wrong host", theirUDP(t, peerB, elsewhere(func(a *Addr) { a.Host = v4b }), nil), Counters{WrongDestination: 1}},
		{"wrong family", theirUDP(t, peerB, elsewhere(func(a *Addr) { a.Host = v6a }), nil), Counters{WrongDestination: 1}},
		{"service", edit(func(b []byte) { b[9] = 0b0100 << 4 }), Counters{WrongDestination: 1}},
		{"wrong port", theirUDP(t, peerB, elsewhere(func(a *Addr) { a.Port = 1001 }), nil), Counters{NoPort: 1}},
		{"port 0", theirUDP(t, peerB, elsewhere(func(a *Addr) { a.Port = 0 }), nil), Counters{NoPort: 1}},
		{"payload changed", edit(func(b []byte) { b[len(b)-1]++ }), Counters{Checksum: 1}},
		{"source changed", edit(func(b []byte) { b[35]++ }), Counters{Checksum: 1}},
		{"no checksum", edit(func(b []byte) { b[42], b[43] = 0, 0 }), Counters{Checksum: 1}},
		{"UDP length beyond the packet", edit(func(b []byte) { b[41]++ }), Counters{Malformed: 1}},
		{"UDP length below the header", edit(func(b []byte) { b[41] = 7 }), Counters{Malformed: 1}},
		{"UDP length 0", edit(func(b []byte) { b[41] = 0 }), Counters{Malformed: 1}},
		{"half a UDP header", raw(17, "1234567"), Counters{Malformed: 1}},
		{"service as source", edit(func(b []byte) { b[9] = 0b0100 }), Counters{Malformed: 1}},
		{"source ISD-AS 0-0", theirUDP(t, Addr{Host: v4b, Port: 1}, local, nil), Counters{Malformed: 1}},
		{"another AS on the empty path", theirUDP(t, abroad, local, nil), Counters{Malformed: 1}},
		{"one-hop path", oneHop, Counters{PathType: 1}},
		{"TCP", raw(6, "payload"), Counters{Protocol: 1}},
		{"extensions in the wrong order", raw(201, "\xc8\x00\x00\x00\x11\x00\x00\x00"), Counters{Extension: 1}},
		{"extension cut off", raw(200, "\x11\x09\x00\x00"), Counters{Extension: 1}},
		{"SCMP changed", badSCMP, Counters{Checksum: 1}},
		{"half an SCMP message", raw(202, "\x80\x00\x00"), Counters{Malformed: 1}},
		{"echo reply", theirSCMP(t, peerB, local, 129, 0, echo), Counters{SCMP: 1}},
		{"echo request cut off", theirSCMP(t, peerB, local, 128, 0), Counters{Malformed: 1}},
		{"traceroute request", theirSCMP(t, peerB, local, 130, 0, &slayers.SCMPTraceroute{Identifier: 1000}), Counters{SCMP: 1}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h, port, u := newLoneHost(t)
			got := &collected{}
			port.receiver = got.receiver()
			good := theirUDP(t, peerB, local, []byte("good"))
			if err := newIntake(h).receive([][]byte{tt.packet, good}); err != nil {
				t.Fatal(err)
			}
			tt.want.Received = 1
			if c := h.Counters(); c != tt.want {
				t.Errorf("counters %+v, want %+v", c, tt.want)
			}
			got.want(t, datagram{peerB, "good"})
			if u.batches != 0 {
				t.Errorf("answered with %x", u.packets)
			}
		})
	}
}

func TestMappedSourceIsDropped(t *testing.T) {
	h, _, _ := newLoneHost(t)
	b := theirUDP(t, Addr{IA: ia110, Host: v6b, Port: 1}, h.Local(), nil)
	mapped := netip.AddrFrom16(v4b.As16()).As16()
	copy(b[32:], mapped[:])
	p, err := ParsePacket(b)
	if err != nil {
		t.Fatal(err)
	}
	udp := p.Payload()
	udp[6], udp[7] = 0, 0
	sum := udpChecksum(addSum(pseudoSum(p.addresses(), 17, len(udp)), udp))
	udp[6], udp[7] = byte(sum>>8), byte(sum)
	if err := newIntake(h).receive([][]byte{b}); err != nil {
		t.Fatal(err)
	}
	if c := h.Counters(); c != (Counters{Malformed: 1}) {
		t.Errorf("counters %+v", c)
	}
}

func TestExtensionsAreSkipped(t *testing.T) {
	h, port, _ := newLoneHost(t)
	got := &collected{}
	port.receiver = got.receiver()
	s := theirHeader(t, peerB, h.Local(), slayers.HopByHopClass)
	u := &slayers.UDP{SrcPort: peerB.Port, DstPort: h.Local().Port}
	u.SetNetworkLayerForChecksum(s)
	hbh, e2e := &slayers.HopByHopExtn{}, &slayers.EndToEndExtn{}
	hbh.NextHdr, e2e.NextHdr = slayers.End2EndClass, slayers.L4UDP
	e2e.Options = []*slayers.EndToEndOption{{OptType: slayers.OptTypeAuthenticator, OptData: make([]byte, 28)}}
	b := serialize(t, s, hbh, e2e, u, gopacket.Payload("behind"))
	if err := newIntake(h).receive([][]byte{b}); err != nil {
		t.Fatal(err)
	}
	got.want(t, datagram{peerB, "behind"})
}

func TestDetachedHostReceivesNothing(t *testing.T) {
	h, _, _ := newLoneHost(t)
	b := theirUDP(t, peerB, h.Local(), nil)
	h.SetLocal(Addr{})
	if err := newIntake(h).receive([][]byte{b}); err != nil {
		t.Fatal(err)
	}
	if c := h.Counters(); c != (Counters{WrongDestination: 1}) || h.Local() != (Addr{}) {
		t.Errorf("counters %+v, local address %s", c, h.Local())
	}
}

func TestListen(t *testing.T) {
	h, _, _ := newLoneHost(t) // has port 0
	for _, port := range []uint16{5, 0, 5} {
		if _, err := h.Listen(port); (err == nil) != (port == 5) && !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("Listen(%d): %v", port, err)
		}
	}
	if _, err := h.Listen(5); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("Listen(5) again: %v, want EADDRINUSE", err)
	}
}

func TestPortRuns(t *testing.T) {
	t.Run("until ctx ends, and again", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			_, port, _ := newLoneHost(t)
			for range 2 {
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error)
				go func() { done <- port.Run(ctx, nil) }()
				synctest.Wait()
				if err := port.Run(ctx, nil); !errors.Is(err, errReceiving) {
					t.Errorf("second Run: %v", err)
				}
				cancel()
				if err := <-done; err != nil {
					t.Errorf("Run: %v", err)
				}
			}
		})
	})
	t.Run("until deliver fails", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h, port, _ := newLoneHost(t)
			broken := errors.New("broken")
			done := make(chan error)
			go func() {
				done <- port.Run(t.Context(), func([]Addr, [][]byte) error { return broken })
			}()
			synctest.Wait()
			in := newIntake(h)
			for range 2 {
				if err := in.receive([][]byte{theirUDP(t, peerB, h.Local(), nil)}); err != nil {
					t.Fatal(err)
				}
			}
			if err := <-done; !errors.Is(err, broken) {
				t.Errorf("Run: %v, want %v", err, broken)
			}
			if c := h.Counters(); c != (Counters{Received: 1, NoPort: 1}) {
				t.Errorf("counters %+v", c)
			}
		})
	})
	t.Run("until the delivery under way is over", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h, port, _ := newLoneHost(t)
			ctx, cancel := context.WithCancel(t.Context())
			release := make(chan bool)
			var over sync.WaitGroup
			var ended, delivered bool
			over.Go(func() {
				_ = port.Run(ctx, func([]Addr, [][]byte) error { <-release; delivered = true; return nil })
				ended = delivered
			})
			synctest.Wait()
			over.Go(func() { _ = newIntake(h).receive([][]byte{theirUDP(t, peerB, h.Local(), nil)}) })
			synctest.Wait()
			cancel()
			close(release)
			over.Wait()
			if !ended {
				t.Error("Run returned during a delivery")
			}
		})
	})
}

func TestHostRunReturnsTheUnderlaysError(t *testing.T) {
	broken := errors.New("broken")
	h := NewHost(HostConfig{Underlay: brokenUnderlay{broken}})
	if err := h.Run(t.Context()); !errors.Is(err, broken) {
		t.Errorf("Run: %v, want %v", err, broken)
	}
}

// A brokenUnderlay takes half of what is sent.
type brokenUnderlay struct{ err error }

func (u brokenUnderlay) Run(context.Context, func([][]byte) error) error { return u.err }
func (u brokenUnderlay) WritePackets(p [][]byte) (int, error)            { return len(p) / 2, u.err }
