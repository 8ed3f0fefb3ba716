package netstack

import (
	"testing"
	"time"
)

func TestProbeInVainIsToldFromOneThatHelped(t *testing.T) {
	const seq = 1<<32 - 3000
	stamp := func(b []byte, val, echo uint32) []byte {
		put32(b[24:], val)
		put32(b[28:], echo)
		return b
	}
	options := []byte{1, 1, 8, 10, 0, 0, 0, 0, 0, 0, 0, 0}
	for _, tt := range []struct {
		name    string
		again   int // segments that are sent again
		ack     int
		echo    uint32
		payload int
		want    bool
	}{
		{"the answer was late", 1, 5000, 1000, 0, true},
		{"with data", 1, 5000, 1000, 700, true},
		{"the probe helped", 1, 5000, 1400, 0, false},
		{"not all is answered", 1, 3000, 1000, 0, false},
		{"no probe", 0, 5000, 1000, 0, false},
		{"a recovery", 2, 5000, 1000, 0, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newFlightsWorld(false)
			defer w.close()
			send := func(at int, val uint32) {
				item := tcpPacket{seq: uint32(seq + at), flags: flagACK, payload: make([]byte, 1000), view: 1 << 16, options: options}.item()
				tcp := stamp(item.pkt.TransportHeader().Slice(), val, 1)
				put16(tcp, 1)
				w.sent(item.pkt, item.pkt.NetworkHeader().Slice(), tcp, 1000)
				item.release()
			}
			for i := range 5 {
				send(1000*i, 1000)
			}
			w.clock.Advance(50 * time.Millisecond)
			for i := range tt.again {
				send(4000-1000*i, 1400)
			}
			b := tcpPacket{flags: flagACK, options: options}.headers()
			src, dst := clientAddr.As16(), farAddr.As16()
			copy(b[8:], dst[:])
			copy(b[24:], src[:])
			put16(b[40:], 443)
			put16(b[42:], 1)
			ack := uint32(seq + tt.ack)
			put32(b[48:], ack)
			stamp(b[ipv6HeaderLen:], 7, tt.echo)
			r := run{head: append(b, randomBytes(tt.payload)...), headers: len(b), total: len(b) + tt.payload}
			old := r
			runs := []run{r}
			w.heard(runs)
			r = runs[0]
			tcp := r.head[ipv6HeaderLen:]
			sack := sackOption(tcp)
			if got := sack != nil; got != tt.want {
				t.Fatalf("told that the probe was in vain: %v, want %v", got, tt.want)
			}
			if !tt.want {
				return
			}
			start, end := ack-1000, ack
			if len(sack) != 10 || be32(sack[2:]) != start || be32(sack[6:]) != end {
				t.Errorf("duplicate %x, want %x to %x", sack, start, end)
			}
			if int(tcp[12]>>4)*4 != r.headers-ipv6HeaderLen || r.total-r.headers != tt.payload || len(r.head) != r.total ||
				string(r.head[r.headers:]) != string(old.head[old.headers:]) || be32(tcp[8:]) != ack {
				t.Errorf("header %x, %d of %d bytes", r.head[:r.headers], r.headers, r.total)
			}
		})
	}
}
