//go:build linux

package main

import (
	"context"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"testing"
)

func TestParseCPU(t *testing.T) {
	got, err := parseCPU([]byte("1234 (a (b) c) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0 5 0 100 1 1"))
	if err != nil || got != 2 {
		t.Errorf("%v, %v; want 2 s", got, err)
	}
	for _, bad := range []string{"", "1 (x) S 1", "1 (x) S 1 2 3 4 5 6 7 8 9 10 a b"} {
		if _, err := parseCPU([]byte(bad)); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestOwnProcess(t *testing.T) {
	if now, peak, err := memory(os.Getpid()); err != nil || now == 0 || peak < now {
		t.Errorf("memory %d, peak %d, %v", now, peak, err)
	}
	if _, err := cpuSeconds(os.Getpid()); err != nil {
		t.Error(err)
	}
	if ranFor(os.Getpid()) == 0 {
		t.Skip("no schedstat here")
	}
}

// A stream goes both ways through the front of the peers, and so does a
// connection for a byte.
func TestLoadThroughAFront(t *testing.T) {
	o, err := newOrigin()
	if err != nil {
		t.Fatal(err)
	}
	defer o.close()
	front, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer front.Close()
	var dials atomic.Int64
	go serveSOCKS(front, func(ctx context.Context, target netip.AddrPort) (net.Conn, error) {
		dials.Add(1)
		var d net.Dialer
		return d.DialContext(ctx, "tcp4", target.String())
	})
	b := &bench{ctx: t.Context(), origin: o}
	s := &system{name: "front", socks: front.Addr().String(), target: loopback}
	if _, err := b.firstByte(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	for _, way := range ways {
		stream, err := b.openStream(s, way.dir)
		if err != nil {
			t.Fatal(err)
		}
		for stream.arrived.Load() < 4*block { // a test that hangs is ended by its time limit
			b.sleep(1e6)
		}
		stream.close()
	}
	if err := o.settle(); err != nil {
		t.Error(err)
	}
	if n := dials.Load(); n != 3 {
		t.Errorf("%d dials, want 3", n)
	}
	s.target = netip.MustParseAddr("127.0.0.9") // where the origin is not
	if _, err := b.firstByte(t.Context(), s); err == nil {
		t.Error("a connection to nobody")
	}
}
