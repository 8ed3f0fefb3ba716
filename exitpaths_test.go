package snapproxy

import (
	"math/rand/v2"
	"testing"
)

// packetOf returns an IPv6 packet with ports.
func packetOf(src, dst byte, protocol byte, sport, dport uint16) []byte {
	b := make([]byte, 60)
	b[0], b[6] = 0x60, protocol
	for i := range 16 {
		b[8+i], b[24+i] = src, dst
	}
	b[40], b[41], b[42], b[43] = byte(sport>>8), byte(sport), byte(dport>>8), byte(dport)
	return b
}

func TestFlowIsTheSameBothWays(t *testing.T) {
	for range 100 {
		here, there := byte(rand.Uint32()), byte(rand.Uint32())
		a, b := uint16(rand.Uint32()), uint16(rand.Uint32())
		out := flowOf(packetOf(here, there, 6, a, b), ipv6Dst)
		if in := flowOf(packetOf(there, here, 6, b, a), ipv6Src); in != out {
			t.Fatalf("flow %#x out, %#x in", out, in)
		}
		if other := flowOf(packetOf(here, there, 17, a, b), ipv6Dst); other == out {
			t.Error("UDP is the flow of TCP")
		}
	}
	if flowOf(make([]byte, 39), ipv6Dst) != 0 || flowOf(make([]byte, 40), ipv6Dst) != flowOf(make([]byte, 43), ipv6Src) {
		t.Error("packets without ports")
	}
}

func TestFlowsSpread(t *testing.T) {
	const flows, buckets = 4096, 256
	var n [buckets]int
	for port := range uint16(flows) {
		n[flowOf(packetOf(1, 2, 6, 10000+port, 443), ipv6Dst)%buckets]++
	}
	for i, got := range n {
		if got > 4*flows/buckets {
			t.Errorf("bucket %d has %d of %d flows", i, got, flows)
		}
	}
}

func BenchmarkFlowOf(b *testing.B) {
	p := packetOf(1, 2, 6, 1000, 443)
	for b.Loop() {
		flowOf(p, ipv6Dst)
	}
}
