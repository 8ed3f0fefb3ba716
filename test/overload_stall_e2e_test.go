//go:build e2e && linux

package test

import (
	"bytes"
	"crypto/sha256"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"
)

// Receivers that stop reading hold their own streams up and nobody else's; what
// client and exit keep for them is bounded, and all of it arrives once they
// read again.
func TestStalledReceiversHoldUpNobody(t *testing.T) {
	const (
		receivers = 40
		size      = 48 << 20 // more than all buffers of a stream hold
		// room is what a role may take for all that waits, in KiB: a receive buffer
		// grows to 16 MiB on a path that is long and fast, and this one is short.
		room = receivers * 10 << 10
	)
	tp := build(t, layout{})
	small := newSmallFlows(t, tp)
	small.pass()
	before := map[*process]int{tp.client: memory(t, tp.client, "VmRSS"), tp.exit: memory(t, tp.exit, "VmRSS")}

	var sent atomic.Int64
	want := sha256.New()
	io.CopyN(want, randomBytes(3), size)
	source := serveTCP(t, "127.0.0.1:0", func(c *net.TCPConn) {
		io.Copy(io.MultiWriter(c, counter{&sent}), io.LimitReader(randomBytes(3), size))
		c.CloseWrite()
	})
	var stalled []*wire
	for range receivers {
		w := connectSOCKS(t, tp.socks, source.addr)
		w.SetReadBuffer(64 << 10)
		stalled = append(stalled, w)
	}
	// Until nothing moves any more.
	last, since := int64(-1), time.Now()
	if !eventually(3*patience, func() bool {
		small.pass()
		if n := sent.Load(); n != last {
			last, since = n, time.Now()
		}
		return last > 0 && time.Since(since) > 3*time.Second
	}) {
		t.Fatalf("the source sends on to receivers that do not read: %d MiB", sent.Load()>>20)
	}
	held := sent.Load()
	if held >= receivers*size {
		t.Fatal("nothing had to wait: the test finds nothing")
	}
	for role, n := range before {
		peak := memory(t, role, "VmHWM")
		t.Logf("%s: %d MiB, at most %d MiB while %d streams wait, with %d MiB under way", role.cmd.Args[1], n>>10, peak>>10, receivers, held>>20)
		if peak > n+room {
			t.Errorf("%s takes %d KiB for streams that wait, %d before", role.cmd.Args[1], peak, n)
		}
	}
	// A stream beside them that moves a lot.
	mirror := serveTCP(t, "127.0.0.1:0", hashThenSend)
	carry(t, connectSOCKS(t, tp.socks, mirror.addr), 16<<20)

	for i, w := range stalled {
		w.SetDeadline(time.Now().Add(3 * patience))
		if i%4 != 0 { // most give up
			w.SetLinger(0)
			w.Close()
			continue
		}
		got := sha256.New()
		if n, err := io.Copy(got, w); err != nil || n != size || !bytes.Equal(got.Sum(nil), want.Sum(nil)) {
			t.Errorf("stream %d has %d of %d bytes whole once it is read: %v", i, n, size, err)
		}
		w.Close()
	}
	small.pass()
	tp.settle(t, nil)
}

// A counter counts what is written to it.
type counter struct{ n *atomic.Int64 }

func (c counter) Write(b []byte) (int, error) { c.n.Add(int64(len(b))); return len(b), nil }
