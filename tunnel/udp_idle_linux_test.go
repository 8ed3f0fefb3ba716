package tunnel

import (
	"context"
	"net/netip"
	"runtime"
	"sync"
	"testing"
)

// A socket that waits borrows no buffers, so that a server can have one for each
// tunnel.
func TestUDPThatWaitsHoldsNoBuffers(t *testing.T) {
	const sockets = 200
	heap := func() uint64 {
		runtime.GC()
		runtime.GC() // what pools keep goes with the second
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range sockets {
		u := listenUDP(t, "127.0.0.1:0", UDPConfig{})
		got := make(chan struct{}, 1)
		wg.Go(func() {
			u.Run(ctx, func(_ []netip.AddrPort, _ [][]byte) error { got <- struct{}{}; return nil })
		})
		send(t, u, u.LocalAddr(), "wake up")
		<-got
	}
	if after := heap(); after > before+sockets*receiveSize {
		t.Errorf("%d sockets hold %d bytes", sockets, after-before)
	}
	cancel()
	wg.Wait()
}
