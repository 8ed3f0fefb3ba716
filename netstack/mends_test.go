package netstack

import (
	"slices"
	"testing"
	"time"
)

const mendSize = 1312 - ipv6HeaderLen - tcpHeaderLen // of a packet's payload

// sendPackets sends that many packets on connection 1, from packet first on.
func (w flightsWorld) sendPackets(first, n int) {
	for i := range n {
		w.send(1, uint32(first+i)*mendSize, flagACK, mendSize)
	}
}

// sack lets an acknowledgement of what is before packet ack come in that
// selectively acknowledges packets, from and to. It returns what of the latter the
// sender is shown, and what it is told besides.
func (w flightsWorld) sack(ack int, blocks ...[2]int) (shown int, told [][2]int) {
	options := []byte{1, 1, 5, byte(2 + 8*len(blocks))}
	for _, b := range blocks {
		options = append(options, make([]byte, 8)...)
		put32(options[len(options)-8:], uint32(b[0])*mendSize)
		put32(options[len(options)-4:], uint32(b[1])*mendSize)
	}
	b := tcpPacket{flags: flagACK, options: options}.headers()
	src, dst := clientAddr.As16(), farAddr.As16()
	copy(b[8:], dst[:])
	copy(b[24:], src[:])
	put16(b[40:], 443)
	put16(b[42:], 1)
	put32(b[48:], uint32(ack)*mendSize)
	runs := w.heard([]run{{head: b, headers: len(b), total: len(b)}})
	for s := sackOption(runs[0].head[ipv6HeaderLen:]); len(s) >= 10; s = s[8:] {
		shown++
	}
	for _, r := range runs[1:] {
		tcp := r.head[ipv6HeaderLen:]
		if len(tcp) != int(tcp[12]>>4)*4 || be32(tcp[8:]) != uint32(ack)*mendSize {
			told = append(told, [2]int{-1, -1})
		}
		for s := sackOption(tcp); len(s) >= 10; s = s[8:] {
			told = append(told, [2]int{int(be32(s[2:]) / mendSize), int(be32(s[6:]) / mendSize)})
		}
	}
	return shown, told
}

// filled returns the numbers of the packets that are queued to be sent again.
func (w flightsWorld) filled() (numbers []int) {
	w.out.mu.Lock()
	defer w.out.mu.Unlock()
	for i, ok := w.out.turns.pop(); ok; i, ok = w.out.turns.pop() {
		seq := be32(i.pkt.TransportHeader().Slice()[4:]) + i.part.from
		for n := seq / mendSize; n*mendSize < seq+i.part.to-i.part.from; n++ {
			numbers = append(numbers, int(n))
		}
		i.release()
	}
	w.out.bytes = 0
	return numbers
}

// measure makes a flight's round trip time known.
func (w flightsWorld) measure(packets int, rtt time.Duration) {
	w.sendPackets(0, packets)
	w.clock.Advance(rtt)
	w.answer(1, uint32(packets)*mendSize, 0)
}

func TestLossIsMendedUnseen(t *testing.T) {
	w := newFlightsWorld(false)
	defer w.close()
	w.measure(2, 40*time.Millisecond)
	w.sendPackets(2, 10)
	w.clock.Advance(40 * time.Millisecond)
	for end := 4; end <= 7; end++ {
		if shown, _ := w.sack(2, [2]int{3, end}); shown != 0 {
			t.Error("the sender was shown a hole")
		}
	}
	if got := w.filled(); !slices.Equal(got, []int{2}) {
		t.Errorf("filled %v, want packet 2 once", got)
	}
	w.clock.Advance(40 * time.Millisecond)
	w.answer(1, 12*mendSize, 0)
	w.clock.Advance(100 * time.Millisecond)
	if got := w.filled(); got != nil || len(w.mends) != 0 {
		t.Errorf("filled %v after all was well; %d flights are mended", got, len(w.mends))
	}
}

