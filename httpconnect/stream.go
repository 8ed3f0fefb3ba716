package httpconnect

import (
	"bufio"
	"io"
	"net"
	"time"
)

// drainTime is how long a refused client may take to read its reply and close.
// Closing with unread bytes would reset the connection, and the reset would
// overtake the reply.
const drainTime = 500 * time.Millisecond

type writeCloser interface{ CloseWrite() error }

type readCloser interface{ CloseRead() error }

// A stream is the client's connection after the handshake. Reads return the
// bytes received ahead first.
type stream struct {
	net.Conn
	r     *bufio.Reader // nil once its bytes are read
	ended error         // not nil if the watch has seen the end that follows them
}

func (s *stream) Read(b []byte) (int, error) {
	if s.r != nil {
		if n := s.r.Buffered(); n > 0 {
			return s.r.Read(b[:min(n, len(b))])
		}
		s.r = nil
	}
	if s.ended != nil {
		return 0, s.ended
	}
	return s.Conn.Read(b)
}

// CloseWrite ends the stream towards the client. A connection that cannot be
// half closed is closed: left open, its reader would wait for ever.
func (s *stream) CloseWrite() error {
	if c, ok := s.Conn.(writeCloser); ok {
		return c.CloseWrite()
	}
	return s.Conn.Close()
}

// CloseRead ends the stream from the client.
func (s *stream) CloseRead() error {
	if c, ok := s.Conn.(readCloser); ok {
		return c.CloseRead()
	}
	return s.Conn.Close()
}

// SetLinger is that of net.TCPConn, so that a stream can be reset.
func (s *stream) SetLinger(sec int) error {
	if c, ok := s.Conn.(interface{ SetLinger(int) error }); ok {
		return c.SetLinger(sec)
	}
	return nil
}

// hangUp closes conn so that what was written to it arrives.
func hangUp(conn net.Conn) {
	if c, ok := conn.(writeCloser); ok && c.CloseWrite() == nil {
		conn.SetReadDeadline(time.Now().Add(drainTime))
		io.Copy(io.Discard, conn) // ends by the deadline at the latest
	}
	conn.Close()
}

// reset closes conn in a way that its peer cannot take for a regular end.
func reset(conn net.Conn) {
	if c, ok := conn.(interface{ SetLinger(int) error }); ok {
		c.SetLinger(0)
	}
	conn.Close()
}
