package httpconnect

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// lines returns the lines of a header in order.
func lines(head string) []string {
	all := strings.Split(strings.TrimSuffix(head, "\r\n"), "\r\n")
	slices.Sort(all[1:])
	return all
}

func TestForwardAddsNothing(t *testing.T) {
	tests := []struct {
		name   string
		sent   []string
		target string
		want   []string
	}{
		{"plain", []string{"GET http://example.com/a?b HTTP/1.1", "Host: example.com"}, "example.com:80",
			[]string{"GET /a?b HTTP/1.1", "Host: example.com"}},
		{"port", []string{"GET http://example.com:8080 HTTP/1.1", "Host: example.com:8080"}, "example.com:8080",
			[]string{"GET / HTTP/1.1", "Host: example.com:8080"}},
		{"IPv6", []string{"GET http://[2001:DB8::1]/ HTTP/1.1", "Host: [2001:DB8::1]"}, "[2001:db8::1]:80",
			[]string{"GET / HTTP/1.1", "Host: [2001:DB8::1]"}},
		{"Host is that of the URL", []string{"GET http://example.com/ HTTP/1.1", "Host: elsewhere.test"}, "example.com:80",
			[]string{"GET / HTTP/1.1", "Host: example.com"}},
		{"path byte by byte", []string{"GET http://example.com/a|b/%7e/../c;d=%2F?q=[]&x HTTP/1.1", "Host: example.com"}, "example.com:80",
			[]string{"GET /a|b/%7e/../c;d=%2F?q=[]&x HTTP/1.1", "Host: example.com"}},
		{"path of two slashes", []string{"GET http://example.com//x HTTP/1.1", "Host: example.com"}, "example.com:80",
			[]string{"GET //x HTTP/1.1", "Host: example.com"}},
		{"query without path", []string{"GET http://example.com?q HTTP/1.1", "Host: example.com"}, "example.com:80",
			[]string{"GET /?q HTTP/1.1", "Host: example.com"}},
		{"hop by hop", []string{"GET http://example.com/ HTTP/1.1", "Host: example.com", "Connection: keep-alive, X-Secret", "X-Secret: 1",
			"Proxy-Connection: keep-alive", "Keep-Alive: 5", "Te: gzip", "Proxy-Authorization: Basic eA==", "Upgrade: h2c", "X-Kept: 2"}, "example.com:80",
			[]string{"GET / HTTP/1.1", "Host: example.com", "X-Kept: 2"}},
		{"end to end", []string{"GET http://example.com/ HTTP/1.1", "Host: example.com", "User-Agent: curl/8", "Accept-Encoding: br", "Authorization: Basic eA==",
			"Cookie: a=b", "X-Forwarded-For: 192.0.2.1", "Via: 1.1 x", "Range: bytes=0-1", "X: 1", "X: 2"}, "example.com:80",
			[]string{"GET / HTTP/1.1", "Accept-Encoding: br", "Authorization: Basic eA==", "Cookie: a=b", "Host: example.com", "Range: bytes=0-1",
				"User-Agent: curl/8", "Via: 1.1 x", "X-Forwarded-For: 192.0.2.1", "X: 1", "X: 2"}},
		{"trailers wanted", []string{"GET http://example.com/ HTTP/1.1", "Host: example.com", "Connection: TE", "TE: trailers"}, "example.com:80",
			[]string{"GET / HTTP/1.1", "Connection: TE", "Host: example.com", "Te: trailers"}},
		{"HTTP/1.0", []string{"GET http://example.com/ HTTP/1.0", "Expect: 100-continue"}, "example.com:80",
			[]string{"GET / HTTP/1.1", "Host: example.com"}},
		{"own method", []string{"PROPFIND http://example.com/ HTTP/1.1", "Host: example.com", "Depth: 1"}, "example.com:80",
			[]string{"PROPFIND / HTTP/1.1", "Depth: 1", "Host: example.com"}},
		{"OPTIONS for the server", []string{"OPTIONS http://example.com HTTP/1.1", "Host: example.com", "Max-Forwards: 3"}, "example.com:80",
			[]string{"OPTIONS * HTTP/1.1", "Host: example.com", "Max-Forwards: 2"}},
		{"TRACE", []string{"TRACE http://example.com/ HTTP/1.1", "Host: example.com", "Proxy-Authorization: Basic eA=="}, "example.com:80",
			[]string{"TRACE / HTTP/1.1", "Host: example.com"}},
		{"empty content", []string{"POST http://example.com/ HTTP/1.1", "Host: example.com", "Content-Length: 0"}, "example.com:80",
			[]string{"POST / HTTP/1.1", "Content-Length: 0", "Host: example.com"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := newOrigin(t)
			client := start(t, Config{Dial: o.dial})
			io.WriteString(client, strings.Join(tt.sent, "\r\n")+"\r\n\r\n")
			far, r := o.accept()
			if got := lines(readHead(t, r)); !slices.Equal(got, tt.want) {
				t.Errorf("origin got\n%q, want\n%q", got, tt.want)
			}
			if got := o.dialed[0]; got != tt.target {
				t.Errorf("dialled %s, want %s", got, tt.target)
			}
			io.WriteString(far, "HTTP/1.1 204 No Content\r\n\r\n")
			readN(t, client, len("HTTP/1.1 204"))
		})
	}
}

