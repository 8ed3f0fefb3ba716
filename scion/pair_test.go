package scion

import (
	"bytes"
	"context"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
)

var peerB = Addr{IA: ia110, Host: v4b, Port: 4000}

// newLoneHost is the host 192.0.2.1 with the assigned port 1000 open, on an
// underlay that keeps what is sent. Nothing runs.
func newLoneHost(t testing.TB) (*Host, *Port, *sink) {
	t.Helper()
	u := &sink{}
	h := NewHost(HostConfig{Underlay: u})
	h.SetLocal(Addr{IA: ia110, Host: v4a, Port: 1000})
	port, err := h.Listen(0)
	if err != nil {
		t.Fatal(err)
	}
	return h, port, u
}

// runPair runs two hosts with one wire between them, to the end of the test.
// It is for synctest bubbles.
func runPair(t *testing.T, a, b netip.Addr) (hostA, hostB *Host, portA, portB *Port) {
	t.Helper()
	toA, toB := make(chan [][]byte, 16), make(chan [][]byte, 16)
	start := func(u *wire, host netip.Addr, number uint16) (*Host, *Port) {
		h := NewHost(HostConfig{Underlay: u})
		h.SetLocal(Addr{IA: ia110, Host: host, Port: number})
		port, err := h.Listen(0)
		if err != nil {
			t.Fatal(err)
		}
		run(t, h.Run)
		return h, port
	}
	hostA, portA = start(&wire{in: toA, out: toB}, a, 1000)
	hostB, portB = start(&wire{in: toB, out: toA}, b, 2000)
	return hostA, hostB, portA, portB
}

// run runs something until the test ends and waits for it.
func run(t *testing.T, f func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// A wire is one end of an in-memory underlay.
type wire struct {
	in  <-chan [][]byte
	out chan<- [][]byte
}

func (w *wire) Run(ctx context.Context, deliver func([][]byte) error) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case packets := <-w.in:
			if err := deliver(packets); err != nil {
				return err
			}
			for _, b := range packets {
				clear(b) // they were lent
			}
		}
	}
}

func (w *wire) WritePackets(packets [][]byte) (int, error) {
	batch := make([][]byte, len(packets))
	for i, b := range packets {
		batch[i] = bytes.Clone(b)
	}
	select {
	case w.out <- batch:
		return len(packets), nil
	default:
		return 0, nil
	}
}

type datagram struct {
	from    Addr
	payload string
}

// collected is what a port delivered.
type collected struct{ datagrams []datagram }

const nilPacket = "(nil)" // the payload of one

func (c *collected) receiver() *receiver {
	return &receiver{failed: make(chan error, 1), deliver: func(from []Addr, packets [][]byte) error {
		for i, b := range packets {
			d := datagram{from[i], string(b)}
			if b == nil {
				d.payload = nilPacket
			}
			c.datagrams = append(c.datagrams, d)
		}
		return nil
	}}
}

// collect receives from a port until the test ends.
func collect(t *testing.T, p *Port) *collected {
	t.Helper()
	c := &collected{}
	deliver := c.receiver().deliver
	run(t, func(ctx context.Context) error { return p.Run(ctx, deliver) })
	synctest.Wait()
	return c
}

func (c *collected) want(t *testing.T, want ...datagram) {
	t.Helper()
	if !slices.Equal(c.datagrams, want) {
		t.Errorf("delivered %v, want %v", c.datagrams, want)
	}
}
