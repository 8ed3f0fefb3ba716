//go:build e2e && linux

package test

import (
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"

	"github.com/snapproxy/snapproxy/scion"
	"github.com/snapproxy/snapproxy/tunnel/snaptun"
)

// floodTime is how long a flood lasts at least.
const floodTime = 5 * time.Second

// A SNAP that is offered all that two tunnels can send, which is more than it
// carries, carries the small flows of others, and rests when it is over.
func TestSmallFlowsPassAFloodOfTunnels(t *testing.T) {
	tp := build(t, layout{})
	tp.authorize(tp.exitKey, tp.clientKey, tp.newKey("one"), tp.newKey("other"))
	tp.reload()
	one, other := attach(t, tp, "one"), attach(t, tp, "other")
	small := newSmallFlows(t, tp)
	small.pass()
	before := memory(t, tp.snap, "VmRSS")

	toOther, toOne := one.packetsTo(other), other.packetsTo(one)
	flood := func(rate float64, beside func(since time.Time)) (offered, carried float64) {
		before, begin := one.arrived.Load()+other.arrived.Load(), time.Now()
		stop, stopToo := one.pour(rate/2, toOther), other.pour(rate/2, toOne)
		beside(begin)
		sent := stop() + stopToo()
		took := time.Since(begin).Seconds()
		return float64(sent) / took, float64(one.arrived.Load()+other.arrived.Load()-before) / took
	}
	// What it can carry is what comes of as much as can be sent.
	_, most := flood(0, func(time.Time) { <-time.After(2 * time.Second) })
	passed := 0
	offered, carried := flood(2*most, func(since time.Time) {
		for ; passed < 20 || time.Since(since) < floodTime; passed++ {
			small.pass()
		}
		t.Logf("%d small flows in %.1f s", passed, time.Since(since).Seconds())
	})
	t.Logf("beside %.0f packets/s offered and %.0f/s carried, where %.0f/s can be", offered, carried, most)
	if carried == 0 {
		t.Error("a SNAP that is flooded carries nothing of it")
	}
	tp.recovers(t, tp.snap, before)
	small.pass()
}

// Noise and attempts of strangers, as fast as they go.
func TestSmallFlowsPassAFloodOfStrangers(t *testing.T) {
	tp := build(t, layout{})
	small := newSmallFlows(t, tp)
	small.pass()
	before := memory(t, tp.snap, "VmRSS")

	var attempts [][]byte // each of which costs the SNAP X25519
	for range 500 {
		attempts = append(attempts, strange(t, tp.snapKey))
	}
	r := rand.New(rand.NewPCG(1, 2))
	var noise [][]byte
	for range 500 {
		b := make([]byte, 4+r.IntN(1400))
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		if len(noise)%2 == 0 { // looks like a message
			b[0], b[1], b[2], b[3] = byte(1+r.IntN(4)), 0, 0, 0
		}
		noise = append(noise, b)
	}
	for _, flood := range []struct {
		name      string
		rate      float64
		datagrams [][]byte
	}{
		{"noise", 0, noise},
		{"attempts of strangers", 0, attempts},
	} {
		begin := time.Now()
		stop := newFlooder(t, tp.snapAddr()).pour(flood.rate, func() [][]byte { return flood.datagrams })
		passed := 0
		for ; passed < 20 || time.Since(begin) < floodTime; passed++ {
			small.pass()
		}
		late := tp.launchClient() // who comes later gets in
		late.awaitReady()
		late.end()
		t.Logf("%s: %.0f/s, %d small flows beside them in %.1f s", flood.name, float64(stop())/time.Since(begin).Seconds(), passed, time.Since(begin).Seconds())
		tp.recovers(t, tp.snap, before)
	}
}

// recovers waits until a role rests, and wants it to have given back the memory
// it took.
func (tp *topology) recovers(t *testing.T, p *process, before int) {
	t.Helper()
	tp.rests(t, p)
	if after := memory(t, p, "VmRSS"); after > before+64<<10 {
		t.Errorf("%s holds %d KiB after it was flooded, %d before", p.cmd.Args[1], after, before)
	}
}

// rests waits until a role has nothing to do.
func (tp *topology) rests(t *testing.T, p *process) {
	t.Helper()
	last, since := cpuSeconds(p), time.Now()
	if !eventually(2*patience, func() bool {
		if now := cpuSeconds(p); now != last {
			last, since = now, time.Now()
		}
		return time.Since(since) > time.Second/2 // in which it runs for less than 10 ms
	}) {
		t.Errorf("%s does not rest: %s CPU seconds by now", p.cmd.Args[1], cpuSeconds(p))
	}
}

// smallFlows are short connections through a proxy.
type smallFlows struct {
	t     *testing.T
	proxy string
	echo  *origin
}

func newSmallFlows(t *testing.T, tp *topology) *smallFlows {
	return &smallFlows{t, tp.socks, echoServer(t)}
}

// pass makes one and exchanges a little.
func (s *smallFlows) pass() {
	s.t.Helper()
	w := connectSOCKS(s.t, s.proxy, s.echo.addr)
	defer w.Close()
	text := strings.Repeat("small flow ", 500)
	w.write(text)
	w.wants(text)
}