func TestResponsesPassUnchanged(t *testing.T) {
	const get = "GET http://example.com/ HTTP/1.1\r\nHost: example.com\r\n\r\n"
	tests := []struct{ name, request, response, want string }{
		{"counted", get, "HTTP/1.1 200 Fine\r\nContent-Length: 5\r\nX: 1\r\n\r\nhello", "HTTP/1.1 200 Fine\r\nContent-Length: 5\r\nX: 1\r\n\r\nhello"},
		{"no reason", get, "HTTP/1.1 299\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 299 \r\nContent-Length: 0\r\n\r\n"},
		{"chunked", get, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"},
		{"trailer", get, "HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 7\r\n\r\n",
			"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 7\r\n\r\n"},
		{"unannounced trailer", get, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 7\r\nConnection: close\r\n\r\n",
			"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 7\r\n\r\n"},
		{"to its end", get, "HTTP/1.0 200 OK\r\n\r\nhello", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"},
		{"hop by hop", get, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nProxy-Authenticate: Basic\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n\r\n",
			"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n\r\n"},
		{"not decompressed", get, "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello", "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello"},
		{"HEAD", strings.Replace(get, "GET", "HEAD", 1), "HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n"},
		{"not modified", get, "HTTP/1.1 304 Not Modified\r\nContent-Length: 5000\r\nEtag: x\r\n\r\n", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5000\r\nEtag: x\r\n\r\n"},
		{"no content", get, "HTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.1 204 No Content\r\n\r\n"},
		{"interim", get, "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
			"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"},
		{"status of the target", get, "HTTP/1.1 503 Busy\r\nRetry-After: 9\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nRetry-After: 9\r\n\r\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := newOrigin(t)
			client := start(t, Config{Dial: o.dial})
			r := bufio.NewReader(client)
			for range 2 { // the client's connection is kept
				io.WriteString(client, tt.request)
				far, fr := o.accept()
				readHead(t, fr)
				io.WriteString(far, tt.response)
				far.Close()
				if got := readN(t, r, len(tt.want)); got != tt.want {
					t.Fatalf("client got\n%q, want\n%q", got, tt.want)
				}
			}
		})
	}
}

func TestHTTP10ClientReadsToTheEnd(t *testing.T) {
	o := newOrigin(t)
	client := start(t, Config{Dial: o.dial})
	io.WriteString(client, "GET http://example.com/ HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
	far, r := o.accept()
	readHead(t, r)
	io.WriteString(far, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
	if got, want := readAll(t, client), "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello"; got != want {
		t.Errorf("client got %q, want %q", got, want)
	}
}

func TestPipelinedRequests(t *testing.T) {
	var paths []string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		paths = append(paths, r.URL.Path)
		io.WriteString(w, r.URL.Path)
	}))
	defer srv.Close()
	client := start(t, Config{Dial: dialTo(srv.Listener.Addr().String())})
	for i := range 3 {
		fmt.Fprintf(client, "GET http://example.com/%d HTTP/1.1\r\nHost: example.com\r\n\r\n", i)
	}
	r := bufio.NewReader(client)
	for i := range 3 {
		if _, body := readResponse(t, r, "GET"); body != fmt.Sprintf("/%d", i) {
			t.Errorf("response %d: %q", i, body)
		}
	}
}

// Connections to targets are reused by one user of one client and by nobody
// else.
func TestTargetConnectionsBelongToOneUser(t *testing.T) {
	get := func(field string) string {
		return "GET http://example.com/ HTTP/1.1\r\nHost: example.com\r\n" + field + "\r\n"
	}
	o := newOrigin(t)
	var who []string
	cfg := Config{Users: users, Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
		who = append(who, UserOf(ctx))
		return o.dial(ctx, network, addr)
	}}
	answer := func(far net.Conn, fr *bufio.Reader) {
		if head := readHead(t, fr); strings.Contains(head, "Proxy-") {
			t.Errorf("origin got %q, which has credentials", head)
		}
		io.WriteString(far, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	}
	one := start(t, cfg)
	r := bufio.NewReader(one)
	io.WriteString(one, get(asAlice))
	far, fr := o.accept()
	answer(far, fr)
	readResponse(t, r, "GET")
	io.WriteString(one, get(asAlice)) // the same connection
	answer(far, fr)
	readResponse(t, r, "GET")
	io.WriteString(one, get("")) // credentials are needed every time
	if res, _ := readResponse(t, r, "GET"); res.StatusCode != 407 || res.Close {
		t.Errorf("status %d, want 407 on a connection that is kept", res.StatusCode)
	}
	io.WriteString(one, get(asBob))
	answer(o.accept())
	readResponse(t, r, "GET")
	if _, err := fr.ReadByte(); err != io.EOF {
		t.Errorf("connection of the first user: %v, want its end", err)
	}
	two := start(t, cfg)
	io.WriteString(two, get(asBob))
	answer(o.accept())
	readResponse(t, bufio.NewReader(two), "GET")
	if want := []string{"alice", "bob", "bob"}; !slices.Equal(who, want) {
		t.Errorf("dialled for %q, want %q", who, want)
	}
}

func TestDialEndsWithClient(t *testing.T) {
	for name, request := range map[string]string{
		"without content": "GET http://example.com/ HTTP/1.1\r\nHost: example.com\r\n\r\n",
		"with content":    "POST http://example.com/ HTTP/1.1\r\nHost: example.com\r\nContent-Length: 5\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			dialing, ended := make(chan struct{}), make(chan struct{})
			client := start(t, Config{Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
				close(dialing)
				<-ctx.Done()
				close(ended)
				return nil, ctx.Err()
			}})
			io.WriteString(client, request)
			<-dialing
			client.Close()
			<-ended
		})
	}
}

