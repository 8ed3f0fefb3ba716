package tunnel

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"testing"
	"time"
)

var frameEpoch = time.Unix(1_800_000_000, 0)

func TestFrameVector(t *testing.T) { // edgetun.md §5
	packet, _ := hex.DecodeString("4500001400000000403b00000a0000020a000001")
	var s stream
	frames := s.appendFrames(nil, packet, 1000)
	want := "0000000000000000000080000000000" + "04500001400000000403b00000a0000020a000001"
	if len(frames) != 1 || hex.EncodeToString(frames[0].append(nil)) != want {
		t.Errorf("frames = %+v, want one of %s", frames, want)
	}
}

func TestFrameExample(t *testing.T) { // edgetun.md §6
	var s stream
	s.next.Store(0x5dc)
	packet := make([]byte, 1400)
	frames := s.appendFrames(nil, packet, 1000)
	if len(frames) != 2 || frames[0].last || !frames[1].last || frames[1].offset != 0x3d8 || len(frames[1].data) != 416 ||
		frames[0].stream != 0x5dc || frames[1].stream != 0x5dc {
		t.Errorf("frames = %+v", frames)
	}
	if next := s.appendFrames(nil, packet, 1000); next[0].stream != 0xb54 {
		t.Errorf("the next packet stands at %#x, want 0xb54", next[0].stream)
	}
}

func TestFrameSizesAreClampedAndExact(t *testing.T) {
	for _, tt := range []struct{ packet, size, frames, first int }{
		{1, 1000, 1, 1}, {984, 1000, 1, 984}, {985, 1000, 2, 984},
		{65535, 272, 256, 256}, {65535, 0, 256, 256}, {65535, -5, 256, 256},
		{65535, 1 << 20, 8, 8984}, {8984, 1 << 20, 1, 8984},
	} {
		var s stream
		frames := s.appendFrames(nil, make([]byte, tt.packet), tt.size)
		if len(frames) != tt.frames || len(frames[0].data) != tt.first {
			t.Errorf("%d bytes at %d: %d frames, the first of %d bytes, want %d, %d",
				tt.packet, tt.size, len(frames), len(frames[0].data), tt.frames, tt.first)
		}
	}
}

func TestStreamStartsBehindEarlierRuns(t *testing.T) {
	var first, second stream
	first.start(frameEpoch)
	for range 1000 {
		first.reserve(maxPacket)
	}
	second.start(frameEpoch.Add(time.Second))
	if a, b := first.reserve(1), second.reserve(1); b <= a {
		t.Errorf("a run a second later starts at %d, before %d", b, a)
	}
}

func TestReassemblyInAnyOrder(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var s stream
	s.start(frameEpoch)
	var r reassembler
	r.init(8)
	for _, size := range []int{257, 984, 985, 1400, 9000, 65535} {
		for _, mtu := range []int{272, 1000, 1312, 9000} {
			packet := randomPacket(rng, size)
			frames := s.appendFrames(nil, packet, mtu)
			rng.Shuffle(len(frames), func(i, j int) { frames[i], frames[j] = frames[j], frames[i] })
			for i := range frames {
				got, buffer, err := r.add(frames[i].append(nil), frameEpoch)
				if done := i == len(frames)-1; err != nil || done != (got != nil) || done && !bytes.Equal(got, packet) {
					t.Fatalf("%d bytes at %d, frame %d of %d: %d bytes, %v", size, mtu, i, len(frames), len(got), err)
				}
				if buffer != nil {
					reassemblyBuffers.Put(buffer)
				}
			}
			if len(frames) > 1 {
				if _, _, err := r.add(frames[0].append(nil), frameEpoch); err != errTooOld {
					t.Errorf("a late frame: %v, want %v", err, errTooOld)
				}
			}
		}
	}
}

