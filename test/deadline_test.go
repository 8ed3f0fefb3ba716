//go:build unix

package test

import (
	"io"
	"net/http"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestHandshakesHaveADeadline holds that a client that does not come to its
// point is let go, at whatever point it stops, although it says a byte now and
// then; and that the deadline is lifted from those that came to theirs.
func TestHandshakesHaveADeadline(t *testing.T) {
	t.Parallel()
	tp := shared(t)
	l := guardedListener(t)
	o := echoServer(t)
	early := connectSOCKS(t, tp.socks, o.addr)
	earlyHTTP := connectHTTP(t, tp.http, o.addr)

	t.Run("handshakes", func(t *testing.T) {
		for _, tt := range []struct{ name, proxy, begin, then string }{
			{"silent", tp.socks, "", ""},
			{"greeting", tp.socks, "\x05", ""},
			{"methods", tp.socks, "\x05\xff", "\x00"},
			{"request", tp.socks, noAuthGreeting + "\x05\x01", ""},
			{"name", tp.socks, noAuthGreeting + "\x05\x01\x00\x03\xff", "a"},
			{"password", l.socks, passwordOffered + "\x01\xff", "a"},
			{"SOCKS4", tp.socks, "\x04\x01\x00\x50", "\x01"},
			{"method", tp.http, "GE", "T"},
			{"header", tp.http, "CONNECT localhost:80 HTTP/1.1\r\nX: ", "y"},
			{"TLS", tp.http, "\x16\x03\x01\x02\x00\x01", "\x00"},
		} {
			t.Run(tt.name, func(t *testing.T) {
				t.Parallel()
				w := dialWire(t, tt.proxy)
				w.write(tt.begin)
				over := make(chan struct{})
				defer close(over)
				go dribble(w, tt.then, over)
				if _, err := io.Copy(io.Discard, w); isTimeout(err) {
					t.Error("the proxy waits for ever")
				}
			})
		}
	})
	for _, w := range []*wire{early, earlyHTTP} {
		w.SetDeadline(time.Now().Add(patience))
		w.write("still here")
		w.wants("still here")
	}
}

// dribble writes a byte each half second.
func dribble(w *wire, text string, over <-chan struct{}) {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for text != "" {
		select {
		case <-over:
			return
		case <-tick.C:
			if _, err := io.WriteString(w.TCPConn, text); err != nil {
				return
			}
		}
	}
}

// A half-read request that ends is nobody's fault: no answer, no harm.
func TestClientsMayLeaveInMidSentence(t *testing.T) {
	t.Parallel()
	tp := shared(t)
	o := echoServer(t)
	whole := noAuthGreeting + request(cmdConnect, o.addr)
	for n := range len(whole) {
		w := dialWire(t, tp.socks)
		w.write(whole[:n])
		if n%2 == 0 {
			w.SetLinger(0)
		}
		w.Close()
	}
	head := "CONNECT " + o.addr + " HTTP/1.1\r\nHost: x\r\n\r\n"
	for n := range len(head) {
		w := dialWire(t, tp.http)
		w.write(head[:n])
		w.Close()
	}
	if res, _ := askHTTP(t, tp.http, head); res.StatusCode != http.StatusOK {
		t.Errorf("afterwards: %s", res.Status)
	}
}

// A dial ends when nobody waits for it any more.
func TestDialsEndWithTheirClients(t *testing.T) {
	t.Parallel()
	l := guardedListener(t)
	for _, kind := range []string{"socks", "http"} {
		target := silentPort(t)
		w := dialWire(t, l.socks)
		if kind == "socks" {
			w.write(passwordOffered, login(userName, userPassword), request(cmdConnect, target))
			w.wants("\x05\x02\x01\x00")
		} else {
			w.write("CONNECT " + target + " HTTP/1.1\r\nHost: x\r\nProxy-Authorization: " + basic(userName, userPassword) + "\r\n\r\n")
		}
		w.Close()
		ended := regexp.MustCompile(`(?m)^.*msg="flow ended" kind=` + kind + ` .*target=` + target + ` .*$`)
		c := guarded()
		if !c.stderr.await(patience, c.ended, ended.MatchString) {
			t.Fatalf("%s: the dial does not end", kind)
		}
		if line := ended.FindString(c.stderr.String()); !strings.Contains(line, "went away") {
			t.Errorf("%s: the dial ends otherwise: %s", kind, line)
		}
	}
}

// A client that may open few files at a time gives up none of its listeners for
// that, and says so.
func TestAcceptingGoesOnAfterTooManyFiles(t *testing.T) {
	t.Parallel()
	tp := shared(t)
	script := `ulimit -n 64; exec "$@"`
	cmd := exec.Command("sh", append([]string{"-c", script, "sh", program(t), "client"}, tp.clientFlags()...)...)
	c := launch(t, cmd)
	c.awaitReady()
	l := listenerOf(c)
	var many []*wire
	for range 100 { // the listener's queue takes those that are not accepted
		many = append(many, dialWire(t, l.socks))
	}
	c.says("too many open files")
	for _, w := range many {
		w.Close()
	}
	w := connectSOCKS(t, l.socks, echoServer(t).addr)
	w.write("hello")
	w.wants("hello")
}