func TestWaitForResponseEndsWithClient(t *testing.T) {
	o := newOrigin(t)
	client := start(t, Config{Dial: o.dial})
	io.WriteString(client, "POST http://example.com/ HTTP/1.1\r\nHost: example.com\r\nContent-Length: 5\r\n\r\nhello")
	_, r := o.accept()
	readHead(t, r)
	readN(t, r, 5)
	client.Close()
	if _, err := r.ReadByte(); err == nil {
		t.Error("connection to the target goes on without the client")
	}
}

func TestResponseOutlivesHalfClose(t *testing.T) {
	o := newOrigin(t)
	client := start(t, Config{Dial: o.dial})
	io.WriteString(client, "GET http://example.com/ HTTP/1.1\r\nHost: example.com\r\n\r\n")
	far, r := o.accept()
	readHead(t, r)
	io.WriteString(far, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst")
	cr := bufio.NewReader(client)
	readHead(t, cr)
	readN(t, cr, 5)
	client.CloseWrite()
	io.WriteString(far, "final")
	if got := readAll(t, cr); got != "final" {
		t.Errorf("client got %q after its half-close, want final", got)
	}
}

func TestTruncatedResponseIsNoWholeOne(t *testing.T) {
	for name, response := range map[string]string{
		"counted":    "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst",
		"chunked":    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n",
		"to its end": "HTTP/1.0 200 OK\r\n\r\nfirst",
	} {
		t.Run(name, func(t *testing.T) {
			o := newOrigin(t)
			client := start(t, Config{Dial: o.dial})
			io.WriteString(client, "GET http://example.com/ HTTP/1.0\r\n\r\n")
			far, r := o.accept()
			readHead(t, r)
			io.WriteString(far, response)
			cr := bufio.NewReader(client)
			readHead(t, cr)
			readN(t, cr, 5)
			far.SetLinger(0)
			far.Close()
			if _, err := io.ReadAll(cr); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("client sees %v, want a reset", err)
			}
		})
	}
}

func TestTargetThatFails(t *testing.T) {
	tests := []struct{ name, response, reason string }{
		{"ends", "", "connection_terminated"},
		{"ends in header", "HTTP/1.1 200 OK\r\nX:", "connection_terminated"},
		{"is no HTTP server", "SSH-2.0-OpenSSH_9.7\r\n", "http_protocol_error"},
		{"changes protocol unasked", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n", "http_protocol_error"},
		{"sends an endless header", "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", maxResponseHeader) + "\r\n\r\n", "http_protocol_error"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := newOrigin(t)
			client := start(t, Config{Dial: o.dial})
			r := bufio.NewReader(client)
			for range 2 { // the client's connection is kept
				io.WriteString(client, "POST http://example.com/ HTTP/1.1\r\nHost: example.com\r\nContent-Length: 1\r\n\r\nx")
				far, fr := o.accept()
				readHead(t, fr)
				readN(t, fr, 1)
				io.WriteString(far, tt.response)
				far.CloseWrite()
				res, _ := readResponse(t, r, "POST")
				if got, want := res.Header.Get("Proxy-Status"), "snapproxy; error="+tt.reason; res.StatusCode != 502 || got != want {
					t.Errorf("status %d, Proxy-Status %q, want 502, %q", res.StatusCode, got, want)
				}
			}
		})
	}
}

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

