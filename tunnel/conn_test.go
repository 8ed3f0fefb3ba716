package tunnel

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/snapproxy/snapproxy/test/netsim"
	"github.com/snapproxy/snapproxy/tunnel/snaptun"
)

func bubble(t *testing.T, link netsim.Link, f func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(t, newWorld(t, link)) })
}

var near = netsim.Link{Delay: 10 * time.Millisecond}

func TestComesUpAndCarriesPackets(t *testing.T) {
	bubble(t, near, func(t *testing.T, w *world) {
		s, c := w.server(), w.client()
		time.Sleep(50 * time.Millisecond)
		st := c.conn.Status()
		if !st.Up || st.Assigned != clientAddr || st.Burst != MaxBurst || st.Handshaked.IsZero() {
			t.Fatalf("status %+v, want up at %v", st, clientAddr)
		}
		c.write(t, 0, 100, 1000)
		time.Sleep(50 * time.Millisecond)
		if got := numbers(t, s.take(), 1000); !slices.Equal(got, count(100)) {
			t.Errorf("the listener got %v", got)
		}
		if got := numbers(t, c.take(), 1000); !slices.Equal(got, count(100)) {
			t.Errorf("the answers are %v", got)
		}
		if got := c.ups(); !slices.Equal(got, []bool{true}) {
			t.Errorf("notified of %v, want once up", got)
		}
		if ev := s.peerEvents(); len(ev) != 1 || ev[0].Gone || ev[0].Peer.Key() != w.keys.client.PublicKey() || ev[0].Peer.Origin() != clientAddr {
			t.Errorf("events %+v, want the client to come", ev)
		}
		if p := s.listener.Peer(clientAddr); p == nil || len(s.listener.Peers()) != 1 || s.listener.Route(clientAddr) != clientAddr {
			t.Error("the listener does not know its peer")
		}
	})
}

func TestPacketsBeforeTheFirstSessionAreKept(t *testing.T) {
	for _, framed := range []bool{false, true} {
		bubble(t, near, func(t *testing.T, w *world) {
			if framed {
				w.frameSize = func(addr) int { return 1000 }
			}
			c := w.client()
			c.write(t, 0, 200, 900)
			time.Sleep(500 * time.Millisecond)
			s := w.server()
			n, err := c.conn.WritePackets([][]byte{numbered(200, 900)})
			if n != 1 || err != nil {
				t.Errorf("WritePackets = %d, %v", n, err)
			}
			time.Sleep(2 * time.Second)
			if got := numbers(t, s.take(), 900); !slices.Equal(got, count(201)) {
				t.Errorf("framed %t: got %v", framed, got)
			}
			if c.conn.Counters()["packets_queued"] != 201 {
				t.Errorf("counters %v, want 201 queued", c.conn.Counters())
			}
		})
	}
}

func TestQueueIsBounded(t *testing.T) {
	bubble(t, near, func(t *testing.T, w *world) {
		c := w.client()
		n, err := c.conn.WritePackets(slices.Repeat([][]byte{numbered(1, 100)}, 300))
		if n != 256 || err != nil {
			t.Errorf("WritePackets = %d, %v, want 256 kept", n, err)
		}
		if got := c.conn.Counters()["dropped_queue_full"]; got != 44 {
			t.Errorf("%d counted, want 44", got)
		}
	})
}

