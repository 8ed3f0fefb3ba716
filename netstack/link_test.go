package netstack

import (
	"context"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip"
)

var (
	clientAddr = netip.MustParseAddr("fd53:4e41::a:0:1")
	exitAddr   = netip.MustParseAddr("fd53:4e41::b:0:0")
	farAddr    = netip.MustParseAddr("64:ff9b:1::c000:201")
)

// A memLink is one end of an in-memory link.
type memLink struct {
	mtu  *atomic.Int64
	in   chan [][]byte
	peer *memLink
	// filter, if set, sees every packet that leaves and says whether it goes on.
	filter func(b []byte) bool
	lost   atomic.Int64 // packets that found the other end busy
	sent   atomic.Int64
	over   atomic.Int64 // TCP packets larger than the MTU
}

func (l *memLink) MTU(netip.Addr) int { return int(l.mtu.Load()) }

func (l *memLink) Run(ctx context.Context, deliver func([][]byte) error) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case batch := <-l.in:
			if err := deliver(batch); err != nil {
				return err
			}
		}
	}
}

func (l *memLink) WritePackets(packets [][]byte) (int, error) {
	size := 0
	for _, b := range packets {
		size += len(b)
	}
	block := make([]byte, 0, size)
	batch := make([][]byte, 0, len(packets))
	for _, b := range packets {
		if l.filter != nil && !l.filter(b) {
			continue
		}
		if b[6] == protoTCP && len(b) > int(l.mtu.Load()) {
			l.over.Add(1)
		}
		n := len(block)
		block = append(block, b...)
		batch = append(batch, block[n:])
	}
	l.sent.Add(int64(len(batch)))
	select {
	case l.peer.in <- batch:
	default:
		l.lost.Add(int64(len(batch)))
	}
	return len(packets), nil
}

// newPair returns the ends of a link.
func newPair(mtu int) (a, b *memLink) {
	a, b = &memLink{mtu: new(atomic.Int64), in: make(chan [][]byte, 1024)}, &memLink{in: make(chan [][]byte, 1024)}
	a.peer, b.peer, b.mtu = b, a, a.mtu
	a.mtu.Store(int64(mtu))
	return a, b
}

// A pair is a client and an exit back to back.
type pair struct {
	client, exit         *Stack
	clientLink, exitLink *memLink
}

// startPair runs a client and, with the handlers in cfg, an exit until the
// test ends.
func startPair(t testing.TB, mtu int, cfg Config, filters ...func(p *pair)) *pair {
	t.Helper()
	return startPairClock(t, mtu, cfg, nil, filters...)
}

func startPairClock(t testing.TB, mtu int, cfg Config, clock tcpip.Clock, filters ...func(p *pair)) *pair {
	t.Helper()
	p := new(pair)
	p.clientLink, p.exitLink = newPair(mtu)
	for _, f := range filters {
		f(p)
	}
	var err error
	if p.client, err = newStack(Config{Addr: clientAddr, Link: p.clientLink}, clock); err != nil {
		t.Fatal(err)
	}
	cfg.Addr, cfg.Link = exitAddr, p.exitLink
	if p.exit, err = newStack(cfg, clock); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for _, s := range []*Stack{p.client, p.exit} {
		wg.Go(func() {
			if err := s.Run(ctx); err != nil {
				t.Errorf("Run: %v", err)
			}
		})
	}
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	return p
}
