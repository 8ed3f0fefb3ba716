//go:build linux

package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// A request is what is asked of the origin, in 9 bytes: a kind, and the number
// of the stream.
//
//	 0      1                                                            8
//	+------+------------------------------------------------------------+
//	| kind |                      number of the stream                  |
//	+------+------------------------------------------------------------+
type request byte

const (
	download  request = 'd' // bytes until the connection ends
	upload    request = 'u' // takes bytes until then, and counts them
	firstByte request = 'f' // a byte
)

const requestSize = 9

func (r request) append(b []byte, stream uint64) []byte {
	return binary.BigEndian.AppendUint64(append(b, byte(r)), stream)
}

// An origin is what the streams of the load lead to. It lives in the process of
// the load, so that what arrives is counted where it arrives.
type origin struct {
	listener net.Listener
	streams  sync.Map     // of uint64 to *atomic.Int64: bytes that were uploaded
	open     atomic.Int64 // connections
}

func newOrigin() (*origin, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	o := &origin{listener: l}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			o.open.Add(1)
			go o.serve(c.(*net.TCPConn))
		}
	}()
	return o, nil
}

func (o *origin) port() int { return o.listener.Addr().(*net.TCPAddr).Port }

func (o *origin) close() { o.listener.Close() }

// block is what streams are made of.
const block = 256 << 10

func (o *origin) serve(c *net.TCPConn) {
	defer o.open.Add(-1)
	defer c.Close()
	var head [requestSize]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		return
	}
	switch request(head[0]) {
	case firstByte:
		c.Write(head[:1])
		c.SetReadDeadline(time.Now().Add(lingerPatience))
		io.Copy(io.Discard, c)
	case download:
		for buf := make([]byte, block); ; {
			if _, err := c.Write(buf); err != nil {
				return
			}
		}
	case upload:
		count, ok := o.streams.Load(binary.BigEndian.Uint64(head[1:]))
		if !ok {
			return
		}
		drain(c, count.(*atomic.Int64))
	}
}

// drain reads until the end and counts what it reads.
func drain(r io.Reader, count *atomic.Int64) {
	for buf := make([]byte, block); ; {
		n, err := r.Read(buf)
		count.Add(int64(n))
		if err != nil {
			return
		}
	}
}

// lingerPatience is how long what was asked for may take to end.
const lingerPatience = 20 * time.Second

// settle waits until no connection is left.
func (o *origin) settle() error {
	for deadline := time.Now().Add(lingerPatience); o.open.Load() > 0; {
		if time.Now().After(deadline) {
			return fmt.Errorf("%d connections to the origin do not end", o.open.Load())
		}
		time.Sleep(10 * time.Millisecond)
	}
	return nil
}