func TestBadNetwork(t *testing.T) {
	link := netsim.Link{
		Delay: 20 * time.Millisecond, Jitter: 10 * time.Millisecond,
		Loss: 0.05, Duplicate: 0.1, Reorder: 0.1, ReorderBy: 30 * time.Millisecond,
	}
	for _, frame := range []int{0, 600} {
		bubble(t, link, func(t *testing.T, w *world) {
			if frame > 0 {
				w.frameSize = func(addr) int { return frame }
			}
			w.queues = 64
			s, c := w.server(), w.client()
			for !c.conn.Status().Up {
				time.Sleep(time.Second)
			}
			for i := range 500 {
				c.write(t, 4*i, 4, 1500)
				time.Sleep(2 * time.Millisecond)
			}
			time.Sleep(time.Second)
			got := numbers(t, s.take(), 1500)
			if slices.Sort(got); len(slices.Compact(got)) != len(got) {
				t.Errorf("frame %d: some packets came twice", frame)
			}
			// A packet of three frames is lost if one of them is.
			if least := map[int]int{0: 1800, 600: 1600}[frame]; len(got) < least || len(got) > 1980 {
				t.Errorf("frame %d: %d of 2,000 packets came, want %d or more, but not all", frame, len(got), least)
			}
			if n := s.listener.Counters()["dropped_replay"]; n == 0 {
				t.Error("no duplicate was counted")
			}
			if n := s.listener.Counters()["packets_reassembled"]; (n > 0) != (frame > 0) {
				t.Errorf("frame %d: %d packets reassembled", frame, n)
			}
		})
	}
}

func TestFramesOfAllSizes(t *testing.T) {
	bubble(t, near, func(t *testing.T, w *world) {
		w.frameSize = func(addr) int { return 1300 }
		s, c := w.server(), w.client()
		time.Sleep(time.Second)
		for _, size := range []int{4, 60, 1284, 1285, 9000, 65535} {
			c.write(t, 1, 1, size)
			time.Sleep(100 * time.Millisecond)
			if got := numbers(t, c.take(), size); len(got) != 1 {
				t.Errorf("%d packets of %d bytes came back, want 1", len(got), size)
			}
		}
		n, err := c.conn.WritePackets([][]byte{{}, make([]byte, 65536), numbered(2, 10)})
		time.Sleep(100 * time.Millisecond)
		if got := c.conn.Counters()["dropped_packet_size"]; got != 2 || err != nil || n < 1 {
			t.Errorf("WritePackets = %d, %v, %d dropped for their size, want 2", n, err, got)
		}
		s.take()
	})
}

func TestRekeysUnderLoad(t *testing.T) {
	bubble(t, near, func(t *testing.T, w *world) {
		s, c := w.server(), w.client()
		const hours = 3
		sent, handshakes := 0, map[time.Time]bool{}
		for range hours * 3600 / 5 {
			c.write(t, sent, 2, 100)
			sent += 2
			time.Sleep(5 * time.Second)
			handshakes[c.conn.Status().Handshaked] = true
		}
		if got := numbers(t, s.take(), 100); !slices.Equal(got, count(sent)) {
			t.Errorf("%d of %d packets arrived in order", len(got), sent)
		}
		if got := c.take(); len(got) != sent {
			t.Errorf("%d of %d answers arrived", len(got), sent)
		}
		if n := len(handshakes); n < hours*3600/180 || n > hours*3600/115 {
			t.Errorf("%d sessions in %d hours, want one in two minutes", n, hours)
		}
		if got := c.ups(); !slices.Equal(got, []bool{true}) {
			t.Errorf("notified of %v, want once up", got)
		}
	})
}

func TestIdleWithKeepaliveStaysUpQuietly(t *testing.T) {
	bubble(t, near, func(t *testing.T, w *world) {
		w.keepalive = 10 * time.Second
		w.server()
		c := w.client()
		time.Sleep(time.Hour)
		if got := c.ups(); !slices.Equal(got, []bool{true}) {
			t.Errorf("notified of %v, want once up", got)
		}
		// A keepalive each way in ten seconds and two handshakes in two minutes.
		if n := w.net.Counters().Sent; n > 900 {
			t.Errorf("%d datagrams in an hour of silence, want at most 900", n)
		}
	})
}

func TestIdleWithoutKeepaliveStaysUp(t *testing.T) {
	bubble(t, near, func(t *testing.T, w *world) {
		s := w.server()
		c := w.client()
		time.Sleep(2 * time.Hour)
		if got := c.ups(); !slices.Equal(got, []bool{true}) {
			t.Errorf("notified of %v, want once up", got)
		}
		c.write(t, 0, 3, 100)
		time.Sleep(time.Second)
		if got := numbers(t, s.take(), 100); !slices.Equal(got, count(3)) {
			t.Errorf("after hours of silence %v arrived, want 3 packets", got)
		}
	})
}

