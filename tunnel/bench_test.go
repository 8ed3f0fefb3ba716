package tunnel

import (
	"context"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/snapproxy/snapproxy/tunnel/snaptun"
)

// A pipe is a carrier in memory that delivers what is written within the call. It
// allocates nothing once it has grown.
type pipe struct {
	self    addr
	far     *pipe
	deliver func([]addr, [][]byte) error
	ready   chan struct{}

	mu   sync.Mutex
	pool []*pipeBatch
}

type pipeBatch struct {
	from    []addr
	packets [][]byte
	block   []byte
}

func newPipe(a, b addr) (*pipe, *pipe) {
	p, q := &pipe{self: a, ready: make(chan struct{})}, &pipe{self: b, ready: make(chan struct{})}
	p.far, q.far = q, p
	return p, q
}

func (p *pipe) Run(ctx context.Context, deliver func([]addr, [][]byte) error) error {
	p.deliver = deliver
	close(p.ready)
	<-ctx.Done()
	return nil
}

func (p *pipe) get() *pipeBatch {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.pool); n > 0 {
		b := p.pool[n-1]
		p.pool = p.pool[:n-1]
		return b
	}
	return new(pipeBatch)
}

func (p *pipe) put(b *pipeBatch) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pool = append(p.pool, b)
}

func (p *pipe) WritePackets(to []addr, packets [][]byte) (int, error) {
	select {
	case <-p.far.ready:
	default:
		return 0, nil
	}
	b := p.get()
	defer p.put(b)
	b.from, b.packets, b.block = b.from[:0], b.packets[:0], b.block[:0]
	for _, packet := range packets {
		b.block = append(b.block, packet...)
	}
	at := 0
	for _, packet := range packets {
		b.from = append(b.from, p.self)
		b.packets = append(b.packets, b.block[at:at+len(packet):at+len(packet)])
		at += len(packet)
	}
	return len(packets), p.far.deliver(b.from, b.packets)
}

// connected returns a Conn and a Listener that stand, over two carriers. arrived
// is called with the number of packets of each batch.
func connected(tb testing.TB, a, b Carrier[addr], to addr, frameSize func(addr) int, arrived func(int)) (*Conn[addr], *Listener[addr]) {
	tb.Helper()
	mine, err := snaptun.NewPrivateKey()
	if err != nil {
		tb.Fatal(err)
	}
	theirs, err := snaptun.NewPrivateKey()
	if err != nil {
		tb.Fatal(err)
	}
	up := make(chan struct{}, 16)
	c, err := NewConn(ConnConfig[addr]{
		Config:  Config[addr]{Carrier: a, PrivateKey: mine, FrameSize: frameSize},
		PeerKey: theirs.PublicKey(), Peer: to,
		Notify: func(s Status) {
			if s.Up {
				up <- struct{}{}
			}
		},
	})
	if err != nil {
		tb.Fatal(err)
	}
	confirmed := make(chan struct{}, 16)
	l, err := NewListener(ListenerConfig[addr]{
		Config:    Config[addr]{Carrier: b, PrivateKey: theirs, FrameSize: frameSize},
		Authorize: func(snaptun.PublicKey, time.Time) bool { return true },
		Notify: func(ev PeerEvent[addr]) {
			if !ev.Gone {
				confirmed <- struct{}{}
			}
		},
	})
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		l.Run(ctx, func(_ []*snaptun.Peer[addr], packets [][]byte) error { arrived(len(packets)); return nil })
	})
	if p, ok := b.(*pipe); ok {
		<-p.ready
	}
	wg.Go(func() { c.Run(ctx, func(packets [][]byte) error { arrived(len(packets)); return nil }) })
	tb.Cleanup(func() { cancel(); wg.Wait() })
	<-up
	<-confirmed
	return c, l
}

func TestPacketsDoNotAllocate(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	for _, tt := range []struct {
		name         string
		frame, bytes int
	}{{"packets", 0, 1400}, {"frames", 1424, 1400}, {"fragments", 1424, 4000}} {
		t.Run(tt.name, func(t *testing.T) {
			var frameSize func(addr) int
			if tt.frame > 0 {
				frameSize = func(addr) int { return tt.frame }
			}
			a, b := newPipe(clientAddr, serverAddr)
			n := 0
			c, l := connected(t, a, b, serverAddr, frameSize, func(k int) { n += k })
			packets, to := repeat(make([]byte, tt.bytes), 40), repeat(clientAddr, 40)
			exchange := func() {
				c.WritePackets(packets)
				l.WritePackets(to, packets)
			}
			for range 10 {
				exchange()
			}
			n = 0
			if allocs := testing.AllocsPerRun(200, exchange); allocs > 0 {
				t.Errorf("%v allocations for 80 packets there and back, want 0", allocs)
			}
			if n != 201*80 {
				t.Errorf("%d packets arrived, want %d", n, 201*80)
			}
		})
	}
}

// BenchmarkPipe is a packet through Conn and Listener: framed, sealed, opened.
func BenchmarkPipe(b *testing.B) {
	for name, frameSize := range map[string]func(addr) int{"packets": nil, "frames": func(addr) int { return 1424 }} {
		b.Run(name, func(b *testing.B) {
			near, far := newPipe(clientAddr, serverAddr)
			c, _ := connected(b, near, far, serverAddr, frameSize, func(int) {})
			packets := repeat(make([]byte, 1400), 47)
			b.SetBytes(47 * 1400)
			b.ReportAllocs()
			for b.Loop() {
				c.WritePackets(packets)
			}
		})
	}
}

// BenchmarkTunnel is the same over UDP on loopback, with at most a few batches
// under way.
func BenchmarkTunnel(b *testing.B) {
	near, far := listenUDP(b, "127.0.0.1:0", UDPConfig{}), listenUDP(b, "127.0.0.1:0", UDPConfig{})
	arrived := make(chan int, 1<<16)
	c, _ := connected(b, near, far, far.LocalAddr(), nil, func(n int) { arrived <- n })
	packets := repeat(make([]byte, 1400), 47)
	flood(b, arrived, func() { c.WritePackets(packets) })
}

// BenchmarkUDP is the carrier alone.
func BenchmarkUDP(b *testing.B) {
	near, far := listenUDP(b, "127.0.0.1:0", UDPConfig{}), listenUDP(b, "127.0.0.1:0", UDPConfig{})
	arrived := make(chan int, 1<<16)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		far.Run(ctx, func(_ []netip.AddrPort, packets [][]byte) error { arrived <- len(packets); return nil })
	}()
	to, packets := repeat(far.LocalAddr(), 47), repeat(make([]byte, 1400), 47)
	flood(b, arrived, func() { near.WritePackets(to, packets) })
	cancel()
	<-done
}

// flood sends batches of 47 packets of 1,400 bytes and waits for the one four
// batches before.
func flood(b *testing.B, arrived <-chan int, write func()) {
	b.SetBytes(47 * 1400)
	b.ReportAllocs()
	under := 0
	for b.Loop() {
		write()
		for under += 47; under > 4*47; {
			select {
			case n := <-arrived:
				under -= n
			case <-time.After(time.Second):
				b.Fatalf("%d packets were lost", under)
			}
		}
	}
}
