//go:build linux

package scionlab

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os/exec"
	"strconv"
	"sync/atomic"
	"testing"
	"time"
)

// serveHTTP serves on loopback, where exits reach it.
func serveHTTP(t *testing.T, h http.Handler) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: h}
	t.Cleanup(func() { server.Close() })
	go server.Serve(ln)
	return ln.Addr().String()
}

// carries takes a megabyte up and a megabyte down through a client, with curl
// through SOCKS if there is one.
func carries(t *testing.T, proxy string) {
	t.Helper()
	mirror := serveHTTP(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) }))
	body := make([]byte, 1<<20)
	rand.NewChaCha8([32]byte{1}).Read(body)
	var got []byte
	var err error
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if curl, lookErr := exec.LookPath("curl"); lookErr == nil {
		cmd := exec.CommandContext(ctx, curl, "-sS", "--data-binary", "@-", "-H", "Expect:", "-x", "socks5h://"+proxy, "http://"+mirror+"/")
		cmd.Env = environ()
		cmd.Stdin = bytes.NewReader(body)
		var said bytes.Buffer
		cmd.Stderr = &said
		if got, err = cmd.Output(); err != nil {
			err = fmt.Errorf("curl: %w: %s", err, &said)
		}
	} else {
		got, err = post(ctx, proxy, mirror, body)
	}
	if err != nil || !bytes.Equal(got, body) {
		t.Errorf("%d bytes there and back: %d bytes come back, %v", len(body), len(got), err)
	}
}

// post is what carries does where there is no curl.
func post(ctx context.Context, proxy, origin string, body []byte) ([]byte, error) {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(context.Context, string, string) (net.Conn, error) { return dialSOCKS(proxy, origin) }}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+origin+"/", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	res, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	return io.ReadAll(res.Body)
}

// dialSOCKS connects to an address through a SOCKS5 proxy.
func dialSOCKS(proxy, target string) (net.Conn, error) {
	addr, err := netip.ParseAddrPort(target)
	if err != nil {
		return nil, err
	}
	c, err := net.Dial("tcp", proxy)
	if err != nil {
		return nil, err
	}
	c.SetDeadline(time.Now().Add(patience))
	request := append([]byte{5, 1, 0, 5, 1, 0, 1}, addr.Addr().AsSlice()...)
	c.Write(binary.BigEndian.AppendUint16(request, addr.Port()))
	if err := readReply(c); err != nil {
		c.Close()
		return nil, fmt.Errorf("SOCKS request: %w", err)
	}
	c.SetDeadline(time.Time{})
	return c, nil
}

// readReply reads the chosen method and the reply (RFC 1928 §3, §6).
func readReply(c net.Conn) error {
	head := make([]byte, 2+4)
	if _, err := io.ReadFull(c, head); err != nil {
		return err
	}
	if head[0] != 5 || head[1] != 0 || head[2] != 5 || head[3] != 0 {
		return fmt.Errorf("reply %x", head)
	}
	size := map[byte]int{1: 4, 4: 16}[head[5]]
	if size == 0 {
		return fmt.Errorf("reply with address type %d", head[5])
	}
	_, err := io.CopyN(io.Discard, c, int64(size+2))
	return err
}

// A flow is a download that goes on until it is told to end. It is paced, so
// that what it does without for a while tells how long that was.
type flow struct {
	t      *testing.T
	got    atomic.Int64 // bytes
	gap    atomic.Int64 // longest time without any, in nanoseconds
	cancel context.CancelFunc
	done   chan error
}

// A paced origin sends so many bytes at a time so often, and after its last
// chunk the SHA-256 of all.
const (
	chunkSize = 8 << 10
	chunkRate = 10 * time.Millisecond
)

// startFlow begins a download through a client.
func startFlow(t *testing.T, proxy string) *flow {
	t.Helper()
	stop, cancel := context.WithCancel(context.Background())
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); ln.Close() })
	go func() {
		if c, err := ln.Accept(); err == nil {
			defer c.Close()
			sendPaced(stop, c)
		}
	}()
	c, err := dialSOCKS(proxy, ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	f := &flow{t: t, cancel: cancel, done: make(chan error, 1)}
	go func() { f.done <- f.receive(c) }()
	return f
}

// sendPaced sends a number of bytes as a line before each chunk, 0 at the end.
func sendPaced(stop context.Context, c net.Conn) {
	tick := time.NewTicker(chunkRate)
	defer tick.Stop()
	random := rand.NewChaCha8([32]byte{2})
	sum := sha256.New()
	chunk := make([]byte, chunkSize)
	for stop.Err() == nil {
		<-tick.C
		random.Read(chunk)
		sum.Write(chunk)
		if _, err := c.Write(append([]byte{1}, chunk...)); err != nil {
			return
		}
	}
	c.Write(append([]byte{0}, sum.Sum(nil)...))
}

// receive takes chunks until the last and checks the sum.
func (f *flow) receive(c net.Conn) error {
	sum := sha256.New()
	last := time.Now()
	chunk := make([]byte, 1+chunkSize)
	for {
		c.SetReadDeadline(time.Now().Add(patience))
		if _, err := io.ReadFull(c, chunk[:1]); err != nil {
			return err
		}
		if chunk[0] == 0 {
			break
		}
		if chunk[0] != 1 {
			return fmt.Errorf("a chunk begins with %d", chunk[0])
		}
		if _, err := io.ReadFull(c, chunk[1:]); err != nil {
			return err
		}
		now := time.Now()
		f.gap.Store(max(f.gap.Load(), int64(now.Sub(last))))
		last = now
		sum.Write(chunk[1:])
		f.got.Add(chunkSize)
	}
	want, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(want, sum.Sum(nil)) {
		return fmt.Errorf("the sum differs (%v)", err)
	}
	return nil
}

// goesOn waits until so much more has arrived.
func (f *flow) goesOn(bytes int64) {
	f.t.Helper()
	from := f.got.Load()
	var err error
	if !eventually(func() bool {
		select {
		case err = <-f.done:
			f.done <- err
			return true
		default:
			return f.got.Load() >= from+bytes
		}
	}) {
		f.t.Fatalf("the flow stands after %d bytes", f.got.Load())
	}
	if err != nil {
		f.t.Fatalf("after %d bytes: %v", f.got.Load(), err)
	}
}

// longestGap is the longest time without a byte since it was last asked for.
func (f *flow) longestGap() time.Duration { return time.Duration(f.gap.Swap(0)) }

// end ends the flow, all of which must have arrived.
func (f *flow) end() {
	f.t.Helper()
	f.cancel()
	if err := <-f.done; err != nil {
		f.t.Errorf("after %s bytes: %v", strconv.FormatInt(f.got.Load(), 10), err)
	}
}
