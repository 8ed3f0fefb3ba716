package tunnel

import (
	"context"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/snapproxy/snapproxy/tunnel/snaptun"
)

// TestSilenceWithDataWaiting: data unanswered for 2 s makes an initiation, again
// 1.5 s later, and 3 s after the first the tunnel is down.
func TestSilenceWithDataWaiting(t *testing.T) {
	bubble(t, near, func(t *testing.T, w *world) {
		w.server()
		c := w.client()
		time.Sleep(time.Second)
		w.net.Cut(clientAddr, serverAddr, true)
		at := w.initiations()
		begin := time.Now()
		c.write(t, 0, 1, 100)
		time.Sleep(5*time.Second - time.Millisecond)
		if !c.conn.Status().Up {
			t.Error("down before 5 s")
		}
		time.Sleep(2 * time.Millisecond)
		if st := c.conn.Status(); st.Up || st.Since.Sub(begin) != 5*time.Second || st.Assigned != clientAddr {
			t.Errorf("status %+v, want down since 5 s, the address as before", st)
		}
		// While down: every second, and after ten of them every five.
		time.Sleep(30 * time.Second)
		var got []time.Duration
		for _, at := range *at.Load() {
			got = append(got, at.Sub(begin))
		}
		want := []time.Duration{2 * time.Second, 3500 * time.Millisecond}
		for s := 5; s <= 15; s++ {
			want = append(want, time.Duration(s)*time.Second)
		}
		want = append(want, 20*time.Second, 25*time.Second, 30*time.Second, 35*time.Second)
		if !slices.Equal(got, want) {
			t.Errorf("initiations at %v, want %v", got, want)
		}
		w.net.Cut(clientAddr, serverAddr, false)
		time.Sleep(5 * time.Second)
		if got := c.ups(); !slices.Equal(got, []bool{true, false, true}) {
			t.Errorf("notified of %v, want up, down, up", got)
		}
	})
}