func TestUnknownOriginIsNoPeer(t *testing.T) {
	bubble(t, near, func(t *testing.T, w *world) {
		for _, size := range []int{0, 1000} {
			if w.frameSize = nil; size > 0 {
				w.frameSize = func(addr) int { return size }
			}
			s := w.server()
			n, err := s.listener.WritePackets([]addr{clientAddr}, [][]byte{{1}})
			if n != 0 || err != nil || s.listener.Counters()["dropped_no_peer"] != 1 {
				t.Errorf("WritePackets = %d, %v, want it dropped and counted", n, err)
			}
			s.stop()
		}
	})
}

func TestReservedPayloadsAreRefused(t *testing.T) {
	bubble(t, near, func(t *testing.T, w *world) {
		s, c := w.server(), w.client()
		time.Sleep(time.Second)
		n, err := c.conn.WritePackets([][]byte{{}, []byte("\xffbye\x01"), numbered(1, 100)})
		if n > 1 || err != nil || c.conn.Counters()["dropped_reserved_payload"] != 2 {
			t.Errorf("WritePackets = %d, %v, counters %v", n, err, c.conn.Counters())
		}
		time.Sleep(time.Second)
		if len(s.take()) != 1 || !c.conn.Status().Up {
			t.Error("a payload of the form of a goodbye did harm")
		}
	})
}

func TestUnauthorizedGetsNothing(t *testing.T) {
	bubble(t, near, func(t *testing.T, w *world) {
		s, c := w.server(), w.client()
		time.Sleep(time.Second)
		w.denied.Store(true)
		c.write(t, 0, 1, 100)
		time.Sleep(time.Second)
		if got := s.take(); len(got) != 0 {
			t.Error("a packet of a key that was revoked was delivered")
		}
		n, err := s.listener.WritePackets([]addr{clientAddr}, [][]byte{numbered(1, 100)})
		if n != 0 || err != nil {
			t.Errorf("WritePackets to a revoked key = %d, %v, want 0, nil", n, err)
		}
		if got := s.listener.Counters()["dropped_unauthorized"]; got < 2 {
			t.Errorf("%d counted, want both", got)
		}
		time.Sleep(6 * time.Second)
		if c.conn.Status().Up {
			t.Error("still up though nothing is answered")
		}
		w.denied.Store(false)
		time.Sleep(6 * time.Second)
		if !c.conn.Status().Up {
			t.Error("not up again after the key was allowed again")
		}
	})
}

func TestForeignDatagramsAreCountedAndIgnored(t *testing.T) {
	bubble(t, near, func(t *testing.T, w *world) {
		s, c := w.server(), w.client()
		time.Sleep(time.Second)
		stranger := netip.MustParseAddrPort("203.0.113.9:9")
		data := append([]byte{4, 0, 0, 0}, make([]byte, 40)...)
		for _, b := range [][]byte{nil, {}, {1}, make([]byte, 148), data} {
			w.net.Inject(stranger, clientAddr, b)
			w.net.Inject(stranger, serverAddr, b)
			w.net.Inject(serverAddr, clientAddr, b)
		}
		time.Sleep(time.Second)
		if got := c.conn.Counters()["dropped_addr_mismatch"]; got != 5 {
			t.Errorf("%d datagrams of strangers counted, want 5", got)
		}
		if got := s.listener.Counters()["dropped_not_snaptun"]; got < 2 {
			t.Errorf("%d malformed datagrams counted, want some", got)
		}
		c.write(t, 0, 1, 100)
		time.Sleep(time.Second)
		if len(c.take()) != 1 || !c.conn.Status().Up {
			t.Error("foreign datagrams did harm")
		}
	})
}

