package netsim

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestSameSeedSameFate(t *testing.T) {
	link := Link{Delay: 20 * time.Millisecond, Jitter: 5 * time.Millisecond, Loss: 0.2, Duplicate: 0.1, Reorder: 0.1}
	fates := func(seed uint64) (got []int) {
		synctest.Test(t, func(t *testing.T) {
			n := New[string](seed, link)
			got = exchange(t, n, 1000)
		})
		return got
	}
	first := fates(7)
	if again := fates(7); !slices.Equal(first, again) {
		t.Error("the same seed gave another order of arrivals")
	}
	if other := fates(8); slices.Equal(first, other) {
		t.Error("another seed gave the same order of arrivals")
	}
	if len(first) < 800 || len(first) > 960 || slices.IsSorted(first) {
		t.Errorf("%d of 1,000 arrived, sorted %t, want about 880 unsorted", len(first), slices.IsSorted(first))
	}
}

func TestZeroLinkKeepsAllInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		got := exchange(t, New[string](1, Link{}), 1000)
		if len(got) != 1000 || !slices.IsSorted(got) {
			t.Errorf("%d arrived, sorted %t, want all in order", len(got), slices.IsSorted(got))
		}
	})
}

func TestJitterKeepsTheOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		got := exchange(t, New[string](1, Link{Delay: time.Millisecond, Jitter: 50 * time.Millisecond}), 200)
		if len(got) != 200 || !slices.IsSorted(got) {
			t.Errorf("%d arrived, sorted %t, want all in order", len(got), slices.IsSorted(got))
		}
	})
}

func TestDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New[string](1, Link{Delay: 30 * time.Millisecond})
		a, b := listen(t, n, "a"), listen(t, n, "b")
		got := run(t, b)
		sent := time.Now()
		write(t, a, "b", []byte("x"))
		if d := (<-got).at.Sub(sent); d != 30*time.Millisecond {
			t.Errorf("took %v, want 30ms", d)
		}
	})
}

func TestRateMakesWaitAndOverflow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New[string](1, Link{Rate: 100_000, QueueTime: 100 * time.Millisecond})
		a, b := listen(t, n, "a"), listen(t, n, "b")
		got := run(t, b)
		sent := time.Now()
		for range 100 {
			write(t, a, "b", make([]byte, 1000))
		}
		time.Sleep(time.Second)
		if len(got) != 11 {
			t.Fatalf("%d datagrams of 10 ms passed a queue of 100 ms, want 11", len(got))
		}
		if d := (<-got).at.Sub(sent); d != 10*time.Millisecond {
			t.Errorf("the first took %v, want 10ms", d)
		}
		if c := n.Counters(); c.Overflowed != 89 {
			t.Errorf("%d overflowed, want 89", c.Overflowed)
		}
	})
}

func TestMTU(t *testing.T) {
	n := New[string](1, Link{MTU: 100})
	a, _ := listen(t, n, "a"), listen(t, n, "b")
	sent, err := a.WritePackets([]string{"b", "b"}, [][]byte{make([]byte, 101), make([]byte, 100)})
	if sent != 1 || err != nil {
		t.Errorf("WritePackets = %d, %v, want 1, nil", sent, err)
	}
}

func TestRebind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New[string](1, Link{})
		a, b := listen(t, n, "a"), listen(t, n, "b")
		toA, toB := run(t, a), run(t, b)
		if err := a.Rebind("nat"); err != nil {
			t.Fatal(err)
		}
		write(t, a, "b", []byte("x"))
		if d := <-toB; d.from != "nat" {
			t.Errorf("seen at %q, want nat", d.from)
		}
		write(t, b, "a", []byte("lost"))
		write(t, b, "nat", []byte("y"))
		if d := <-toA; string(d.packet) != "y" || d.from != "b" {
			t.Errorf("got %q from %q, want y from b", d.packet, d.from)
		}
		if a.LocalAddr() != "a" {
			t.Errorf("own address is %q, want a", a.LocalAddr())
		}
		if err := a.Rebind("b"); err == nil {
			t.Error("rebound to an address in use")
		}
	})
}

func TestHintsAndCuts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New[string](1, Link{Delay: time.Millisecond})
		a, b := listen(t, n, "a"), listen(t, n, "b")
		toA, toB := run(t, a), run(t, b)
		write(t, a, "nobody", []byte("x"))
		n.SetHints(true)
		write(t, a, "nobody", []byte("x"))
		if d := <-toA; d.packet != nil || d.from != "nobody" {
			t.Errorf("got %q from %q, want a hint about nobody", d.packet, d.from)
		}
		n.Cut("a", "b", true)
		write(t, a, "b", []byte("cut"))
		n.Cut("a", "b", false)
		write(t, a, "b", []byte{})
		if d := <-toB; d.packet == nil || len(d.packet) != 0 {
			t.Errorf("got %q, want an empty datagram that is not nil", d.packet)
		}
	})
}