// TestDataOfThePeerEndsTheSilence: whoever sends is there, before any handshake
// is answered.
func TestDataOfThePeerEndsTheSilence(t *testing.T) {
	bubble(t, near, func(t *testing.T, w *world) {
		s, c := w.server(), w.client()
		time.Sleep(time.Second)
		c.write(t, 0, 1, 100)
		time.Sleep(time.Second)
		w.net.Cut(clientAddr, serverAddr, true)
		c.write(t, 1, 1, 100)
		time.Sleep(5100 * time.Millisecond)
		if c.conn.Status().Up {
			t.Fatal("up in the dark")
		}
		w.net.Cut(clientAddr, serverAddr, false)
		if _, err := s.listener.WritePackets([]addr{clientAddr}, [][]byte{numbered(1, 100)}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
		if !c.conn.Status().Up {
			t.Error("down although the peer has sent something")
		}
	})
}

func TestTriesForEver(t *testing.T) {
	bubble(t, near, func(t *testing.T, w *world) {
		c := w.client()
		time.Sleep(2 * time.Hour)
		if c.conn.Status().Up || len(c.ups()) != 0 {
			t.Error("up without a peer")
		}
		s := w.server()
		time.Sleep(6 * time.Second)
		if !c.conn.Status().Up {
			t.Error("not up within 6 s")
		}
		c.write(t, 0, 1, 100)
		time.Sleep(time.Second)
		if len(s.take()) == 0 {
			t.Error("nothing arrived")
		}
	})
}

func TestOneWayTrafficIsNoSilence(t *testing.T) {
	bubble(t, near, func(t *testing.T, w *world) {
		w.silent = true
		s, c := w.server(), w.client()
		time.Sleep(time.Second)
		for i := range 600 {
			c.write(t, i, 1, 100)
			time.Sleep(100 * time.Millisecond)
		}
		if got := c.ups(); !slices.Equal(got, []bool{true}) {
			t.Errorf("notified of %v, want once up", got)
		}
		if got := numbers(t, s.take(), 100); !slices.Equal(got, count(600)) {
			t.Errorf("%d of 600 packets arrived in order", len(got))
		}
	})
}

// TestUnansweredDatagramsAskLessAndLess: a stream that nobody answers asks after
// 2, 4 and 8 s, then the peer's keepalives do, and after data from the peer
// after 2 s again.
func TestUnansweredDatagramsAskLessAndLess(t *testing.T) {
	bubble(t, near, func(t *testing.T, w *world) {
		w.silent = true
		s, c := w.server(), w.client()
		time.Sleep(time.Second)
		at := w.initiations()
		stream := func(seconds int) {
			for range 10 * seconds {
				c.write(t, 0, 1, 100)
				time.Sleep(100 * time.Millisecond)
			}
		}
		stream(62)
		if n := len(*at.Load()); n != 3 {
			t.Errorf("%d initiations in 62 s, want 3", n)
		}
		if got := c.ups(); !slices.Equal(got, []bool{true}) {
			t.Errorf("notified of %v, want once up", got)
		}
		if _, err := s.listener.WritePackets([]addr{clientAddr}, [][]byte{numbered(1, 100)}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond)
		before := len(*at.Load())
		stream(3)
		if n := len(*at.Load()) - before; n != 1 {
			t.Errorf("%d initiations in 3 s after the peer has spoken, want 1", n)
		}
	})
}

func TestIdleSideNoticesThatThePeerIsGone(t *testing.T) {
	bubble(t, near, func(t *testing.T, w *world) {
		w.keepalive = 10 * time.Second
		w.server()
		c := w.client()
		time.Sleep(time.Minute)
		w.net.Cut(clientAddr, serverAddr, true)
		begin := time.Now()
		for c.conn.Status().Up {
			time.Sleep(time.Second)
		}
		if d := time.Since(begin); d > 35*time.Second {
			t.Errorf("it took %v", d)
		}
	})
}

func TestHintStartsTheQuestionAtOnce(t *testing.T) {
	bubble(t, near, func(t *testing.T, w *world) {
		s, c := w.server(), w.client()
		time.Sleep(time.Second)
		w.net.SetHints(true)
		s.kill()
		begin := time.Now()
		c.write(t, 0, 1, 100)
		for c.conn.Status().Up {
			time.Sleep(10 * time.Millisecond)
		}
		if d := time.Since(begin); d < 3*time.Second || d > 3100*time.Millisecond {
			t.Errorf("down after %v, want 3 s and a round trip", d)
		}
		if c.conn.Counters()["unreachable_hints"] == 0 {
			t.Error("no hint was counted")
		}
	})
}

func TestForgedHintsDoLittle(t *testing.T) {
	bubble(t, near, func(t *testing.T, w *world) {
		w.server()
		c := w.client()
		time.Sleep(time.Second)
		before := w.net.Counters().Sent
		for range 10000 {
			w.net.Hint(serverAddr, clientAddr)
			time.Sleep(time.Millisecond)
		}
		// An initiation, its answer and the first data of the session a second.
		if sent := w.net.Counters().Sent - before; sent > 40 {
			t.Errorf("%d datagrams because of 10 s of forged hints, want at most 40", sent)
		}
		if got := c.ups(); !slices.Equal(got, []bool{true}) {
			t.Errorf("notified of %v, want once up", got)
		}
	})
}

func TestPeerRestart(t *testing.T) {
	bubble(t, near, func(t *testing.T, w *world) {
		w.frameSize = func(addr) int { return 1000 }
		s, c := w.server(), w.client()
		time.Sleep(time.Second)
		c.write(t, 0, 1, 3000)
		time.Sleep(time.Second)
		// It dies without a word and comes back without knowing anybody.
		w.net.Cut(clientAddr, serverAddr, true)
		s.stop()
		w.net.Cut(clientAddr, serverAddr, false)
		s = w.server()
		begin := time.Now()
		for i := 1; len(s.take()) == 0; i++ {
			c.write(t, i, 1, 3000)
			time.Sleep(100 * time.Millisecond)
		}
		if d := time.Since(begin); d > 2300*time.Millisecond {
			t.Errorf("packets went through after %v, want 2 s and little more", d)
		}
		if got := c.ups(); !slices.Equal(got, []bool{true}) {
			t.Errorf("notified of %v, want once up: nobody had to notice", got)
		}
	})
}

func TestConnRestartOnTheSamePort(t *testing.T) {
	bubble(t, near, func(t *testing.T, w *world) {
		w.frameSize = func(addr) int { return 1000 }
		s, c := w.server(), w.client()
		time.Sleep(time.Second)
		c.write(t, 0, 3, 3000)
		time.Sleep(time.Second)
		w.net.Cut(clientAddr, serverAddr, true)
		c.stop()
		w.net.Cut(clientAddr, serverAddr, false)
		s.take()
		c = w.client()
		time.Sleep(100 * time.Millisecond)
		c.write(t, 0, 3, 3000)
		time.Sleep(100 * time.Millisecond)
		if got := numbers(t, c.take(), 3000); !slices.Equal(got, count(3)) {
			t.Errorf("the second run got %v back, want 3 packets", got)
		}
	})
}

func TestGoodbyeOfThePeer(t *testing.T) {
	bubble(t, near, func(t *testing.T, w *world) {
		s, c := w.server(), w.client()
		time.Sleep(time.Second)
		s.stop()
		time.Sleep(50 * time.Millisecond)
		if st := c.conn.Status(); st.Up || st.Closed != snaptun.ReasonShutdown {
			t.Errorf("status %+v, want down for a shutdown", st)
		}
		w.server()
		time.Sleep(1100 * time.Millisecond)
		if st := c.conn.Status(); !st.Up || st.Closed != 0 {
			t.Errorf("status %+v, want up a second after the restart", st)
		}
	})
}

func TestNATRebinding(t *testing.T) {
	bubble(t, near, func(t *testing.T, w *world) {
		s, c := w.server(), w.client()
		time.Sleep(time.Second)
		outside := netip.MustParseAddrPort("192.0.2.1:4321")
		if err := c.endpoint.Rebind(outside); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		for i := 0; len(c.take()) == 0; i++ {
			c.write(t, i, 1, 100)
			time.Sleep(50 * time.Millisecond)
		}
		if d := time.Since(begin); d > 2200*time.Millisecond {
			t.Errorf("it took %v, want 2 s and little more", d)
		}
		if st := c.conn.Status(); st.Assigned != outside {
			t.Errorf("assigned %v, want %v", st.Assigned, outside)
		}
		if got := c.ups(); !slices.Equal(got, []bool{true, true}) {
			t.Errorf("notified of %v, want twice up, the second time because of the address", got)
		}
		if s.listener.Counters()["dropped_addr_mismatch"] == 0 {
			t.Error("packets from an address that nobody confirmed were not counted")
		}
	})
}

func TestSetPeerFollowsTheListener(t *testing.T) {
	bubble(t, near, func(t *testing.T, w *world) {
		s, c := w.server(), w.client()
		time.Sleep(time.Second)
		moved := netip.MustParseAddrPort("198.51.100.2:2000")
		if err := s.endpoint.Rebind(moved); err != nil {
			t.Fatal(err)
		}
		c.conn.SetPeer(moved)
		time.Sleep(30 * time.Millisecond)
		c.write(t, 0, 1, 100)
		time.Sleep(30 * time.Millisecond)
		if got := numbers(t, c.take(), 100); !slices.Equal(got, []int{0}) {
			t.Errorf("got %v, want the answer", got)
		}
	})
}

func TestNoPeerYet(t *testing.T) {
	bubble(t, near, func(t *testing.T, w *world) {
		e := w.endpoint(clientAddr)
		conn, err := NewConn(ConnConfig[addr]{Config: w.config(e, w.keys.client), PeerKey: w.keys.server.PublicKey()})
		if err != nil {
			t.Fatal(err)
		}
		s := &side{conn: conn, endpoint: e}
		s.run(w, func(ctx context.Context) error {
			return conn.Run(ctx, func(p [][]byte) error { s.keep(p, func(int) addr { return serverAddr }); return nil })
		})
		w.server()
		s.write(t, 0, 2, 100)
		time.Sleep(time.Minute)
		if n := w.net.Counters().Sent; n != 0 {
			t.Errorf("%d datagrams were sent to nobody", n)
		}
		conn.SetPeer(serverAddr)
		time.Sleep(100 * time.Millisecond)
		if !conn.Status().Up {
			t.Error("not up after SetPeer")
		}
		if got := numbers(t, s.take(), 100); !slices.Equal(got, count(2)) {
			t.Errorf("got %v, want what was written before", got)
		}
	})
}

func TestNotifyMayCallBack(t *testing.T) {
	bubble(t, near, func(t *testing.T, w *world) {
		w.server()
		e := w.endpoint(clientAddr)
		var conn *Conn[addr]
		var calls atomic.Int32
		conn, err := NewConn(ConnConfig[addr]{
			Config: w.config(e, w.keys.client), PeerKey: w.keys.server.PublicKey(), Peer: serverAddr,
			Notify: func(st Status) {
				calls.Add(1)
				if conn.Status() != st {
					t.Errorf("status %+v, notified of %+v", conn.Status(), st)
				}
				conn.WritePackets([][]byte{numbered(1, 100)})
				conn.Initiate()
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		s := &side{conn: conn, endpoint: e}
		s.run(w, func(ctx context.Context) error { return conn.Run(ctx, func([][]byte) error { return nil }) })
		synctest.Wait()
		time.Sleep(time.Second)
		if calls.Load() != 1 {
			t.Errorf("notified %d times, want once", calls.Load())
		}
	})
}

// initiations returns the times of the initiations that the client sends from
// now on.
func (w *world) initiations() *atomic.Pointer[[]time.Time] {
	var at atomic.Pointer[[]time.Time]
	at.Store(new([]time.Time))
	w.net.SetTap(func(from, _ addr, packet []byte) {
		if from == clientAddr && len(packet) == 148 {
			times := append(slices.Clone(*at.Load()), time.Now())
			at.Store(&times)
		}
	})
	return &at
}
