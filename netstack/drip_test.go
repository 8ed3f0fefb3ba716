package netstack

import (
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// fillHole makes a hole with packets behind it and fills it. It returns the
// acknowledgement that the sender is shown, in packets. Before it, set is called.
func (w flightsWorld) fillHole(flags byte, set func(w flightsWorld)) int {
	w.measure(2, 40*time.Millisecond)
	w.sendPackets(2, 200)
	w.clock.Advance(40 * time.Millisecond)
	w.sack(2, [2]int{3, 202})
	w.clock.Advance(40 * time.Millisecond)
	if set != nil {
		set(w)
	}
	b := tcpPacket{flags: flagACK | flags}.headers()
	src, dst := clientAddr.As16(), farAddr.As16()
	copy(b[8:], dst[:])
	copy(b[24:], src[:])
	put16(b[40:], 443)
	put16(b[42:], 1)
	put32(b[44:], 77)
	put32(b[48:], 202*mendSize)
	w.heard([]run{{head: b, headers: len(b), next: 77, total: len(b)}})
	return int(be32(b[48:]) / mendSize)
}

func TestFilledHoleIsAcknowledgedBitByBit(t *testing.T) {
	w := newFlightsWorld(false)
	defer w.close()
	var acks []int
	w.deliver = func(pkt *stack.PacketBuffer) {
		v := pkt.ToView()
		b := v.AsSlice()
		if len(b) != ipv6HeaderLen+int(be16(b[4:])) || len(b) != ipv6HeaderLen+int(b[52]>>4)*4 || be32(b[44:]) != 77 || b[53] != flagACK {
			t.Errorf("packet %x", b)
		}
		acks = append(acks, int(be32(b[48:])))
		v.Release()
		pkt.DecRef()
	}
	at := w.fillHole(0, nil)
	if want := 2 + dripBurst/mendSize; at != want {
		t.Fatalf("acknowledged up to packet %d at once, want %d", at, want)
	}
	for range 40 {
		w.clock.Advance(time.Millisecond)
	}
	last := at * mendSize
	for _, a := range acks {
		if a <= last || a > last+200*mendSize/10 {
			t.Errorf("acknowledged %d bytes after %d", a, last)
		}
		last = a
	}
	if last != 202*mendSize || len(acks) < 15 || len(acks) > 25 {
		t.Errorf("acknowledged %d of %d packets in %d steps", last/mendSize, 202, len(acks))
	}
	if len(w.mends) != 0 || w.last.mend.drip.rate != 0 {
		t.Error("something goes on after all is acknowledged")
	}
	w.filled()
}

func TestNothingDripsWhereItWouldHarm(t *testing.T) {
	for name, tt := range map[string]struct {
		flags byte
		set   func(w flightsWorld)
	}{
		"FIN":   {flagFIN, nil},
		"probe": {0, func(w flightsWorld) { w.last.probe.on = true }},
		"aside": {0, func(w flightsWorld) { w.last.mend.stepAside(w.last.next + 1) }},
	} {
		t.Run(name, func(t *testing.T) {
			w := newFlightsWorld(false)
			defer w.close()
			if at := w.fillHole(tt.flags, tt.set); at != 202 {
				t.Errorf("acknowledged up to packet %d, want all", at)
			}
			w.filled()
		})
	}
}

func TestAcknowledgementsInADrip(t *testing.T) {
	w := newFlightsWorld(false)
	w.deliver = func(pkt *stack.PacketBuffer) { pkt.DecRef() }
	at := w.fillHole(0, nil)
	w.filled()
	w.sendPackets(202, 5)
	w.clock.Advance(2 * time.Millisecond)
	d := &w.last.mend.drip
	w.answer(1, 205*mendSize, 0)
	if d.rate == 0 || !before(uint32(at)*mendSize, d.shown) || !before(d.shown, 205*mendSize) {
		t.Errorf("the sender knows up to packet %d", d.shown/mendSize)
	}
	w.answer(1, 100, flagRST)
	if len(w.mends) != 0 {
		t.Error("a connection that is gone drips")
	}
	w.clock.Advance(time.Second)
	w.close()
}