// A flooder sends to a SNAP as fast as it can, perhaps through a tunnel.
type flooder struct {
	t       *testing.T
	conn    *net.UDPConn
	session *snaptun.Session // nil: it has no tunnel
	addr    scion.Addr
	segment int          // bytes of the datagrams that are sent as bursts; 0: none are
	arrived atomic.Int64 // messages through the tunnel
}

func newFlooder(t *testing.T, snap string) *flooder {
	t.Helper()
	c, err := net.Dial("udp4", snap)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &flooder{t: t, conn: c.(*net.UDPConn)}
}

// attach makes a tunnel with the key of a file.
func attach(t *testing.T, tp *topology, name string) *flooder {
	t.Helper()
	return attachTo(t, tp.snapAddr(), tp.snapKey, privateKey(t, tp.file(name+".key")))
}

// attachTo makes a tunnel and counts what comes out of it.
func attachTo(t *testing.T, snap string, snapKey snaptun.PublicKey, key snaptun.PrivateKey) *flooder {
	t.Helper()
	f := newFlooder(t, snap)
	f.conn.SetReadBuffer(4 << 20)
	f.session = newSession(t, key, snapKey)
	ia, err := scion.ParseIA(isdAS)
	if err != nil {
		t.Fatal(err)
	}
	local := f.conn.LocalAddr().(*net.UDPAddr).AddrPort()
	f.addr = scion.Addr{IA: ia, Host: local.Addr(), Port: local.Port()}
	for up := false; !up; up = f.session.Up(time.Now()) {
		if _, err := f.conn.Write(initiation(t, f.session)); err != nil {
			t.Fatal(err)
		}
		f.conn.SetReadDeadline(time.Now().Add(patience))
		buf := make([]byte, 2048)
		n, err := f.conn.Read(buf)
		if err != nil {
			t.Fatalf("no tunnel to the SNAP: %v", err)
		}
		f.session.HandleDatagram(buf[:n], time.Now())
		for b := f.session.NextTransmit(); b != nil; b = f.session.NextTransmit() {
			f.conn.Write(b)
		}
	}
	f.conn.SetReadDeadline(time.Time{})
	go func() {
		for buf := make([]byte, 64<<10); ; {
			if n, err := f.conn.Read(buf); err != nil {
				return
			} else if n > 0 && buf[0] == msgData {
				f.arrived.Add(1)
			}
		}
	}()
	return f
}

// burstLength is how many datagrams are sent as one.
const burstLength = 40

// packetsTo gives new sealed packets to another tunnel at each call, in bursts
// that the kernel cuts, which is how more are sent than a SNAP can carry.
func (f *flooder) packetsTo(other *flooder) func() [][]byte {
	f.t.Helper()
	packet, err := scion.AppendUDP(nil, f.addr, other.addr, make([]byte, 1200))
	if err != nil {
		f.t.Fatal(err)
	}
	one, err := f.session.Seal(nil, packet, time.Now())
	if err != nil {
		f.t.Fatal(err)
	}
	f.segment = len(one)
	raw, err := f.conn.SyscallConn()
	if err != nil {
		f.t.Fatal(err)
	}
	raw.Control(func(fd uintptr) {
		if err := unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_SEGMENT, f.segment); err != nil {
			f.t.Skipf("this kernel cuts no bursts: %v", err)
		}
	})
	burst := make([]byte, 0, burstLength*f.segment)
	return func() [][]byte {
		burst = burst[:0]
		for now := time.Now(); len(burst) < cap(burst); {
			if burst, err = f.session.Seal(burst, packet, now); err != nil {
				f.t.Errorf("seal: %v", err)
				break
			}
		}
		return [][]byte{burst}
	}
}

// pour sends what next gives, time and again, at a rate a second or, if that is
// 0, as fast as it goes, until stop is called, which returns how many datagrams
// were sent. Nobody else may use the session.
func (f *flooder) pour(rate float64, next func() [][]byte) (stop func() (sent int64)) {
	var over atomic.Bool
	var sent int64
	var wg sync.WaitGroup
	conn := ipv4.NewPacketConn(f.conn)
	wg.Go(func() {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		begin := time.Now()
		var messages []ipv4.Message
		for !over.Load() {
			if rate > 0 && float64(sent) >= rate*time.Since(begin).Seconds() {
				<-tick.C
				continue
			}
			messages = messages[:0]
			for _, b := range next() {
				messages = append(messages, ipv4.Message{Buffers: [][]byte{b}})
			}
			for len(messages) > 0 && !over.Load() {
				n, err := conn.WriteBatch(messages, 0)
				if err != nil {
					f.t.Errorf("flood: %v", err)
					return
				}
				for _, m := range messages[:n] {
					if f.segment > 0 {
						sent += int64(m.N / f.segment)
					} else {
						sent++
					}
				}
				messages = messages[n:]
			}
		}
	})
	stop = sync.OnceValue(func() int64 { over.Store(true); wg.Wait(); return sent })
	f.t.Cleanup(func() { stop() })
	return stop
}
