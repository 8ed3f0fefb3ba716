//go:build e2e && unix

package test

import (
	"encoding/binary"
	"flag"
	"net"
	"sync/atomic"
	"testing"
	"time"
)

// orderTime is how long numbered datagrams are sent; `go test -tags e2e -run
// OrderOfDatagrams ./test -args -order 2m` looks longer.
var orderTime = flag.Duration("order", 5*time.Second, "how long to send numbered datagrams for")

// An order looks at the numbers of datagrams. Some may be missing, none may come
// after a higher one.
type order struct {
	next, late atomic.Uint64
	received   atomic.Uint64
}

func (o *order) saw(payload []byte) {
	n := binary.BigEndian.Uint64(payload)
	if n < o.next.Load() {
		o.late.Add(1)
		return
	}
	o.next.Store(n + 1)
	o.received.Add(1)
}

// Datagrams of one flow keep their order there and back, as many as there are,
// of whatever size, and beside a stream that takes what it gets.
func TestOrderOfDatagramsIsKept(t *testing.T) {
	tp := build(t, layout{})
	mirror := serveTCP(t, "127.0.0.1:0", hashThenSend)
	var there, back order
	far, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	go func() {
		buf := make([]byte, 64<<10)
		for {
			n, from, err := far.ReadFrom(buf)
			if err != nil {
				return
			}
			there.saw(buf[:n])
			far.WriteTo(buf[:n], from)
		}
	}()
	a := associate(t, tp.socks, anywhere)
	go func() {
		buf := make([]byte, 64<<10)
		header := len(datagram(far.LocalAddr().String(), nil))
		for {
			n, err := a.socket.Read(buf)
			if err != nil {
				return
			}
			back.saw(buf[header:n])
		}
	}()

	// As fast as they go, but no more under way than queues hold.
	var sent atomic.Uint64
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for n := uint64(0); ; n++ {
			select {
			case <-stop:
				return
			default:
			}
			payload := make([]byte, 8+n*n%1200)
			if n%1000 == 0 {
				payload = make([]byte, 5000) // travels in several frames
			}
			binary.BigEndian.PutUint64(payload, n)
			a.socket.WriteToUDPAddrPort(datagram(far.LocalAddr().String(), payload), a.relay)
			sent.Store(n + 1)
			for waited := time.Now(); n > back.next.Load()+100 && time.Since(waited) < 50*time.Millisecond; {
				time.Sleep(50 * time.Microsecond)
			}
		}
	}()
	begin := time.Now()
	for time.Since(begin) < *orderTime {
		<-time.After(*orderTime / 5) // alone
		carry(t, connectSOCKS(t, tp.socks, mirror.addr), 4<<20)
	}
	close(stop)
	<-done
	rate := float64(sent.Load()) / time.Since(begin).Seconds()
	if !eventually(patience, func() bool { return 10*back.received.Load() >= sent.Load() }) {
		t.Errorf("%d of %d datagrams came back", back.received.Load(), sent.Load())
	}
	t.Logf("%.0f datagrams a second, %d of %d arrived, %d came back", rate, there.received.Load(), sent.Load(), back.received.Load())
	if there.late.Load()+back.late.Load() != 0 {
		t.Errorf("%d came late there and %d back", there.late.Load(), back.late.Load())
	}
}
