package tunnel

import (
	"context"
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
