package snapproxy

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/snapproxy/snapproxy/scion"
	"github.com/snapproxy/snapproxy/tunnel/snaptun"
)

// A testNet is a SNAP, an exit and a client on loopback, in one process but
// with nothing between them but UDP.
type testNet struct {
	snap   *SNAP
	exit   *Exit
	client *Client
}

func newKey(t testing.TB) snaptun.PrivateKey {
	t.Helper()
	k, err := snaptun.NewPrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func everybody(snaptun.PublicKey, time.Time) bool { return true }

// startNet starts the three roles and waits until the client is ready.
func startNet(t testing.TB, timers snaptun.Timers, alter func(*ExitConfig)) *testNet {
	t.Helper()
	ia, err := scion.ParseIA("1-ff00:0:110")
	if err != nil {
		t.Fatal(err)
	}
	var n testNet
	n.snap, err = NewSNAP(SNAPConfig{
		IA: ia, Listen: netip.MustParseAddrPort("127.0.0.1:0"), PrivateKey: newKey(t), Authorize: everybody, timers: timers,
	})
	if err != nil {
		t.Fatal(err)
	}
	run(t, n.snap.Run)
	cfg := ExitConfig{
		NetworkConfig: NetworkConfig{SNAP: n.snap.Addr().String(), SNAPKey: n.snap.PublicKey(), IA: ia},
		PrivateKey:    newKey(t), Authorize: everybody,
		Allow: prefixes("127.0.0.0/8", "::1/128"), timers: timers,
		Page: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "page") }),
	}
	if alter != nil {
		alter(&cfg)
	}
	n.exit, err = NewExit(cfg)
	if err != nil {
		t.Fatal(err)
	}
	run(t, n.exit.Run)
	await(t, n.exit.Ready(), "exit")
	n.client = n.startClient(t, newKey(t), timers)
	return &n
}

func (n *testNet) startClient(t testing.TB, key snaptun.PrivateKey, timers snaptun.Timers) *Client {
	t.Helper()
	c, err := NewClient(ClientConfig{
		NetworkConfig: NetworkConfig{SNAP: n.snap.Addr().String(), SNAPKey: n.snap.PublicKey(), IA: n.exit.Addr().IA},
		PrivateKey:    key,
		Exit:          n.exit.Addr(), ExitKey: n.exit.PublicKey(), timers: timers,
	})
	if err != nil {
		t.Fatal(err)
	}
	run(t, c.Run)
	await(t, c.Ready(), "client")
	return c
}

// run runs a role until the test ends.
func run(t testing.TB, f func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

func await(t testing.TB, c <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(20 * time.Second):
		t.Fatalf("%s not ready after 20 s", what)
	}
}

// echoServer echoes what each TCP connection sends, and every datagram.
func echoServer(t testing.TB, addr string) string {
	t.Helper()
	var ln net.Listener
	var pc net.PacketConn
	for pc == nil {
		var err error
		if ln, err = net.Listen("tcp", addr); err != nil {
			t.Skipf("no listener on %s: %v", addr, err)
		}
		t.Cleanup(func() { ln.Close() })
		// The same port may be taken for UDP; then another.
		pc, _ = net.ListenPacket("udp", ln.Addr().String())
	}
	t.Cleanup(func() { pc.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				io.Copy(c, c)
				closeWrite(c)
			}()
		}
	}()
	go func() {
		b := make([]byte, 64<<10)
		for {
			n, from, err := pc.ReadFrom(b)
			if err != nil {
				return
			}
			pc.WriteTo(b[:n], from)
		}
	}()
	return ln.Addr().String()
}

func TestClientReachesTheExitsPage(t *testing.T) {
	n := startNet(t, snaptun.Timers{}, nil)
	hc := &http.Client{Transport: &http.Transport{DialContext: n.client.DialContext, DisableKeepAlives: true}}
	resp, err := hc.Get("http://demo.snapproxy.internal/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); err != nil || string(b) != "page" {
		t.Errorf("got %q, %v", b, err)
	}
}

func TestClientDialsThroughTheExit(t *testing.T) {
	n := startNet(t, snaptun.Timers{}, nil)
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0"} {
		t.Run(addr, func(t *testing.T) {
			target := echoServer(t, addr)
			conn, err := n.client.DialContext(t.Context(), "tcp", target)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			echo(t, conn, 4<<20)

			udp, err := n.client.DialContext(t.Context(), "udp", target)
			if err != nil {
				t.Fatal(err)
			}
			defer udp.Close()
			for _, size := range []int{0, 1, 1200, 9000, 60000} {
				want := make([]byte, size)
				rand.Read(want)
				if _, err := udp.Write(want); err != nil {
					t.Fatal(err)
				}
				got := make([]byte, 65535)
				udp.SetReadDeadline(time.Now().Add(10 * time.Second))
				k, err := udp.Read(got)
				if err != nil || !bytes.Equal(got[:k], want) {
					t.Errorf("datagram of %d bytes: got %d, %v", size, k, err)
				}
			}
		})
	}
}

