//go:build linux

package main

import (
	"context"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/crypto/chacha20poly1305"
	"golang.org/x/sys/unix"
)

const (
	// segmentPayload is what a full TCP segment carries inside: the MTU of the
	// inner packets without the headers of IPv6 and of TCP with timestamps.
	segmentPayload = kernelMTU - 40 - 32
	// sealedSize is about what is sealed then, on the average of both tunnels.
	sealedSize = 1400
	// datagramsPerGB is how many segments a GB takes.
	datagramsPerGB = gigabyte / segmentPayload
)

// floors measures the parts of the way on their own, and adds them up for the
// way through three processes and through two.
func (b *bench) floors() error {
	seal, open, err := cipherFloor(b.plan.floor)
	if err != nil {
		return err
	}
	dh, base, err := exchangeFloor(b.plan.floor)
	if err != nil {
		return err
	}
	b.report.add("floors", "ChaCha20-Poly1305, seal", "s/GB", "part", seal*datagramsPerGB)
	b.report.add("floors", "ChaCha20-Poly1305, open", "s/GB", "part", open*datagramsPerGB)
	b.report.add("floors", "X25519", "us", "part", dh*1e6)
	b.report.add("floors", "X25519, fixed point", "us", "part", base*1e6)

	socket, err := b.socketFloor()
	if err != nil {
		return err
	}
	b.report.add("floors", "sockets: a read and a write of a stream", "s/GB", "part", socket)
	var parts [2]float64
	for i, f := range []struct {
		what, dir, benchmark string
		rounds               float64 // in a second, about
		bytes                float64 // that a round carries
	}{
		{"TCP in user space, both ends, cut and merged", "netstack", "BenchmarkStream", 4000, 64 << 10},
		{"UDP, sent and received in batches", "tunnel", "BenchmarkUDP", 8000, 47 * segmentPayload},
	} {
		n := int(f.rounds * b.plan.floor.Seconds())
		cpu, allocs, err := b.benchmark(f.dir, f.benchmark, n)
		if err != nil {
			return err
		}
		parts[i] = cpu / (float64(n) * f.bytes / gigabyte)
		b.report.add("floors", f.what, "s/GB", "part", parts[i])
		b.report.add("floors", f.what+", allocations", "1/MB", "part", allocs/(f.bytes/megabyte))
	}
	tcp, udp, aead := parts[0], parts[1], (seal+open)*datagramsPerGB
	// Client to exit, client to SNAP, SNAP to exit; the last is a call in serve.
	b.report.add("floors", "sum", "s/GB", "separate", socket+tcp+3*aead+2*udp)
	b.report.add("floors", "sum", "s/GB", "serve", socket+tcp+2*aead+udp)
	return nil
}

// perCall is the CPU time of a call, which does not wait, over a while.
func perCall(while time.Duration, call func() error) (seconds float64, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	used := func() time.Duration {
		var u unix.Rusage
		unix.Getrusage(unix.RUSAGE_THREAD, &u)
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	begin, n := used(), 0
	for used()-begin < while {
		for range 64 {
			if err := call(); err != nil {
				return 0, err
			}
			n++
		}
	}
	return (used() - begin).Seconds() / float64(n), nil
}

// cipherFloor is what it takes to seal and to open a datagram.
func cipherFloor(while time.Duration) (seal, open float64, err error) {
	var aead cipher.AEAD
	if aead, err = chacha20poly1305.New(make([]byte, 32)); err != nil {
		return 0, 0, err
	}
	nonce := make([]byte, aead.NonceSize())
	plain, out := make([]byte, sealedSize), make([]byte, 0, sealedSize+aead.Overhead())
	if seal, err = perCall(while, func() error { out = aead.Seal(out[:0], nonce, plain, nil); return nil }); err != nil {
		return 0, 0, err
	}
	open, err = perCall(while, func() error { _, err := aead.Open(plain[:0], nonce, out, nil); return err })
	return seal, open, err
}

// exchangeFloor is what an X25519 takes, with another's key and with one's own.
func exchangeFloor(while time.Duration) (dh, base float64, err error) {
	mine, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return 0, 0, err
	}
	theirs, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return 0, 0, err
	}
	if dh, err = perCall(while, func() error { _, err := mine.ECDH(theirs.PublicKey()); return err }); err != nil {
		return 0, 0, err
	}
	base, err = perCall(while, func() error { _, err := ecdh.X25519().NewPrivateKey(mine.Bytes()); return err })
	return dh, base, err
}