func TestFillingThatIsLostIsRepeated(t *testing.T) {
	w := newFlightsWorld(false)
	defer w.close()
	w.measure(2, 40*time.Millisecond)
	w.sendPackets(2, 10)
	w.clock.Advance(40 * time.Millisecond)
	w.sack(2, [2]int{3, 12})
	tries := len(w.filled())
	for range 6 {
		w.clock.Advance(30 * time.Millisecond)
		tries += len(w.filled())
	}
	if tries != maxTries {
		t.Errorf("sent %d times, want %d", tries, maxTries)
	}
	if shown, _ := w.sack(2, [2]int{3, 12}); shown != 1 {
		t.Error("the sender does not hear that it must mend")
	}
}

func TestReorderingIsLearned(t *testing.T) {
	w := newFlightsWorld(false)
	defer w.close()
	w.measure(2, 40*time.Millisecond)
	wasted := 0
	for i := 2; i < 200; i += 10 {
		w.sendPackets(i, 10)
		w.clock.Advance(40 * time.Millisecond)
		w.sack(i, [2]int{i + 1, i + 8})
		w.clock.Advance(2 * time.Millisecond)
		w.sack(i, [2]int{i + 1, i + 9})
		w.answer(1, uint32(i+10)*mendSize, 0)
		wasted += len(w.filled())
	}
	if wasted != 1 {
		t.Errorf("sent %d packets in vain, want one", wasted)
	}
	if c := w.last.mend.credit; c < firstCredit {
		t.Errorf("credit %d: what was late counts as lost", c)
	}
}

func TestCongestionIsTold(t *testing.T) {
	for name, set := range map[string]func(w flightsWorld) (want [][2]int){
		"much loss": func(w flightsWorld) [][2]int {
			w.last.mend.credit = 3 * creditPerPacket
			return [][2]int{{3, 5}, {7, 8}, {10, 11}, {12, 20}}
		},
		"a standing queue": func(w flightsWorld) [][2]int {
			w.last.gauge.low, w.last.gauge.count = 60*time.Millisecond, 9
			return [][2]int{{3, 5}, {7, 8}, {10, 11}, {12, 20}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newFlightsWorld(false)
			defer w.close()
			w.measure(2, 40*time.Millisecond)
			w.sendPackets(2, 30)
			want := set(w)
			w.clock.Advance(65 * time.Millisecond)
			w.last.peer.heard = w.clock.NowMonotonic()
			w.last.mend.reorder = 10 * time.Millisecond
			w.sack(2, [2]int{3, 5})
			w.sack(2, [2]int{7, 8}, [2]int{3, 5})
			w.sack(2, [2]int{10, 11}, [2]int{7, 8}, [2]int{3, 5})
			w.clock.Advance(30 * time.Millisecond)
			shown, told := w.sack(2, [2]int{12, 20}, [2]int{10, 11}, [2]int{7, 8})
			if shown != 3 || !slices.Equal(told, want) {
				t.Errorf("the sender is shown %d blocks, and told %v, want %v", shown, told, want)
			}
			w.filled()
			w.clock.Advance(200 * time.Millisecond)
			if got := w.filled(); got != nil {
				t.Errorf("filled %v while the sender mends", got)
			}
			w.answer(1, 32*mendSize, 0)
			if w.last.mend.aside {
				t.Error("the sender still mends alone")
			}
		})
	}
}

func TestSenderThatSendsAgainMendsAlone(t *testing.T) {
	w := newFlightsWorld(false)
	defer w.close()
	w.measure(2, 40*time.Millisecond)
	w.sendPackets(2, 10)
	w.sendPackets(11, 1) // a tail loss probe
	if w.last.mend.aside {
		t.Error("a probe is taken for a recovery")
	}
	w.sendPackets(2, 2)
	w.clock.Advance(40 * time.Millisecond)
	if shown, _ := w.sack(4, [2]int{5, 12}); shown != 1 {
		t.Error("the sender, which has begun to recover, is not shown a hole")
	}
	if got := w.filled(); got != nil {
		t.Errorf("filled %v as well", got)
	}
}

