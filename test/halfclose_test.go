//go:build unix

package test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"testing"
	"time"
)

// both runs a test over a SOCKS stream and over an HTTP one.
func both(t *testing.T, test func(t *testing.T, connect func(*testing.T, string) *wire)) {
	t.Helper()
	t.Parallel()
	tp := shared(t)
	t.Run("SOCKS", func(t *testing.T) {
		t.Parallel()
		test(t, func(t *testing.T, target string) *wire { t.Helper(); return connectSOCKS(t, tp.socks, target) })
	})
	t.Run("HTTP", func(t *testing.T) {
		t.Parallel()
		test(t, func(t *testing.T, target string) *wire { t.Helper(); return connectHTTP(t, tp.http, target) })
	})
}

const lateSize = 1 << 20 // what is sent after the other side has ended

func TestClientEndsItsSideFirst(t *testing.T) {
	both(t, func(t *testing.T, connect func(*testing.T, string) *wire) {
		o, conns := handOver(t)
		w := connect(t, o.addr)
		c := next(t, conns)
		w.write("question")
		w.CloseWrite()
		if b, err := io.ReadAll(c); err != nil || string(b) != "question" {
			t.Fatalf("the origin gets %q, %v", b, err)
		}
		late := bytes.Repeat([]byte("late"), lateSize/4)
		go func() {
			c.Write(late)
			c.CloseWrite()
		}()
		if b, err := io.ReadAll(w); err != nil || !bytes.Equal(b, late) {
			t.Errorf("the client gets %d bytes, %v, want %d", len(b), err, len(late))
		}
	})
}

func TestOriginEndsItsSideFirst(t *testing.T) {
	both(t, func(t *testing.T, connect func(*testing.T, string) *wire) {
		o, conns := handOver(t)
		w := connect(t, o.addr)
		c := next(t, conns)
		c.Write([]byte("greeting"))
		c.CloseWrite()
		w.wants("greeting")
		w.wantsEnd()
		late := bytes.Repeat([]byte("late"), lateSize/4)
		go func() {
			w.TCPConn.Write(late)
			w.CloseWrite()
		}()
		if b, err := io.ReadAll(c); err != nil || !bytes.Equal(b, late) {
			t.Errorf("the origin gets %d bytes, %v, want %d", len(b), err, len(late))
		}
	})
}

func TestBothSidesEndAtOnce(t *testing.T) {
	both(t, func(t *testing.T, connect func(*testing.T, string) *wire) {
		o := serveTCP(t, "127.0.0.1:0", func(c *net.TCPConn) {
			c.Write([]byte("theirs"))
			c.CloseWrite()
			io.Copy(io.Discard, c)
		})
		for range 20 {
			w := connect(t, o.addr)
			w.write("ours")
			w.CloseWrite()
			w.wants("theirs")
			w.wantsEnd()
		}
	})
}

// A stream that is cut short must not look whole, in either direction.
func TestBreaksArePassedOn(t *testing.T) {
	both(t, func(t *testing.T, connect func(*testing.T, string) *wire) {
		o, conns := handOver(t)
		w := connect(t, o.addr)
		c := next(t, conns)
		c.Write([]byte("half of"))
		w.wants("half of")
		c.SetLinger(0)
		c.Close()
		if _, err := io.ReadAll(w); !isReset(err) {
			t.Errorf("origin broke off: the client sees %v, want a reset", err)
		}

		w = connect(t, o.addr)
		c = next(t, conns)
		w.write("half of")
		if _, err := io.ReadFull(c, make([]byte, 7)); err != nil {
			t.Fatal(err)
		}
		w.SetLinger(0)
		w.Close()
		if _, err := io.ReadAll(c); !isReset(err) {
			t.Errorf("client broke off: the origin sees %v, want a reset", err)
		}
	})
}

// A reader that pauses stops the sender, and nothing is lost.
func TestBackPressure(t *testing.T) {
	both(t, func(t *testing.T, connect func(*testing.T, string) *wire) {
		const size = 24 << 20 // more than all buffers on the way
		o := serveTCP(t, "127.0.0.1:0", func(c *net.TCPConn) {
			io.Copy(c, io.LimitReader(pattern{}, size))
			c.CloseWrite()
		})
		slow := connect(t, o.addr)
		other := connect(t, echoServer(t).addr)
		slow.SetDeadline(time.Now().Add(3 * patience))
		for i := range 50 { // while slow does not read, others go on
			line := fmt.Sprintf("line %d", i)
			other.write(line)
			other.wants(line)
		}
		if n, err := io.Copy(io.Discard, slow); n != size || err != nil {
			t.Errorf("got %d bytes, %v, want %d", n, err, size)
		}
	})
}

// pattern is an endless stream.
type pattern struct{}

func (pattern) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = byte(i)
	}
	return len(b), nil
}
