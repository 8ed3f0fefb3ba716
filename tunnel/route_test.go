package tunnel

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/snapproxy/snapproxy/test/netsim"
	"github.com/snapproxy/snapproxy/tunnel/snaptun"
)

// A routed address is a host and a way to it, as a SCION address with its path.
type routed struct {
	host string
	way  int
}

func (r routed) origin() routed { return routed{host: r.host} }

func TestRepliesTakeTheNewestRoute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := netsim.New[routed](1, netsim.Link{Delay: time.Millisecond})
		mine, _ := snaptun.NewPrivateKey()
		theirs, _ := snaptun.NewPrivateKey()
		here, _ := n.Listen(routed{"client", 1})
		there, _ := n.Listen(routed{"server", 1})

		var sizes []routed // that FrameSize was asked for
		var mu sync.Mutex
		frameSize := func(a routed) int {
			mu.Lock()
			defer mu.Unlock()
			sizes = append(sizes, a)
			return 1000
		}
		conn, err := NewConn(ConnConfig[routed]{
			Config:  Config[routed]{Carrier: here, PrivateKey: mine, FrameSize: frameSize},
			PeerKey: theirs.PublicKey(), Peer: routed{"server", 1}, Origin: routed.origin,
		})
		if err != nil {
			t.Fatal(err)
		}
		l, err := NewListener(ListenerConfig[routed]{
			Config:    Config[routed]{Carrier: there, PrivateKey: theirs, FrameSize: frameSize},
			Authorize: func(snaptun.PublicKey, time.Time) bool { return true },
			Origin:    routed.origin,
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		got := make(chan int, 10)
		wg.Go(func() {
			l.Run(ctx, func([]*snaptun.Peer[routed], [][]byte) error { got <- 0; return nil })
		})
		wg.Go(func() { conn.Run(ctx, func([][]byte) error { got <- 1; return nil }) })
		time.Sleep(100 * time.Millisecond)

		client := routed{host: "client"}
		if at := l.Route(client); at != (routed{"client", 1}) {
			t.Errorf("route %v before the change, want 1", at)
		}
		here.Rebind(routed{"client", 2}) // no handshake: only the way has changed
		there.Rebind(routed{"server", 2})
		conn.WritePackets([][]byte{numbered(1, 100)}) // to the server's old way: lost
		conn.peer.Store(&routed{"server", 2})
		conn.WritePackets([][]byte{numbered(1, 100)})
		time.Sleep(100 * time.Millisecond)
		if at := l.Route(client); at != (routed{"client", 2}) {
			t.Errorf("route %v after the change, want 2", at)
		}
		if n, err := l.WritePackets([]routed{client}, [][]byte{numbered(1, 100)}); n != 1 || err != nil {
			t.Errorf("WritePackets = %d, %v", n, err)
		}
		time.Sleep(100 * time.Millisecond)
		if len(got) != 2 || <-got != 0 || <-got != 1 {
			t.Error("a packet did not arrive on the new way")
		}
		if last := sizes[len(sizes)-1]; last != (routed{"client", 2}) {
			t.Errorf("the frame size was asked for %v, want the route", last)
		}
		cancel()
		wg.Wait()
	})
}

func TestPacketsChooseTheirRoute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := netsim.New[routed](1, netsim.Link{Delay: time.Millisecond})
		mine, _ := snaptun.NewPrivateKey()
		theirs, _ := snaptun.NewPrivateKey()
		here, _ := n.Listen(routed{"client", 1})
		var there [3]*netsim.Endpoint[routed]
		for way := range there {
			there[way], _ = n.Listen(routed{"server", way})
		}
		var mu sync.Mutex
		var heard []routed
		conn, err := NewConn(ConnConfig[routed]{
			Config:  Config[routed]{Carrier: here, PrivateKey: mine, FrameSize: func(a routed) int { return 300 + a.way }},
			PeerKey: theirs.PublicKey(), Peer: routed{host: "server"}, Origin: routed.origin,
			Route: func(packet []byte) routed {
				if packet == nil {
					return routed{"server", 0}
				}
				return routed{"server", int(packet[0])}
			},
			Heard: func(from routed) {
				mu.Lock()
				defer mu.Unlock()
				heard = append(heard, from)
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		l, err := NewListener(ListenerConfig[routed]{
			Config:    Config[routed]{Carrier: there[0], PrivateKey: theirs, FrameSize: func(routed) int { return 1000 }},
			Authorize: func(snaptun.PublicKey, time.Time) bool { return true },
			Origin:    routed.origin,
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		var lengths [len(there)][]int
		for way := 1; way < len(there); way++ {
			wg.Go(func() {
				there[way].Run(ctx, func(_ []routed, packets [][]byte) error {
					mu.Lock()
					defer mu.Unlock()
					for _, p := range packets {
						lengths[way] = append(lengths[way], len(p))
						if !conn.Sent(p) {
							t.Error("a message of the conn is not its own")
						}
					}
					return nil
				})
			})
		}
		wg.Go(func() { l.Run(ctx, func([]*snaptun.Peer[routed], [][]byte) error { return nil }) })
		wg.Go(func() { conn.Run(ctx, func([][]byte) error { return nil }) })
		time.Sleep(100 * time.Millisecond)
		mu.Lock()
		if !conn.Status().Up || len(heard) == 0 || heard[0] != (routed{"server", 0}) {
			t.Errorf("status %+v, heard of %v: the handshake must take route 0", conn.Status(), heard)
		}
		mu.Unlock()
		packet := func(way byte) []byte { p := make([]byte, 500); p[0] = way; return p }
		if n, err := conn.WritePackets([][]byte{packet(1), packet(1), packet(2), packet(1)}); n != 4 || err != nil {
			t.Errorf("WritePackets = %d, %v", n, err)
		}
		time.Sleep(100 * time.Millisecond)
		cancel()
		wg.Wait()
		frames := func(way, packets int) (want []int) {
			first := 300 + way
			second := 500 - (first - frameHeader) + frameHeader
			for range packets {
				want = append(want, first+snaptun.Overhead, second+snaptun.Overhead)
			}
			return want
		}
		for way, packets := range map[int]int{1: 3, 2: 1} {
			if !slices.Equal(lengths[way], frames(way, packets)) {
				t.Errorf("route %d got messages of %v bytes, want %v", way, lengths[way], frames(way, packets))
			}
		}
	})
}

func TestManyGoroutines(t *testing.T) {
	bubble(t, netsim.Link{Delay: time.Millisecond}, func(t *testing.T, w *world) {
		w.frameSize = func(addr) int { return 1000 }
		w.queues = 64
		s, c := w.server(), w.client()
		time.Sleep(time.Second)
		const writers, each = 4, 100
		var wg sync.WaitGroup
		for g := range writers {
			wg.Go(func() {
				for i := range each {
					c.write(t, g*each+i, 1, 1500)
					if i%20 == 0 {
						c.conn.Initiate()
					}
					time.Sleep(time.Millisecond)
				}
			})
		}
		wg.Go(func() {
			for range each {
				s.listener.Peers()
				s.listener.Counters()
				c.conn.Counters()
				c.conn.Status()
				time.Sleep(time.Millisecond)
			}
		})
		wg.Wait()
		time.Sleep(time.Second)
		next := make([]int, writers)
		for _, i := range numbers(t, s.take(), 1500) {
			if i%each != next[i/each] {
				t.Fatalf("packet %d of a flow came when %d was due", i%each, next[i/each])
			}
			next[i/each]++
		}
		if n := len(numbers(t, c.take(), 1500)); n != writers*each {
			t.Errorf("%d packets came back, want %d", n, writers*each)
		}
	})
}
