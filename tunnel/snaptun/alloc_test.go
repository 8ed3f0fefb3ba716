package snaptun

import (
	"bytes"
	"testing"
)

func requireNoAllocs(t *testing.T, f func()) {
	t.Helper()
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	if n := testing.AllocsPerRun(200, f); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestKeypairDoesNotAllocate(t *testing.T) {
	a, b := connectedPair(t)
	payload := make([]byte, 1350)
	buf := make([]byte, 0, 1500)
	var sealed []byte
	requireNoAllocs(t, func() {
		k, counter, _ := a.Reserve(1, start)
		sealed = k.Seal(buf, counter, payload)
		if _, err := b.peer.current.Open(sealed); err != nil {
			t.Fatal(err)
		}
	})
}

func TestSessionDoesNotAllocate(t *testing.T) {
	a, b := connectedPair(t)
	payload := make([]byte, 1350)
	buf := make([]byte, 0, 1500)
	requireNoAllocs(t, func() {
		sealed, err := a.Seal(buf, payload, start)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := b.HandleDatagram(sealed, start); err != nil || len(got) != len(payload) {
			t.Fatal(err)
		}
	})
}

func TestResponderDoesNotAllocate(t *testing.T) {
	f := newField(t)
	s := f.client(1)
	f.connect(s, addr(1))
	payload := make([]byte, 1350)
	up, down := make([]byte, 0, 1500), make([]byte, 0, 1500)
	requireNoAllocs(t, func() {
		sealed, err := s.Seal(up, payload, f.now)
		if err != nil {
			t.Fatal(err)
		}
		if _, got, err := f.r.HandleDatagram(sealed, addr(1), f.now); err != nil || len(got) != len(payload) {
			t.Fatal(err)
		}
		sealed, _, err = f.r.Seal(down, addr(1), payload, f.now)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := s.HandleDatagram(sealed, f.now); err != nil || len(got) != len(payload) {
			t.Fatal(err)
		}
	})
}

// Rubbish and floods without a cookie leave nothing for the collector.
func TestRejectionDoesNotAllocate(t *testing.T) {
	f := newField(t)
	s := f.client(1)
	f.connect(s, addr(1))
	badMAC := f.initiation(s)
	badMAC[20] ^= 1
	forged := seal(t, s, "x", f.now)
	forged[len(forged)-1] ^= 1
	buf := make([]byte, initiationSize)
	for name, b := range map[string][]byte{"mac1": badMAC, "data": forged, "rubbish": make([]byte, 60)} {
		t.Run(name, func(t *testing.T) {
			requireNoAllocs(t, func() {
				n := copy(buf, b)
				if _, _, err := f.r.HandleDatagram(buf[:n], addr(1), f.now); err == nil {
					t.Fatal("accepted")
				}
			})
		})
	}
}

func BenchmarkSeal(b *testing.B) {
	s, _ := connectedPair(b)
	payload := make([]byte, 1350)
	buf := make([]byte, 0, 1500)
	b.SetBytes(int64(len(payload)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Seal(buf, payload, start); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	s, other := connectedPair(b)
	k := other.peer.current
	sealed := seal(b, s, string(make([]byte, 1350)), start)
	buf := make([]byte, len(sealed))
	b.SetBytes(1350)
	b.ReportAllocs()
	for b.Loop() {
		copy(buf, sealed)
		if _, err := k.Open(buf); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkResponder is one small packet in and one out, without the time that
// the cipher needs for a long one.
func BenchmarkResponder(b *testing.B) {
	f := newField(b)
	s := f.client(1)
	f.connect(s, addr(1))
	payload := make([]byte, 40)
	up, down := make([]byte, 0, 100), make([]byte, 0, 100)
	b.ReportAllocs()
	for b.Loop() {
		k, counter, _ := s.Reserve(1, start)
		if _, _, err := f.r.HandleDatagram(k.Seal(up, counter, payload), addr(1), start); err != nil {
			b.Fatal(err)
		}
		if _, _, err := f.r.Seal(down, addr(1), payload, start); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkHandshake(b *testing.B) {
	s, other := newPair(b)
	b.ReportAllocs()
	for b.Loop() {
		s.host.gate.count, other.host.gate.count = 0, 0
		s.Initiate(start)
		exchange(b, s, other, start)
	}
}

// BenchmarkInitiation is what a flood costs: a stranger who knows our key.
func BenchmarkInitiation(b *testing.B) {
	for _, tt := range []struct {
		name  string
		limit int
	}{{"refused", 1 << 30}, {"cookie", 1}} {
		b.Run(tt.name, func(b *testing.B) {
			f := newField(b, limited(tt.limit))
			s := f.client(1)
			f.denied[s.host.public] = true
			m := f.initiation(s)
			buf := bytes.Clone(m)
			b.ReportAllocs()
			for b.Loop() {
				copy(buf, m)
				f.r.HandleDatagram(buf, addr(1), start)
				f.r.NextTransmit()
			}
		})
	}
}