func TestFilterAndInject(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New[string](1, Link{})
		a, b := listen(t, n, "a"), listen(t, n, "b")
		toB := run(t, b)
		n.SetFilter(func(from, to string, p []byte) bool {
			p[0]++
			return p[0] != 'x'
		})
		write(t, a, "b", []byte("w"))
		write(t, a, "b", []byte("a"))
		if d := <-toB; string(d.packet) != "b" {
			t.Errorf("got %q, want b", d.packet)
		}
		if !n.Inject("forged", "b", []byte("z")) || n.Inject("forged", "nobody", nil) {
			t.Error("Inject reports the wrong endpoints")
		}
		if d := <-toB; string(d.packet) != "z" || d.from != "forged" {
			t.Errorf("got %q from %q, want z from forged", d.packet, d.from)
		}
	})
}

func TestLentBytesAreOverwritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New[string](1, Link{})
		a, b := listen(t, n, "a"), listen(t, n, "b")
		ctx, cancel := context.WithCancel(t.Context())
		write(t, a, "b", []byte("kept"))
		var kept []byte
		err := b.Run(ctx, func(_ []string, packets [][]byte) error {
			kept = packets[0]
			packets[0] = nil
			cancel()
			return nil
		})
		if err != nil || string(kept) == "kept" {
			t.Errorf("Run = %v and the packet is still %q, want nil and rubbish", err, kept)
		}
	})
}

func TestClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New[string](1, Link{})
		a := listen(t, n, "a")
		if _, err := n.Listen("a"); err == nil {
			t.Error("an address was taken twice")
		}
		done := make(chan error)
		go func() { done <- a.Run(t.Context(), nil) }()
		synctest.Wait()
		if err := a.Close(); err != nil {
			t.Error(err)
		}
		if err := <-done; !errors.Is(err, net.ErrClosed) {
			t.Errorf("Run = %v, want net.ErrClosed", err)
		}
		if _, err := a.WritePackets(nil, nil); !errors.Is(err, net.ErrClosed) {
			t.Errorf("WritePackets = %v, want net.ErrClosed", err)
		}
		if err := a.Close(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Close = %v, want net.ErrClosed", err)
		}
		if _, err := n.Listen("a"); err != nil {
			t.Errorf("the address is not free again: %v", err)
		}
	})
}

func TestErrorOfDeliverEndsRun(t *testing.T) {
	n := New[string](1, Link{})
	a := listen(t, n, "a")
	write(t, a, "a", []byte("x"))
	want := errors.New("enough")
	if err := a.Run(t.Context(), func([]string, [][]byte) error { return want }); err != want {
		t.Errorf("Run = %v, want %v", err, want)
	}
}

type received struct {
	from   string
	packet []byte
	at     time.Time
}

func listen(t *testing.T, n *Network[string], a string) *Endpoint[string] {
	t.Helper()
	e, err := n.Listen(a)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func write(t *testing.T, e *Endpoint[string], to string, packet []byte) {
	t.Helper()
	if n, err := e.WritePackets([]string{to}, [][]byte{packet}); n != 1 || err != nil {
		t.Fatalf("WritePackets = %d, %v", n, err)
	}
}

// run receives in the background until the test ends.
func run(t *testing.T, e *Endpoint[string]) <-chan received {
	got := make(chan received, 10000)
	done := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		defer close(done)
		e.Run(ctx, func(from []string, packets [][]byte) error {
			for i, p := range packets {
				if p != nil {
					p = append([]byte{}, p...)
				}
				got <- received{from[i], p, time.Now()}
			}
			return nil
		})
	}()
	t.Cleanup(func() { cancel(); <-done })
	return got
}

// exchange sends numbered datagrams and returns the numbers as they arrive.
func exchange(t *testing.T, n *Network[string], count int) (got []int) {
	a, b := listen(t, n, "a"), listen(t, n, "b")
	arrived := run(t, b)
	for i := range count {
		write(t, a, "b", binary.BigEndian.AppendUint16(nil, uint16(i)))
		time.Sleep(time.Millisecond)
	}
	time.Sleep(time.Second)
	for len(arrived) > 0 {
		got = append(got, int(binary.BigEndian.Uint16((<-arrived).packet)))
	}
	return got
}