func TestReassemblyRefuses(t *testing.T) {
	type part struct {
		offset, n int
		last      bool
		want      error
	}
	for _, tt := range []struct {
		name  string
		parts []part
	}{
		{"empty", []part{{0, 0, true, errInvalidHeader}}},
		{"small", []part{{0, 255, false, errFrameTooSmall}}},
		{"misaligned", []part{{100, 256, false, errAlignment}}},
		{"inconsistent", []part{{0, 256, false, nil}, {512, 512, false, errInconsistent}}},
		{"duplicate", []part{{0, 256, false, nil}, {0, 256, false, errDuplicate}, {256, 3, true, nil}}},
		{"duplicate last", []part{{256, 5, true, nil}, {256, 5, true, errDuplicate}}},
		{"out of bounds", []part{{65280, 512, false, errOutOfBounds}}},
		{"too large", []part{{65280, 300, true, errPacketTooLarge}}},
		{"index 255", []part{{65280 - 256, 256, false, nil}, {65280, 255, true, nil}}},
		{"last misaligned", []part{{0, 256, false, nil}, {300, 5, true, errLastAlignment}}},
		{"last misaligned, before the first", []part{{300, 5, true, nil}, {0, 256, false, errLastAlignment}}},
		{"behind the last", []part{{256, 5, true, nil}, {256, 256, false, errOutOfBounds}}},
		{"last before others", []part{{512, 256, false, nil}, {256, 5, true, errOutOfBounds}}},
		{"killed by an error", []part{{0, 256, false, nil}, {100, 256, false, errAlignment}, {256, 5, true, errTooOld}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var r reassembler
			r.init(8)
			for i, p := range tt.parts {
				f := frame{stream: 7, offset: p.offset, last: p.last, data: make([]byte, p.n)}
				if _, _, err := r.add(f.append(nil), frameEpoch); !errors.Is(err, p.want) {
					t.Errorf("part %d: %v, want %v", i, err, p.want)
				}
			}
		})
	}
	var r reassembler
	r.init(1)
	for n := range frameHeader + 1 {
		if _, _, err := r.add(make([]byte, n), frameEpoch); err != errInvalidHeader {
			t.Errorf("%d bytes: %v, want %v", n, err, errInvalidHeader)
		}
	}
}

func TestReassemblyEvictsTheLowest(t *testing.T) {
	var r reassembler
	r.init(8)
	first := func(stream uint64) error {
		_, _, err := r.add((&frame{stream: stream, data: make([]byte, 256)}).append(nil), frameEpoch)
		return err
	}
	end := func(stream uint64) ([]byte, error) {
		p, _, err := r.add((&frame{stream: stream, offset: 256, last: true, data: []byte{1}}).append(nil), frameEpoch)
		return p, err
	}
	for i := range uint64(8) {
		if err := first(100 + i); err != nil {
			t.Fatal(err)
		}
	}
	if err := first(99); err != errTooOld {
		t.Errorf("older than all: %v, want %v", err, errTooOld)
	}
	if err := first(200); err != nil || r.takeEvicted() != 1 {
		t.Errorf("newer than all: %v, want a place", err)
	}
	if p, err := end(100); p != nil || err != errTooOld {
		t.Errorf("the evicted packet was continued: %v", err)
	}
	if p, err := end(101); len(p) != 257 || err != nil {
		t.Errorf("a packet of the others: %d bytes, %v", len(p), err)
	}
}

func TestReassemblyGivesBuffersBack(t *testing.T) {
	var r reassembler
	r.init(8)
	if r.expire(frameEpoch) {
		t.Error("busy without a packet")
	}
	f := frame{stream: 7, data: make([]byte, 256)}
	r.add(f.append(nil), frameEpoch)
	if !r.expire(frameEpoch.Add(reassemblyLifetime - 1)) {
		t.Error("gave up early")
	}
	if r.expire(frameEpoch.Add(reassemblyLifetime)) || r.queues[0].buffer != nil || r.takeEvicted() != 1 {
		t.Error("did not give up")
	}
	f = frame{stream: 8, data: make([]byte, 256)}
	r.add(f.append(nil), frameEpoch)
	r.release()
	for i := range r.queues {
		if r.queues[i].buffer != nil {
			t.Error("a buffer is left")
		}
	}
}

func TestPaddingIsCutOff(t *testing.T) {
	ip4 := append([]byte{0x45, 0, 0, 24}, make([]byte, 20)...)
	ip6 := append([]byte{0x60, 0, 0, 0, 0, 3}, make([]byte, 37)...)
	for _, tt := range []struct {
		b    []byte
		want int
	}{
		{ip4, 24}, {append(bytes.Clone(ip4), 0, 0, 0), 24}, {ip4[:22], 22},
		{ip6, 43}, {append(bytes.Clone(ip6), make([]byte, 13)...), 43}, {ip6[:41], 41},
		{[]byte{0x45}, 1}, {make([]byte, 100), 100}, {append([]byte{0x45, 0, 0, 3}, make([]byte, 20)...), 24},
	} {
		if got := len(cutToIP(tt.b)); got != tt.want {
			t.Errorf("cutToIP(%x) has %d bytes, want %d", tt.b, got, tt.want)
		}
	}
}

