package socks

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"time"
)

// past is a deadline that ends whatever waits.
var past = time.Unix(1, 0)

// watchAfter is when a watch begins. Most dials have ended before, and need no
// goroutine for it.
const watchAfter = 20 * time.Millisecond

// A watch reads ahead from a client that has nothing to say yet, to learn
// whether it goes away. What it reads stays in the buffered reader.
type watch struct {
	conn  net.Conn
	begin *time.Timer
	done  chan struct{}
	ended error // valid once done is closed
}

// startWatch starts to watch in a while. Until stop is called, r must be left
// alone. gone is called, once at most, with the error of a connection that
// breaks, or with io.EOF if it ends with nothing read ahead: bytes and an end
// are a client that has said all it wants to say.
func startWatch(conn net.Conn, r *bufio.Reader, gone func(error)) *watch {
	w := &watch{conn: conn, done: make(chan struct{})}
	w.begin = time.AfterFunc(watchAfter, func() {
		defer close(w.done)
		for r.Buffered() < r.Size() {
			_, err := r.Peek(r.Buffered() + 1)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				return // stopped
			}
			if err != nil {
				w.ended = err
				if err != io.EOF || r.Buffered() == 0 {
					gone(err)
				}
				return
			}
		}
	})
	return w
}

// stop ends the watch and waits for its end. It returns how the client's stream
// ended, or nil if it goes on as far as is known. The read deadline may be left
// in the past.
func (w *watch) stop() error {
	if w.begin.Stop() {
		return nil
	}
	w.conn.SetReadDeadline(past)
	<-w.done
	return w.ended
}