// echo sends size random bytes and a half-close, and wants them back.
func echo(t testing.TB, conn net.Conn, size int) {
	t.Helper()
	sum := sha256.New()
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := io.Copy(io.MultiWriter(conn, sum), io.LimitReader(rand.Reader, int64(size))); err != nil {
			t.Errorf("send: %v", err)
		}
		closeWrite(conn)
	})
	got := sha256.New()
	k, err := io.Copy(got, conn)
	wg.Wait()
	if err != nil || k != int64(size) || !bytes.Equal(got.Sum(nil), sum.Sum(nil)) {
		t.Errorf("%d of %d bytes came back, %v", k, size, err)
	}
}

// The reason for which the exit does not connect reaches the client's caller.
func TestRefusalsReachTheClient(t *testing.T) {
	n := startNet(t, snaptun.Timers{}, func(c *ExitConfig) {
		c.Resolver = fakeResolver{"private.test.": addrs("10.0.0.1"), "local.test.": addrs("127.0.0.1")}
	})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := ln.Addr().(*net.TCPAddr).AddrPort()
	ln.Close()
	notFound := func(err error) bool { var d *net.DNSError; return errors.As(err, &d) && d.IsNotFound }
	is := func(target error) func(error) bool {
		return func(err error) bool { return errors.Is(err, target) }
	}
	for _, tt := range []struct {
		addr string
		want func(error) bool
	}{
		{closed.String(), is(syscall.ECONNREFUSED)},
		{net.JoinHostPort("local.test", "1"), is(syscall.ECONNREFUSED)},
		{"10.0.0.1:80", is(syscall.EACCES)},
		{"private.test:80", is(syscall.EACCES)},
		{"none.test:80", notFound},
		{"[fe80::1]:80", is(syscall.EACCES)},
	} {
		if _, err := n.client.DialContext(t.Context(), "tcp", tt.addr); err == nil || !tt.want(err) {
			t.Errorf("dial %s: %v", tt.addr, err)
		}
	}
}

// A transfer goes on while both tunnels renew their sessions again and again.
func TestTransferCrossesRekeys(t *testing.T) {
	timers := snaptun.Timers{RekeyAfter: 500 * time.Millisecond, RejectAfter: 2 * time.Second, RekeyTimeout: 300 * time.Millisecond}
	n := startNet(t, timers, nil)
	conn, err := n.client.DialContext(t.Context(), "tcp", echoServer(t, "127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	before := n.client.inner.Status().Handshaked
	rekeys := 0
	buf, got := make([]byte, 32<<10), make([]byte, 32<<10)
	for deadline := time.Now().Add(30 * time.Second); rekeys < 3; {
		if time.Now().After(deadline) {
			t.Fatalf("%d rekeys in 30 s", rekeys)
		}
		rand.Read(buf)
		conn.SetDeadline(deadline)
		if _, err := conn.Write(buf); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(conn, got); err != nil || !bytes.Equal(got, buf) {
			t.Fatalf("echo: %v", err)
		}
		if at := n.client.inner.Status().Handshaked; at != before {
			before = at
			rekeys++
		}
	}
}

func TestTwoClientsWithOneKey(t *testing.T) {
	n := startNet(t, snaptun.Timers{}, nil)
	key := newKey(t)
	target := echoServer(t, "127.0.0.1:0")
	var wg sync.WaitGroup
	for range 2 {
		c := n.startClient(t, key, snaptun.Timers{})
		wg.Go(func() {
			conn, err := c.DialContext(t.Context(), "tcp", target)
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			echo(t, conn, 2<<20)
		})
	}
	wg.Wait()
}

// After many streams, cut short or not, no goroutine of theirs is left.
func TestStreamsLeaveNothingBehind(t *testing.T) {
	n := startNet(t, snaptun.Timers{}, nil)
	target := echoServer(t, "127.0.0.1:0")
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	run(t, func(ctx context.Context) error { return n.client.Forward(ctx, ln, target) })
	stream := func(i int) {
		conn, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		if i%2 == 0 {
			conn.Write(make([]byte, 1000)) // and leave
			return
		}
		echo(t, conn, 100<<10)
	}
	stream(1)
	baseline := runtime.NumGoroutine()
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() { stream(i) })
	}
	wg.Wait()
	deadline := time.After(20 * time.Second)
	for runtime.NumGoroutine() > baseline {
		select {
		case <-deadline:
			buf := make([]byte, 1<<20)
			t.Fatalf("%d goroutines, want at most %d\n%s", runtime.NumGoroutine(), baseline, buf[:runtime.Stack(buf, true)])
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Without a tunnel a dial fails at once, and nothing is dialled directly.
func TestDialWithoutTunnel(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c, err := NewClient(ClientConfig{NetworkConfig: NetworkConfig{SNAP: "127.0.0.1:9", SNAPKey: newKey(t).PublicKey(), IA: 1}, ExitKey: newKey(t).PublicKey(),
		Exit: scion.Addr{IA: 1, Host: netip.MustParseAddr("127.0.0.1"), Port: 1}})
	if err != nil {
		t.Fatal(err)
	}
	run(t, c.Run)
	if _, err := c.DialContext(t.Context(), "tcp", ln.Addr().String()); !errors.Is(err, syscall.ENETDOWN) {
		t.Errorf("dial: %v, want ENETDOWN", err)
	}
	if c.Silent() == "" {
		t.Error("nothing said about the silent side")
	}
}
