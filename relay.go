package snapproxy

import (
	"context"
	"errors"
	"io"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// halfClosedTimeout bounds how long one direction may go on after the other
// has ended (spec of every peer that does not leak: a minute or two).
const halfClosedTimeout = 2 * time.Minute

// relayBufferSize is what one read may take. Larger buffers let a gVisor
// receive queue of many segments leave in one write.
const relayBufferSize = 64 << 10

// smallBufferSize is what the first reads may take: most connections never say
// more at a time, and those that wait hold no large buffer.
const smallBufferSize = 4 << 10

var (
	relayBuffers = sync.Pool{New: func() any { return new([relayBufferSize]byte) }}
	smallBuffers = sync.Pool{New: func() any { return new([smallBufferSize]byte) }}
)

// A wish is somebody's wish for a stream: a SOCKS request, an HTTP CONNECT, a
// connection on a forward, a SYN that arrived at the exit. Exactly one of
// accept and refuse is called.
type wish struct {
	target string
	accept func(local net.Addr) (net.Conn, error)
	refuse func(error) error
}

// serve dials the target of w, answers w, and relays until both directions
// have ended. The sum of the bytes of both directions is returned.
func (w wish) serve(ctx context.Context, dial func(context.Context, string) (net.Conn, error)) (sent, received int64, err error) {
	far, err := dial(ctx, w.target)
	if err != nil {
		w.refuse(err) // the dial error is the one to report
		return 0, 0, err
	}
	near, err := w.accept(far.LocalAddr())
	if err != nil {
		far.Close()
		return 0, 0, err
	}
	return relay(ctx, near, far)
}

// relay copies between near and far until both directions have ended or ctx
// has, then closes both. An end of input in one direction is passed on as a
// half-close, and the other direction then has halfClosedTimeout from one byte
// to the next. A connection that breaks is passed on as a reset, so that a
// stream cut short is never taken for a whole one.
func relay(ctx context.Context, near, far net.Conn) (sent, received int64, err error) {
	defer near.Close()
	defer far.Close()
	streams.enter()
	defer streams.leave()
	stop := context.AfterFunc(ctx, func() {
		abort(near)
		abort(far)
	})
	defer stop()

	var half atomic.Bool
	var errSend, errReceive error
	done := make(chan struct{})
	go func() {
		growStack()
		defer close(done)
		sent, errSend = pipe(far, near, &half)
	}()
	received, errReceive = pipe(near, far, &half)
	<-done
	return sent, received, errors.Join(errSend, errReceive)
}

// pipe copies from src to dst until src ends, then half-closes dst. Once half
// is set by either direction, each read has halfClosedTimeout.
func pipe(dst, src net.Conn, half *atomic.Bool) (n int64, err error) {
	defer func() {
		half.Store(true)
		// The other direction may be blocked in a read that began before; it
		// gets its limit here, later reads get theirs below.
		dst.SetReadDeadline(time.Now().Add(halfClosedTimeout))
	}()
	small := smallBuffers.Get().(*[smallBufferSize]byte)
	defer smallBuffers.Put(small)
	buf := small[:]
	for {
		r, rerr := src.Read(buf)
		if r > 0 {
			w, werr := dst.Write(buf[:r])
			n += int64(w)
			if werr != nil {
				// dst takes no more, but what it said before may still be on
				// its way: the other direction ends by itself.
				closeRead(src)
				return n, werr
			}
			if half.Load() {
				src.SetReadDeadline(time.Now().Add(halfClosedTimeout))
			}
		}
		if r == smallBufferSize && len(buf) == r {
			large := relayBuffers.Get().(*[relayBufferSize]byte)
			defer relayBuffers.Put(large)
			buf = large[:]
		}
		if rerr == io.EOF {
			return n, closeWrite(dst)
		}
		if rerr != nil {
			abort(dst)
			return n, rerr
		}
	}
}

// closeWrite ends the writing side of c; a connection that cannot be half
// closed is closed, never left open (its peer would wait for ever).
func closeWrite(c net.Conn) error {
	if h, ok := c.(interface{ CloseWrite() error }); ok {
		err := h.CloseWrite()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		return err
	}
	return c.Close()
}

// closeRead ends the reading side of c where that exists.
func closeRead(c net.Conn) {
	if h, ok := c.(interface{ CloseRead() error }); ok {
		h.CloseRead()
	}
}

// abort resets c where that exists, else closes it.
func abort(c net.Conn) {
	if l, ok := c.(interface{ SetLinger(int) error }); ok {
		l.SetLinger(0)
	}
	c.Close()
}

// growStack gives a new goroutine the stack that serving a connection needs, all
// at once: doubled as the need arises it is copied several times, which shows in
// the CPU time of a short connection.
//
//go:noinline
func growStack() {
	var room [12 << 10]byte
	runtime.KeepAlive(&room)
}
