//go:build unix

package test

import (
	"fmt"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"
)

func TestHTTPStatusTellsWhy(t *testing.T) {
	t.Parallel()
	tp := shared(t)
	refused, silent := closedPort(t), silentPort(t)
	for _, tt := range []struct {
		name, target string
		status       int
		reason       string
	}{
		{"policy", "10.1.2.3:80", 403, "destination_ip_prohibited"},
		{"metadata", "169.254.169.254:80", 403, "destination_ip_prohibited"},
		{"policy in NAT64", "[64:ff9b::10.1.2.3]:80", 403, "destination_ip_prohibited"},
		{"refused", refused, 502, "connection_refused"},
		{"no such name", "nowhere.onion:80", 502, "dns_error"},
		{"no route", noRoute + ":80", 502, "destination_ip_unroutable"},
		{"no answer", silent, 504, "connection_timeout"},
	} {
		for form, request := range map[string]string{
			"CONNECT":       "CONNECT " + tt.target + " HTTP/1.1\r\nHost: " + tt.target + "\r\n\r\n",
			"absolute-form": "GET http://" + tt.target + "/ HTTP/1.1\r\nHost: " + tt.target + "\r\n\r\n",
		} {
			t.Run(tt.name+" "+form, func(t *testing.T) {
				t.Parallel()
				res, body := askHTTP(t, tp.http, request)
				wantsFailure(t, res, body, tt.status, tt.reason)
			})
		}
	}
}

func TestHTTPBadRequests(t *testing.T) {
	t.Parallel()
	tp := shared(t)
	o, _ := handOver(t)
	for _, tt := range []struct{ name, request string }{
		{"origin-form", "GET / HTTP/1.1\r\nHost: " + o.addr + "\r\n\r\n"},
		{"https URL", "GET https://" + o.addr + "/ HTTP/1.1\r\nHost: x\r\n\r\n"},
		{"ftp URL", "GET ftp://" + o.addr + "/ HTTP/1.1\r\nHost: x\r\n\r\n"},
		{"user information", "GET http://a:b@" + o.addr + "/ HTTP/1.1\r\nHost: x\r\n\r\n"},
		{"empty host", "GET http://:80/ HTTP/1.1\r\nHost: x\r\n\r\n"},
		{"no Host", "GET http://" + o.addr + "/ HTTP/1.1\r\n\r\n"},
		{"two of Host", "GET http://" + o.addr + "/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"},
		{"CONNECT without port", "CONNECT localhost HTTP/1.1\r\nHost: localhost\r\n\r\n"},
		{"CONNECT without host", "CONNECT :80 HTTP/1.1\r\nHost: x\r\n\r\n"},
		{"CONNECT with a URL", "CONNECT http://" + o.addr + "/ HTTP/1.1\r\nHost: x\r\n\r\n"},
		{"CONNECT to port 0", "CONNECT 127.0.0.1:0 HTTP/1.1\r\nHost: x\r\n\r\n"},
		{"long name", "CONNECT " + strings.Repeat("a", 254) + ":80 HTTP/1.1\r\nHost: x\r\n\r\n"},
		{"zone", "CONNECT [fe80::1%25eth0]:80 HTTP/1.1\r\nHost: x\r\n\r\n"},
		{"length and coding", "POST http://" + o.addr + "/ HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
		{"two lengths", "POST http://" + o.addr + "/ HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello"},
		{"space before colon", "GET http://" + o.addr + "/ HTTP/1.1\r\nHost : x\r\n\r\n"},
		{"folded header", "GET http://" + o.addr + "/ HTTP/1.1\r\n Host: x\r\n\r\n"},
		{"no HTTP", "hello\r\n\r\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			res, body := askHTTP(t, tp.http, tt.request)
			wantsFailure(t, res, body, http.StatusBadRequest, "http_request_error")
		})
	}
	t.Cleanup(func() {
		if n := o.accepted.Load(); n != 0 {
			t.Errorf("the origin has got %d connections", n)
		}
	})
}

func TestHTTPHeaderIsLimited(t *testing.T) {
	t.Parallel()
	tp := shared(t)
	res, body := askHTTP(t, tp.http, "GET http://localhost/ HTTP/1.1\r\nHost: localhost\r\nX-Long: "+strings.Repeat("x", 17<<10)+"\r\n\r\n")
	wantsFailure(t, res, body, http.StatusRequestHeaderFieldsTooLarge, "http_request_error")
}