func TestEndOfRun(t *testing.T) {
	bubble(t, near, func(t *testing.T, w *world) {
		s, c := w.server(), w.client()
		time.Sleep(time.Second)
		if err := c.conn.Run(t.Context(), nil); err == nil {
			t.Error("Run twice succeeded")
		}
		c.stop()
		if c.conn.Status().Up {
			t.Error("up after Run")
		}
		if _, err := c.conn.WritePackets([][]byte{{1}}); !errors.Is(err, net.ErrClosed) {
			t.Errorf("WritePackets = %v, want net.ErrClosed", err)
		}
		c.conn.Initiate()
		c.conn.SetPeer(serverAddr)
		time.Sleep(time.Second)
		if ev := s.peerEvents(); len(ev) != 2 || !ev[1].Gone || ev[1].Cause != snaptun.CauseGoodbye || ev[1].Reason != snaptun.ReasonShutdown {
			t.Errorf("events %+v, want a goodbye", ev)
		}
		s.stop()
		if _, err := s.listener.WritePackets([]addr{clientAddr}, [][]byte{{1}}); !errors.Is(err, net.ErrClosed) {
			t.Errorf("WritePackets = %v, want net.ErrClosed", err)
		}
	})
}

func TestErrorOfDeliverEndsRun(t *testing.T) {
	bubble(t, near, func(t *testing.T, w *world) {
		s := w.server()
		e := w.endpoint(clientAddr)
		conn, err := NewConn(ConnConfig[addr]{Config: w.config(e, w.keys.client), PeerKey: w.keys.server.PublicKey(), Peer: serverAddr})
		if err != nil {
			t.Fatal(err)
		}
		want := errors.New("enough")
		conn.WritePackets([][]byte{numbered(1, 100)})
		if err := conn.Run(t.Context(), func([][]byte) error { return want }); err != want {
			t.Errorf("Run = %v, want %v", err, want)
		}
		s.stop()
		carrier := w.endpoint(serverAddr)
		carrier.Close()
		l, err := NewListener(ListenerConfig[addr]{Config: w.config(carrier, w.keys.server), Authorize: func(snaptun.PublicKey, time.Time) bool { return true }})
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Run(t.Context(), nil); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Run on a closed carrier = %v, want net.ErrClosed", err)
		}
	})
}

func TestConfigsAreChecked(t *testing.T) {
	key, _ := snaptun.NewPrivateKey()
	e, _ := netsim.New[addr](1, netsim.Link{}).Listen(clientAddr)
	if _, err := NewConn(ConnConfig[addr]{Config: Config[addr]{PrivateKey: key}, PeerKey: key.PublicKey()}); err == nil {
		t.Error("a Conn without a carrier")
	}
	if _, err := NewConn(ConnConfig[addr]{Config: Config[addr]{Carrier: e, PrivateKey: key}}); err == nil {
		t.Error("a Conn without a key of the peer")
	}
	if _, err := NewListener(ListenerConfig[addr]{Config: Config[addr]{PrivateKey: key}}); err == nil {
		t.Error("a Listener without a carrier")
	}
	if _, err := NewListener(ListenerConfig[addr]{Config: Config[addr]{Carrier: e, PrivateKey: key}}); err == nil {
		t.Error("a Listener without Authorize")
	}
}

func TestEveryReasonHasAName(t *testing.T) {
	var c counters
	c.init()
	for _, err := range snaptun.Reasons() {
		if reasonNames[err] == "" {
			t.Errorf("%v has no name", err)
			continue
		}
		c.drop(err)
		if got := c.snapshot()["dropped_"+reasonNames[err]]; got != 1 {
			t.Errorf("%v was counted %d times", err, got)
		}
	}
	c.drop(errors.New("unheard of"))
	if c.snapshot()["dropped_other"] != 1 {
		t.Error("another error was not counted")
	}
}

// count returns 0 … n-1.
func count(n int) []int {
	s := make([]int, n)
	for i := range s {
		s[i] = i
	}
	return s
}