func init() { parts["direct"] = runDirect }

// runDirect is a SOCKS proxy without a tunnel, which copies by hand: what a
// proxy costs at least.
func runDirect(_ json.RawMessage, ready func(any), done <-chan struct{}) error {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go serveSOCKS(l, func(ctx context.Context, target netip.AddrPort) (net.Conn, error) {
		var d net.Dialer
		c, err := d.DialContext(ctx, "tcp4", target.String())
		if err != nil {
			return nil, err
		}
		return copied{c.(*net.TCPConn)}, nil
	})
	ready(listening{l.Addr().(*net.TCPAddr).AddrPort()})
	<-done
	return nil
}

// copied hides that both ends of a relay are sockets of the kernel, which could
// move bytes without a copy.
type copied struct{ *net.TCPConn }

func (c copied) ReadFrom(r io.Reader) (int64, error) {
	return io.CopyBuffer(struct{ io.Writer }{c.TCPConn}, struct{ io.Reader }{r}, make([]byte, 64<<10))
}

func (c copied) WriteTo(w io.Writer) (int64, error) {
	return io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{c.TCPConn}, make([]byte, 64<<10))
}

// newDirect starts the proxy without a tunnel.
func newDirect(b *bench, _ impairment) (s *system, err error) {
	s = &system{name: "no tunnel", target: loopback}
	defer s.closeIf(&err)
	var front listening
	if err := s.startPart("proxy", "direct", struct{}{}, &front); err != nil {
		return nil, err
	}
	s.socks = front.Addr.String()
	return s, s.warm(b)
}

// socketFloor is the CPU seconds of reading and writing a GB.
func (b *bench) socketFloor() (perGB float64, err error) {
	err = b.together(impairment{}, []maker{newDirect}, func(all []*system) error {
		f, err := b.stream(all[0], download, 1, b.plan.warmup, b.plan.stream)
		if err == nil && f.total == 0 {
			err = errors.New("nothing arrives")
		}
		perGB = f.whole()
		return err
	})
	return perGB, err
}

var allocsLine = regexp.MustCompile(`(\d+) allocs/op`)

// benchmark runs a benchmark of a package for n rounds and returns the CPU
// seconds it took and the allocations of a round.
func (b *bench) benchmark(dir, name string, n int) (cpu, allocs float64, err error) {
	binary := filepath.Join(b.dir, filepath.Base(dir)+".test")
	if _, err := os.Stat(binary); err != nil {
		cmd := exec.CommandContext(b.ctx, "go", "test", "-c", "-o", binary, "github.com/snapproxy/snapproxy/"+dir)
		if out, err := cmd.CombinedOutput(); err != nil {
			return 0, 0, fmt.Errorf("build the benchmarks of %s: %w\n%s", dir, err, out)
		}
	}
	ctx, cancel := context.WithTimeout(b.ctx, 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, "-test.run", "^$", "-test.bench", "^"+name+"$", "-test.benchmem", "-test.benchtime", strconv.Itoa(n)+"x")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return 0, 0, fmt.Errorf("%s of %s: %w\n%s", name, dir, err, out)
	}
	m := allocsLine.FindSubmatch(out)
	if m == nil {
		return 0, 0, fmt.Errorf("%s of %s prints %q", name, dir, out)
	}
	allocs, _ = strconv.ParseFloat(string(m[1]), 64)
	return (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds(), allocs, nil
}
