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
	conns    sync.Map     // of *net.TCPConn to nothing: those that are open
	open     atomic.Int64 // how many
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
			o.conns.Store(c, nil)
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
	defer o.conns.Delete(net.Conn(c))
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

// lingerPatience is how long what was asked for may take to end by itself.
const lingerPatience = 10 * time.Second

// settle waits until no connection is left. What has not ended after a while is
// reset: where datagrams are lost, word of an end may be.
func (o *origin) settle() error {
	for begin, kicked := time.Now(), false; o.open.Load() > 0; {
		switch took := time.Since(begin); {
		case took > 2*lingerPatience:
			return fmt.Errorf("%d connections to the origin do not end", o.open.Load())
		case took > lingerPatience && !kicked:
			kicked = true
			o.conns.Range(func(c, _ any) bool {
				c.(*net.TCPConn).SetLinger(0)
				c.(*net.TCPConn).Close()
				return true
			})
		}
		time.Sleep(10 * time.Millisecond)
	}
	return nil
}
