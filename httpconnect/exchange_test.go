package httpconnect

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestContentsOfAnySize(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		content, _ := io.ReadAll(r.Body)      // a server of net/http does not do both at once
		http.NewResponseController(w).Flush() // so that it is chunked, and can have a trailer
		w.Write(content)
		w.Header().Set(http.TrailerPrefix+"X-Sum", r.Trailer.Get("X-Sum"))
	}))
	defer srv.Close()
	proxy := proxyClient(t, Config{Dial: dialTo(srv.Listener.Addr().String())}, nil)
	for _, size := range []int{0, 1, 4 << 10, 8 << 20} {
		for _, chunked := range []bool{false, true} {
			sent := make([]byte, size)
			rand.Read(sent)
			var body io.Reader = bytes.NewReader(sent)
			if chunked {
				body = io.MultiReader(body) // hides the length
			}
			req, err := http.NewRequest("POST", "http://example.com/", body)
			if err != nil {
				t.Fatal(err)
			}
			if chunked {
				req.Trailer = http.Header{"X-Sum": {"7"}}
			}
			res, err := proxy.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(res.Body)
			res.Body.Close()
			if err != nil || !bytes.Equal(got, sent) {
				t.Errorf("%d bytes, chunked %v: %d come back: %v", size, chunked, len(got), err)
			}
			if chunked && res.Trailer.Get("X-Sum") != "7" {
				t.Errorf("%d bytes: trailer %v, want X-Sum", size, res.Trailer)
			}
		}
	}
}

func TestUnannouncedTrailerOfRequest(t *testing.T) {
	o := newOrigin(t)
	client := start(t, Config{Dial: o.dial})
	io.WriteString(client, "POST http://example.com/ HTTP/1.1\r\nHost: example.com\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX-Sum: 7\r\nHost: evil\r\n\r\n")
	_, r := o.accept()
	readHead(t, r)
	if got, want := readN(t, r, 6+3+10+2), "1\r\nx\r\n0\r\nX-Sum: 7\r\n\r\n"; got != want {
		t.Errorf("origin got %q, want %q", got, want)
	}
}

func TestMalformedContent(t *testing.T) {
	o := newOrigin(t)
	client := start(t, Config{Dial: o.dial})
	io.WriteString(client, "POST http://example.com/ HTTP/1.1\r\nHost: example.com\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")
	o.accept()
	if res, _ := readResponse(t, bufio.NewReader(client), "POST"); res.StatusCode != 400 || !res.Close {
		t.Errorf("status %d, want 400 and the end", res.StatusCode)
	}
}

// A target may answer before it has the content, and then not want the rest.
func TestEarlyResponse(t *testing.T) {
	o := newOrigin(t)
	client := start(t, Config{Dial: o.dial})
	io.WriteString(client, "POST http://example.com/ HTTP/1.1\r\nHost: example.com\r\nContent-Length: 100000\r\n\r\nbegin")
	far, r := o.accept()
	readHead(t, r)
	readN(t, r, 5)
	io.WriteString(far, "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
	if got, want := readAll(t, client), "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno"; got != want {
		t.Errorf("client got %q, want %q", got, want)
	}
}

func TestExpectContinue(t *testing.T) {
	const post = "POST http://example.com/ HTTP/1.1\r\nHost: example.com\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
	t.Run("permitted", func(t *testing.T) {
		o := newOrigin(t)
		client := start(t, Config{Dial: o.dial})
		io.WriteString(client, post)
		far, r := o.accept()
		if head := readHead(t, r); !strings.Contains(head, "Expect: 100-continue\r\n") {
			t.Errorf("origin got %q, want Expect", head)
		}
		io.WriteString(far, "HTTP/1.1 100 Continue\r\n\r\n")
		cr := bufio.NewReader(client)
		if got, want := readHead(t, cr), "HTTP/1.1 100 Continue\r\n"; got != want {
			t.Errorf("client got %q, want %q", got, want)
		}
		io.WriteString(client, "hello")
		if got := readN(t, r, 5); got != "hello" {
			t.Errorf("origin got %q, want hello", got)
		}
		io.WriteString(far, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		if res, _ := readResponse(t, cr, "POST"); res.StatusCode != 200 || res.Close {
			t.Errorf("status %d, want 200 on a connection that is kept", res.StatusCode)
		}
	})
	t.Run("refused", func(t *testing.T) {
		o := newOrigin(t)
		client := start(t, Config{Dial: o.dial})
		io.WriteString(client, post)
		far, r := o.accept()
		readHead(t, r)
		io.WriteString(far, "HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n")
		if got, want := readAll(t, client), "HTTP/1.1 417 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"; got != want {
			t.Errorf("client got %q, want %q", got, want)
		}
	})
	t.Run("ignored", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			client, server := net.Pipe()
			near, far := net.Pipe()
			done := make(chan struct{})
			go func() {
				defer close(done)
				NewServer(Config{Dial: func(context.Context, string, string) (net.Conn, error) { return near, nil }}).ServeConn(t.Context(), server)
			}()
			begin := time.Now()
			io.WriteString(client, post)
			r := bufio.NewReader(far)
			readHead(t, r)
			cr := bufio.NewReader(client)
			if got, want := readHead(t, cr), "HTTP/1.1 100 Continue\r\n"; got != want {
				t.Errorf("client got %q, want %q", got, want)
			}
			if took := time.Since(begin); took != continueTimeout {
				t.Errorf("permitted after %v, want %v", took, continueTimeout)
			}
			go io.WriteString(client, "hello")
			readN(t, r, 5)
			go io.WriteString(far, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			readResponse(t, cr, "POST")
			client.Close()
			<-done
		})
	})
}

