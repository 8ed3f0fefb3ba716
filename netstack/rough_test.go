package netstack

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
)

// A roughLink loses, repeats and reorders what is written to it, by a seed.
type roughLink struct {
	*memLink
	loss, twice, late float64

	mu   sync.Mutex // guards what follows
	rand *rand.Rand
	held [][]byte // is overtaken by the next batches
	wait int
}

func (l *roughLink) WritePackets(packets [][]byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out [][]byte
	if l.wait--; l.wait <= 0 {
		out, l.held = append(out, l.held...), nil
	}
	for _, b := range packets {
		switch p := l.rand.Float64(); {
		case p < l.loss:
		case p < l.loss+l.twice:
			out = append(out, b, b)
		case p < l.loss+l.twice+l.late:
			if len(l.held) == 0 {
				l.wait = 1 + l.rand.IntN(3)
			}
			l.held = append(l.held, append([]byte(nil), b...))
		default:
			out = append(out, b)
		}
		if n := len(out); n > 1 && l.rand.Float64() < l.late {
			out[n-1], out[n-2] = out[n-2], out[n-1]
		}
	}
	l.memLink.WritePackets(out)
	return len(packets), nil
}

// TestTransferOverRoughLink compares every byte that crosses, both ways at once,
// links that lose, repeat and reorder packets.
func TestTransferOverRoughLink(t *testing.T) {
	for _, tt := range []struct {
		name              string
		loss, twice, late float64
		seeds             int
	}{
		{"loss", .002, 0, 0, 1},
		{"more loss", .02, 0, 0, 1},
		{"reordering", 0, 0, .05, 1},
		{"all", .003, .01, .02, 2},
	} {
		for seed := range tt.seeds {
			t.Run(fmt.Sprint(tt.name, " ", seed), func(t *testing.T) {
				t.Parallel()
				client, exit := newPair(1312)
				rough := func(l *memLink, n uint64) *roughLink {
					return &roughLink{memLink: l, loss: tt.loss, twice: tt.twice, late: tt.late, rand: rand.New(rand.NewPCG(uint64(seed), n))}
				}
				c := newStacks(t, rough(client, 1), rough(exit, 2), func(c *TCPConn) { echo(c) })
				checkEcho(t, c, 700<<10)
			})
		}
	}
}

// newStacks returns a connection from a stack on one link to an exit on the
// other, which end with the test.
func newStacks(t *testing.T, client, exit Link, serve func(*TCPConn)) *TCPConn {
	t.Helper()
	a, err := New(Config{Addr: clientAddr, Link: client})
	if err != nil {
		t.Fatal(err)
	}
	b, err := New(Config{Addr: exitAddr, Link: exit, TCP: acceptAnd(t, serve)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for _, s := range []*Stack{a, b} {
		wg.Go(func() { s.Run(ctx) })
	}
	t.Cleanup(func() {
		cancel()
		wg.Wait()
		for _, s := range []*Stack{a, b} {
			if len(s.flights.table) != 0 || len(s.flights.mends) != 0 {
				t.Errorf("%d flights and %d mended ones are left", len(s.flights.table), len(s.flights.mends))
			}
		}
	})
	return dial(t, &pair{client: a, exit: b}, farPort)
}