// wantsFailure wants an answer of the proxy itself: a status, a Proxy-Status
// (RFC 9209) and one plain line.
func wantsFailure(t *testing.T, res *http.Response, body string, status int, reason string) {
	t.Helper()
	if res.StatusCode != status {
		t.Errorf("status %s, want %d", res.Status, status)
	}
	proxyStatus := res.Header.Get("Proxy-Status")
	if !regexp.MustCompile(`^[!-:<-~]+; *error=` + reason + `(;|$)`).MatchString(proxyStatus) {
		t.Errorf("Proxy-Status %q, want error=%s", proxyStatus, reason)
	}
	if !strings.HasPrefix(res.Header.Get("Content-Type"), "text/plain") || strings.Count(body, "\n") != 1 || !strings.HasSuffix(body, "\n") {
		t.Errorf("content %q of type %q, want one line of text", body, res.Header.Get("Content-Type"))
	}
	if got := res.Header.Get("Retry-After"); (got != "") != (status == http.StatusServiceUnavailable) {
		t.Errorf("status %d with Retry-After %q", status, got)
	}
}

func TestConnectGrantsAfterTheDial(t *testing.T) {
	t.Parallel()
	tp := shared(t)
	o := echoServer(t)
	for _, target := range []string{o.addr, "localhost:" + portOf(o.addr), "[::ffff:127.0.0.1]:" + portOf(o.addr)} {
		w := connectHTTP(t, tp.http, target)
		w.write("hello")
		w.wants("hello")
		w.CloseWrite()
		w.wantsEnd()
	}
	// An old client.
	w := dialWire(t, tp.http)
	w.write("CONNECT " + o.addr + " HTTP/1.0\r\n\r\nhello")
	if res, _ := w.response(http.MethodConnect); res.StatusCode != http.StatusOK {
		t.Errorf("HTTP/1.0: %s", res.Status)
	}
	w.wants("hello")
}

// A 200 to CONNECT has neither length nor coding (RFC 9110 §9.3.6).
func TestConnectAnswerHasNoContent(t *testing.T) {
	t.Parallel()
	tp := shared(t)
	o := echoServer(t)
	w := dialWire(t, tp.http)
	w.write("CONNECT " + o.addr + " HTTP/1.1\r\nHost: x\r\n\r\n")
	res, _ := w.response(http.MethodConnect)
	if res.StatusCode != http.StatusOK || res.Header.Get("Content-Length") != "" || len(res.TransferEncoding) > 0 {
		t.Errorf("%s, %v, %v", res.Status, res.Header, res.TransferEncoding)
	}
}

func TestConnectKeepsWhatIsReadAhead(t *testing.T) {
	t.Parallel()
	tp := shared(t)
	o := echoServer(t)
	for _, size := range []int{1, 5000, 300_000} {
		w := dialWire(t, tp.http)
		payload := strings.Repeat("ahead", size/5+1)[:size]
		go fmt.Fprintf(w.TCPConn, "CONNECT %s HTTP/1.1\r\nHost: x\r\n\r\n%s", o.addr, payload)
		if res, _ := w.response(http.MethodConnect); res.StatusCode != http.StatusOK {
			t.Fatal(res.Status)
		}
		w.wants(payload)
	}
}

// A proxy answers OPTIONS * for itself, and a refusal leaves the connection
// open for the next request.
func TestHTTPConnectionOutlivesRefusals(t *testing.T) {
	t.Parallel()
	tp := shared(t)
	o, conns := handOver(t)
	w := dialWire(t, tp.http)
	w.write("GET http://" + closedPort(t) + "/ HTTP/1.1\r\nHost: x\r\n\r\n")
	if res, _ := w.response("GET"); res.StatusCode != http.StatusBadGateway || res.Close {
		t.Fatalf("%s, closing: %v", res.Status, res.Close)
	}
	w.write("GET http://" + o.addr + "/ HTTP/1.1\r\nHost: x\r\n\r\n")
	go answer(t, next(t, conns), "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
	if res, body := w.response("GET"); res.StatusCode != http.StatusOK || body != "ok" {
		t.Errorf("%s %q", res.Status, body)
	}
}

// answer reads a request header, which it returns, and answers it.
func answer(t *testing.T, c *net.TCPConn, response string) string {
	var head []byte
	for b := make([]byte, 1); !strings.HasSuffix(string(head), "\r\n\r\n"); head = append(head, b[0]) {
		if _, err := c.Read(b); err != nil {
			t.Errorf("origin reads: %v, after %q", err, head)
			return string(head)
		}
	}
	if _, err := c.Write([]byte(response)); err != nil {
		t.Errorf("origin writes: %v", err)
	}
	return string(head)
}