func TestFramesDoNotAllocate(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	var s stream
	var r reassembler
	r.init(8)
	packets := [][]byte{make([]byte, 1000), make([]byte, 9000)}
	var frames []frame
	var wire []byte
	n := testing.AllocsPerRun(1000, func() {
		for _, p := range packets {
			frames = s.appendFrames(frames[:0], p, 1300)
			for i := range frames {
				wire = frames[i].append(wire[:0])
				_, buffer, err := r.add(wire, frameEpoch)
				if err != nil {
					t.Fatal(err)
				}
				if buffer != nil {
					reassemblyBuffers.Put(buffer)
				}
			}
		}
	})
	if n > 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

// FuzzReassembly holds the reassembler against a model that keeps every packet
// for ever, as long as no queue is evicted.
func FuzzReassembly(f *testing.F) {
	f.Add([]byte{0, 0, 0, 1, 0, 1, 1, 0, 0, 0x81})
	f.Add([]byte{5, 0x83, 5, 2, 5, 1, 5, 0, 6, 0x80})
	f.Add([]byte{1, 0x40, 1, 0xc1, 1, 0x41, 2, 0xff})
	f.Fuzz(func(t *testing.T, script []byte) {
		var r reassembler
		r.init(8)
		m := model{}
		now := frameEpoch
		for len(script) >= 2 {
			// A byte for the packet, a byte for the frame: last, odd length, offset.
			stream, what := uint64(script[0]%8), script[1]
			script = script[2:]
			fr := frame{stream: stream, last: what&0x80 != 0, offset: int(what&0x3f) * 256}
			n := 256
			if what&0x40 != 0 {
				n += int(what & 7)
			}
			fr.data = bytes.Repeat([]byte{what}, n)
			want := m.add(fr)
			got, buffer, err := r.add(fr.append(nil), now)
			if !bytes.Equal(got, want) || err != nil && got != nil {
				t.Fatalf("frame at %d of %d bytes, last %t: got %d bytes (%v), want %d", fr.offset, n, fr.last, len(got), err, len(want))
			}
			if buffer != nil {
				reassemblyBuffers.Put(buffer)
			}
		}
	})
}

// FuzzDefragment feeds arbitrary frames.
func FuzzDefragment(f *testing.F) {
	var s stream
	for _, fr := range s.appendFrames(nil, make([]byte, 700), 272) {
		f.Add(fr.append(nil), []byte{0, 1, 2})
	}
	f.Fuzz(func(t *testing.T, a, b []byte) {
		var r reassembler
		r.init(2)
		for i, p := range [][]byte{a, b, a, b} {
			got, _, err := r.add(p, frameEpoch.Add(time.Duration(i)*reassemblyLifetime/2))
			if err != nil && got != nil || len(got) > maxPacket {
				t.Errorf("got %d bytes and %v", len(got), err)
			}
			r.expire(frameEpoch.Add(time.Duration(i) * reassemblyLifetime / 2))
		}
	})
}

// A model is the fragment layer without bounds on memory.
type model map[uint64]*modelPacket

type modelPacket struct {
	frames map[int]frame
	dead   bool
}

func (m model) add(f frame) []byte {
	if f.last && f.offset == 0 {
		return cutToIP(f.data)
	}
	p := m[f.stream]
	if p == nil {
		p = &modelPacket{frames: map[int]frame{}}
		m[f.stream] = p
	}
	if p.dead {
		return nil
	}
	_, twice := p.frames[f.offset]
	if twice && p.frames[f.offset].last == f.last && (f.last || len(p.frames[f.offset].data) == len(f.data)) {
		return nil
	}
	size, lastAt := 0, -1
	for _, g := range p.frames {
		if g.last {
			lastAt = g.offset
		} else {
			size = len(g.data)
		}
	}
	if f.last && lastAt >= 0 {
		return nil // the first one counts
	}
	if f.last {
		lastAt = f.offset
	} else if size == 0 {
		size = len(f.data)
	}
	bad := !f.last && (len(f.data) != size || f.offset%len(f.data) != 0)
	p.frames[f.offset+boolInt(f.last)<<20] = f
	for _, g := range p.frames {
		bad = bad || !g.last && lastAt >= 0 && g.offset+len(g.data) > lastAt
	}
	bad = bad || lastAt >= 0 && size > 0 && lastAt%size != 0
	if bad {
		p.dead = true
		return nil
	}
	var packet []byte
	for lastAt >= 0 && size > 0 {
		g, ok := p.frames[len(packet)]
		if len(packet) == lastAt {
			g, ok = p.frames[lastAt+1<<20]
		}
		if !ok {
			return nil
		}
		packet = append(packet, g.data...)
		if g.last {
			p.dead = true
			return cutToIP(packet)
		}
	}
	return nil
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// randomPacket returns bytes that are no IP packet.
func randomPacket(rng *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	b[0] &= 0x0f
	return b
}

func BenchmarkFrame(b *testing.B) {
	for _, size := range []int{1200, 9000} {
		b.Run(map[int]string{1200: "whole", 9000: "fragments"}[size], func(b *testing.B) {
			var s stream
			var r reassembler
			r.init(8)
			packet := make([]byte, size)
			var frames []frame
			var wire []byte
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				frames = s.appendFrames(frames[:0], packet, 1312)
				for i := range frames {
					wire = frames[i].append(wire[:0])
					if _, buffer, _ := r.add(wire, frameEpoch); buffer != nil {
						reassemblyBuffers.Put(buffer)
					}
				}
			}
		})
	}
}