func TestForgedSACK(t *testing.T) {
	w := newFlightsWorld(false)
	defer w.close()
	w.measure(2, 40*time.Millisecond)
	w.sendPackets(2, 10)
	w.clock.Advance(40 * time.Millisecond)
	w.sack(2, [2]int{13, 14}, [2]int{9, 8}, [2]int{0, 1})
	w.sack(2, [2]int{5, 1 << 20})
	w.sack(2, [2]int{1 << 20, 2})
	w.clock.Advance(100 * time.Millisecond)
	if got := w.filled(); got != nil || len(w.last.mend.holes) != 0 {
		t.Errorf("filled %v for what was never sent", got)
	}
}

func TestMendsAreBoundedAndEndWithTheirConnections(t *testing.T) {
	w := newFlightsWorld(false)
	options := []byte{1, 1, 5, 10, 0, 0, 4, 0, 0, 0, 6, 0}
	for port := range uint16(maxMends + 10) {
		w.send(port, 0, flagACK, 3000)
		b := tcpPacket{flags: flagACK, options: options}.headers()
		src, dst := clientAddr.As16(), farAddr.As16()
		copy(b[8:], dst[:])
		copy(b[24:], src[:])
		put16(b[40:], 443)
		put16(b[42:], port)
		w.heard([]run{{head: b, headers: len(b), total: len(b)}})
	}
	if len(w.mends) != maxMends {
		t.Errorf("%d flights are mended, want %d", len(w.mends), maxMends)
	}
	for port := range uint16(100) {
		w.answer(port, 0, flagRST)
	}
	if len(w.mends) != maxMends-100 {
		t.Errorf("%d flights are mended after 100 ended", len(w.mends))
	}
	for i, fl := range w.mends {
		if fl.mend.listed != i+1 || w.table[fl.tuple] != fl {
			t.Fatal("the list is out of order")
		}
	}
	w.close()
	if len(w.mends) != 0 {
		t.Errorf("%d flights are mended after the end", len(w.mends))
	}
	w.mendTick()
}

func TestMendingAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	w := newFlightsWorld(false)
	defer w.close()
	w.measure(2, 40*time.Millisecond)
	w.sendPackets(2, 10)
	options := []byte{1, 1, 5, 10, 0, 0, 0, 0, 0, 0, 0, 0}
	put32(options[4:], 4*mendSize)
	put32(options[8:], 5*mendSize)
	b := tcpPacket{flags: flagACK, options: options}.headers()
	src, dst := clientAddr.As16(), farAddr.As16()
	copy(b[8:], dst[:])
	copy(b[24:], src[:])
	put16(b[40:], 443)
	put16(b[42:], 1)
	put32(b[48:], 2*mendSize)
	runs := []run{{head: b, headers: len(b), total: len(b)}}
	step := func() {
		copy(b[60:], options)
		w.heard(runs)
	}
	step()
	if n := testing.AllocsPerRun(1000, step); n != 0 {
		t.Errorf("%v allocations for an acknowledgement with a hole, want 0", n)
	}
}

func TestResentSegmentSaysWhenItLeft(t *testing.T) {
	w := newFlightsWorld(false)
	defer w.close()
	p := tcpPacket{flags: flagACK, payload: make([]byte, 100), view: 1 << 16,
		options: []byte{1, 1, 8, 10, 0, 0, 1, 0, 0, 0, 0, 9}}
	item := p.item()
	ip, tcp := item.pkt.NetworkHeader().Slice(), slices.Clone(item.pkt.TransportHeader().Slice())
	w.sent(item.pkt, ip, item.pkt.TransportHeader().Slice(), 100)
	item.release()
	w.clock.Advance(70*time.Millisecond + 900*time.Microsecond)
	if !w.renew(ip, tcp) || be32(tcp[24:]) != 256+70 || be32(tcp[28:]) != 9 {
		t.Errorf("timestamp %d, %d, want 326, 9", be32(tcp[24:]), be32(tcp[28:]))
	}
}