func TestUpgrade(t *testing.T) {
	o := newOrigin(t)
	client := start(t, Config{Dial: o.dial, Relay: copyBoth})
	io.WriteString(client, "GET http://example.com/chat HTTP/1.1\r\nHost: example.com\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n"+asAlice+"\r\nearly ")
	far, r := o.accept()
	want := []string{"GET /chat HTTP/1.1", "Connection: Upgrade", "Host: example.com", "Sec-Websocket-Key: x", "Upgrade: websocket"}
	if got := lines(readHead(t, r)); !slices.Equal(got, want) {
		t.Errorf("origin got %q, want %q", got, want)
	}
	io.WriteString(far, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX: 1\r\n\r\nwelcome")
	cr := bufio.NewReader(client)
	if got, want := readHead(t, cr), "HTTP/1.1 101 Switching Protocols\r\nX: 1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"; got != want {
		t.Errorf("client got %q, want %q", got, want)
	}
	readN(t, cr, len("welcome"))
	io.WriteString(client, "late")
	client.CloseWrite()
	if got, want := readAll(t, r), "early late"; got != want {
		t.Errorf("origin got %q, want %q", got, want)
	}
	io.WriteString(far, "still open")
	far.CloseWrite()
	if got, want := readAll(t, cr), "still open"; got != want {
		t.Errorf("client got %q, want %q", got, want)
	}
}

func TestUpgradeDeclined(t *testing.T) {
	for name, cfg := range map[string]Config{"by target": {Relay: copyBoth}, "by us": {}} {
		t.Run(name, func(t *testing.T) {
			o := newOrigin(t)
			cfg.Dial = o.dial
			client := start(t, cfg)
			r := bufio.NewReader(client)
			for range 2 { // the client's connection is kept
				io.WriteString(client, "GET http://example.com/ HTTP/1.1\r\nHost: example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
				far, fr := o.accept()
				if head := readHead(t, fr); strings.Contains(head, "Upgrade") != (cfg.Relay != nil) {
					t.Errorf("origin got %q", head)
				}
				io.WriteString(far, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
				if res, body := readResponse(t, r, "GET"); res.StatusCode != 200 || body != "no" {
					t.Errorf("got %d %q, want 200 no", res.StatusCode, body)
				}
			}
		})
	}
}

// copyBoth is the relay of the tests.
func copyBoth(_ context.Context, client, target net.Conn) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		io.Copy(target, client)
		target.(writeCloser).CloseWrite()
	}()
	io.Copy(client, target)
	client.(writeCloser).CloseWrite()
	<-done
	client.Close()
	target.Close()
}

// proxyClient returns the client of net/http with a proxy that serves any
// number of connections.
func proxyClient(t *testing.T, cfg Config, user *url.Userinfo) *http.Client {
	t.Helper()
	tr := &http.Transport{
		Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: "proxy.test:3128", User: user}),
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			return start(t, cfg), nil
		},
	}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: testLimit}
}

func TestClientOfNetHTTP(t *testing.T) {
	hello := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, ok := r.Header["Proxy-Authorization"]; ok {
			t.Error("target got credentials")
		}
		io.WriteString(w, "hello "+r.Host)
	})
	plain, secure := httptest.NewServer(hello), httptest.NewTLSServer(hello)
	defer plain.Close()
	defer secure.Close()
	cfg := Config{
		Users: users,
		Dial:  dialTo(plain.Listener.Addr().String()),
		Connect: func(ctx context.Context, r *Request) {
			far, err := dialTo(secure.Listener.Addr().String())(ctx, "tcp", r.Target())
			if err != nil {
				r.Refuse(err)
				return
			}
			near, err := r.Accept(netip.AddrPort{})
			if err != nil {
				far.Close()
				return
			}
			copyBoth(ctx, near, far)
		},
	}
	client := proxyClient(t, cfg, url.UserPassword("alice", "wonderland"))
	client.Transport.(*http.Transport).TLSClientConfig = secure.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	client.Transport.(*http.Transport).TLSClientConfig.ServerName = "example.com"
	for _, u := range []string{"http://example.com/", "https://example.com/"} {
		for range 2 {
			res, err := client.Get(u)
			if err != nil {
				t.Fatal(err)
			}
			if got, want := readAll(t, res.Body), "hello example.com"; got != want {
				t.Errorf("%s: %q, want %q", u, got, want)
			}
			res.Body.Close()
		}
	}
	stranger := proxyClient(t, cfg, nil)
	res, err := stranger.Get("http://example.com/")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != 407 {
		t.Errorf("without credentials: %d, want 407", res.StatusCode)
	}
	if _, err := stranger.Get("https://example.com/"); err == nil {
		t.Error("CONNECT without credentials succeeded")
	}
}
