package scion

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/scionproto/scion/pkg/slayers"
)

// plainSum is RFC 1071 §4.1, word by word.
func plainSum(b []byte) uint16 {
	var s uint32
	for i, c := range b {
		if i%2 == 0 {
			s += uint32(c) << 8
		} else {
			s += uint32(c)
		}
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}

func TestSumOfAnyLength(t *testing.T) {
	r := newRand(1)
	for n := range 200 {
		for _, b := range [][]byte{randomBytes(r, n), bytes.Repeat([]byte{0xff}, n), make([]byte, n)} {
			if got, want := foldSum(addSum(0, b)), plainSum(b); got != want {
				t.Errorf("sum of %x = %#x, want %#x", b, got, want)
			}
			k := r.IntN(n+1) &^ 1
			if got, want := foldSum(addSum(addSum(0, b[:k]), b[k:])), plainSum(b); got != want {
				t.Errorf("sum of %x cut at %d = %#x, want %#x", b, k, got, want)
			}
			if got, want := foldSum(addSum(^uint64(0), b)), plainSum(b); got != want && n > 0 && want != 0 {
				t.Errorf("sum of %x from all ones = %#x, want %#x", b, got, want)
			}
		}
	}
}

func TestUDPChecksumIsNeverZero(t *testing.T) {
	if got := udpChecksum(0xffff); got != 0xffff {
		t.Errorf("checksum of a sum of all ones = %#x, want 0xffff", got)
	}
	if got := udpChecksum(0xfffe); got != 1 {
		t.Errorf("checksum = %#x, want 1", got)
	}
}

func BenchmarkSum(b *testing.B) {
	for _, n := range []int{64, 1400} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			p := make([]byte, n)
			b.SetBytes(int64(n))
			for b.Loop() {
				addSum(0, p)
			}
		})
	}
}

// The Rust SDK leaves the data out of its checksums.
func TestChecksumOfThePseudoHeaderAlone(t *testing.T) {
	h, port, u := newLoneHost(t)
	got := &collected{}
	port.receiver = got.receiver()
	udp := theirUDP(t, peerB, h.Local(), []byte("payload"))
	p, err := ParsePacket(udp)
	if err != nil {
		t.Fatal(err)
	}
	at := len(udp) - len(p.Payload()) + udpChecksumAt
	binary.BigEndian.PutUint16(udp[at:], ^foldSum(pseudoSum(p.addresses(), uint8(ProtocolUDP), len(p.Payload()))))
	echo := theirSCMP(t, peerB, h.Local(), 128, 0, &slayers.SCMPEcho{Identifier: 1000, SeqNumber: 7})
	if p, err = ParsePacket(echo); err != nil {
		t.Fatal(err)
	}
	at = len(echo) - len(p.Payload()) + scmpChecksumAt
	binary.BigEndian.PutUint16(echo[at:], ^foldSum(pseudoSum(p.addresses(), uint8(ProtocolSCMP), len(p.Payload()))))
	if err := newIntake(h).receive([][]byte{udp, echo}); err != nil {
		t.Fatal(err)
	}
	got.want(t, datagram{peerB, "payload"})
	if c := h.Counters(); c.Checksum != 0 || len(u.packets) != 1 {
		t.Errorf("counters %+v, %d packets sent, want the answer to the echo request", c, len(u.packets))
	}
}
