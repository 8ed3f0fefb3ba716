package httpconnect

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
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
			if _, err := io.ReadAll(cr); err == nil {
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