// A response may take its time, and its parts come as they are made.
func TestSlowResponse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		near, far := net.Pipe()
		done := make(chan struct{})
		go func() {
			defer close(done)
			NewServer(Config{Dial: func(context.Context, string, string) (net.Conn, error) { return near, nil }}).ServeConn(t.Context(), server)
		}()
		io.WriteString(client, "GET http://example.com/ HTTP/1.1\r\nHost: example.com\r\n\r\n")
		readHead(t, bufio.NewReader(far))
		r := bufio.NewReader(client)
		time.Sleep(time.Hour)
		io.WriteString(far, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
		readHead(t, r)
		for range 3 {
			time.Sleep(time.Hour)
			go io.WriteString(far, "5\r\nhello\r\n")
			if got, want := readN(t, r, 10), "5\r\nhello\r\n"; got != want {
				t.Errorf("client got %q, want %q", got, want)
			}
		}
		client.Close()
		far.Close()
		<-done
	})
}

// A client that has closed its side gets the rest of a response, unless it
// stands still for too long.
func TestHalfClosedClientIsNotWaitedForForever(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		near, far := net.Pipe()
		ending := &endingConn{Conn: server, end: make(chan struct{})}
		done := make(chan struct{})
		go func() {
			defer close(done)
			NewServer(Config{Dial: func(context.Context, string, string) (net.Conn, error) { return near, nil }}).ServeConn(t.Context(), ending)
		}()
		io.WriteString(client, "GET http://example.com/ HTTP/1.1\r\nHost: example.com\r\n\r\n")
		readHead(t, bufio.NewReader(far))
		r := bufio.NewReader(client)
		io.WriteString(far, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
		readHead(t, r)
		close(ending.end)
		for range 3 { // each part gives it more time
			time.Sleep(halfClosedTimeout - time.Second)
			go io.WriteString(far, "hello")
			readN(t, r, 5)
		}
		begin := time.Now()
		<-done
		if took := time.Since(begin); took != halfClosedTimeout {
			t.Errorf("ended %v after the last part, want %v", took, halfClosedTimeout)
		}
	})
}

// An endingConn is a connection whose peer closes its side when end is closed.
type endingConn struct {
	net.Conn
	end chan struct{}
}

func (c *endingConn) Read(b []byte) (int, error) {
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		select {
		case <-c.end:
			c.Conn.SetReadDeadline(past)
		case <-stop:
		}
	}()
	n, err := c.Conn.Read(b)
	select {
	case <-c.end:
		if n == 0 {
			return 0, io.EOF
		}
	default:
	}
	return n, err
}
