//go:build unix

package test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// TestHTTPForwardsNothingButTheRequest looks at each byte that reaches the
// origin: hop-by-hop fields and those that Connection lists are gone, and
// nothing has been added.
func TestHTTPForwardsNothingButTheRequest(t *testing.T) {
	t.Parallel()
	tp := shared(t)
	o, conns := handOver(t)
	w := dialWire(t, tp.http)
	w.write("GET http://" + o.addr + "/a%2Fb/../c?q=1;2 HTTP/1.1\r\nHost: elsewhere.example\r\nConnection: keep-alive, X-Drop\r\n" +
		"X-Drop: 1\r\nProxy-Connection: keep-alive\r\nKeep-Alive: timeout=3\r\nTE: gzip\r\nUpgrade-Insecure-Requests: 1\r\n" +
		"Proxy-Authorization: Basic c2VjcmV0\r\nX-Keep: 1\r\nX-Forwarded-For: 203.0.113.9\r\n\r\n")
	c := next(t, conns)
	got := answer(t, c, "HTTP/1.1 200 Fine\r\nX-Theirs: 1\r\nConnection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=9\r\nContent-Length: 4\r\n\r\nbody")
	wants := map[string]bool{
		"GET /a%2Fb/../c?q=1;2 HTTP/1.1": true, "Host: " + o.addr: true, "Upgrade-Insecure-Requests: 1": true,
		"X-Keep: 1": true, "X-Forwarded-For: 203.0.113.9": true,
	}
	for _, line := range strings.Split(strings.TrimSuffix(got, "\r\n\r\n"), "\r\n") {
		if !wants[line] {
			t.Errorf("the origin gets %q", line)
		}
		delete(wants, line)
	}
	for line := range wants {
		t.Errorf("the origin does not get %q", line)
	}
	res, body := w.response("GET")
	if res.Status != "200 Fine" || body != "body" || res.Header.Get("X-Theirs") != "1" {
		t.Errorf("%s %q %v", res.Status, body, res.Header)
	}
	for _, name := range []string{"X-Hop", "Keep-Alive", "Via", "X-Forwarded-For", "Server", "Proxy-Status"} {
		if v, ok := res.Header[name]; ok {
			t.Errorf("the client gets %s: %q", name, v)
		}
	}
}

func TestHTTPForwardsAnyMethod(t *testing.T) {
	t.Parallel()
	tp := shared(t)
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Method", r.Method)
		fmt.Fprintf(w, "%s %d %s", r.Method, len(b), b)
	})
	origin := httpOrigin(t, mux)
	w := dialWire(t, tp.http) // one connection for all of them
	for _, tt := range []struct{ method, header, content, want string }{
		{"GET", "", "", "GET 0 "},
		{"POST", "Content-Length: 5\r\n", "hello", "POST 5 hello"},
		{"PUT", "Transfer-Encoding: chunked\r\n", "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", "PUT 5 abcde"},
		{"DELETE", "", "", "DELETE 0 "},
		{"PATCH", "Content-Length: 0\r\n", "", "PATCH 0 "},
		{"PROPFIND", "Content-Length: 1\r\n", "x", "PROPFIND 1 x"},
		{"OPTIONS", "", "", "OPTIONS 0 "},
		{"HEAD", "", "", ""},
	} {
		w.write(tt.method + " http://" + origin + "/x HTTP/1.1\r\nHost: x\r\n" + tt.header + "\r\n" + tt.content)
		res, body := w.response(tt.method)
		if res.StatusCode != http.StatusOK || body != tt.want || res.Header.Get("X-Method") != tt.method {
			t.Errorf("%s: %s %q, want %q", tt.method, res.Status, body, tt.want)
		}
	}
}

func TestHTTPLeavesCodingsAlone(t *testing.T) {
	t.Parallel()
	tp := shared(t)
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	z.Write([]byte("unpacked"))
	z.Close()
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if got := r.Header.Get("Accept-Encoding"); got != "" {
			t.Errorf("the origin gets Accept-Encoding: %s", got)
		}
		w.Header().Set("Content-Encoding", "gzip")
		w.Write(packed.Bytes())
	})
	res, body := askHTTP(t, tp.http, "GET http://"+httpOrigin(t, mux)+"/ HTTP/1.1\r\nHost: x\r\n\r\n")
	if res.Header.Get("Content-Encoding") != "gzip" || body != packed.String() {
		t.Errorf("%v %q", res.Header, body)
	}
}

func TestHTTPResponsesOfEachFraming(t *testing.T) {
	t.Parallel()
	tp := shared(t)
	o, conns := handOver(t)
	for _, tt := range []struct{ name, response, want string }{
		{"length", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", "abc"},
		{"chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n", "abc"},
		{"end", "HTTP/1.1 200 OK\r\n\r\nabc", "abc"},
		{"interim", "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na", "a"},
		{"no content", "HTTP/1.1 204 No Content\r\n\r\n", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := dialWire(t, tp.http)
			w.write("GET http://" + o.addr + "/ HTTP/1.1\r\nHost: x\r\n\r\n")
			c := next(t, conns)
			answer(t, c, tt.response)
			c.CloseWrite()
			res, body := w.response("GET")
			if res.StatusCode == http.StatusEarlyHints {
				res, body = w.response("GET")
			}
			if res.StatusCode/100 != 2 || body != tt.want {
				t.Errorf("%s %q, want %q", res.Status, body, tt.want)
			}
		})
	}
	t.Run("cut short", func(t *testing.T) {
		w := dialWire(t, tp.http)
		w.write("GET http://" + o.addr + "/ HTTP/1.1\r\nHost: x\r\n\r\n")
		c := next(t, conns)
		answer(t, c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n")
		c.CloseWrite()
		res, err := http.ReadResponse(w.r, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(res.Body); !isReset(err) {
			t.Errorf("a response that was cut short ends with %v", err)
		}
	})
	t.Run("no response", func(t *testing.T) {
		w := dialWire(t, tp.http)
		w.write("GET http://" + o.addr + "/ HTTP/1.1\r\nHost: x\r\n\r\n")
		next(t, conns).Close()
		res, body := w.response("GET")
		wantsFailure(t, res, body, http.StatusBadGateway, "connection_terminated")
	})
}

func TestHTTPExpectContinue(t *testing.T) {
	t.Parallel()
	tp := shared(t)
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) })
	w := dialWire(t, tp.http)
	w.write("POST http://" + httpOrigin(t, mux) + "/ HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
	if res, _ := w.response("POST"); res.StatusCode != http.StatusContinue {
		t.Fatalf("%s, want 100", res.Status)
	}
	w.write("hi")
	if res, body := w.response("POST"); res.StatusCode != http.StatusOK || body != "hi" {
		t.Errorf("%s %q", res.Status, body)
	}
}

func TestHTTPUpgrade(t *testing.T) {
	t.Parallel()
	tp := shared(t)
	o, conns := handOver(t)
	w := dialWire(t, tp.http)
	w.write("GET http://" + o.addr + "/ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n")
	c := next(t, conns)
	got := answer(t, c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\nfirst")
	for _, line := range []string{"\r\nConnection: Upgrade\r\n", "\r\nUpgrade: chat\r\n"} {
		if !strings.Contains(got, line) {
			t.Errorf("the origin gets %q without %q", got, line)
		}
	}
	res, err := http.ReadResponse(w.r, nil)
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != http.StatusSwitchingProtocols || res.Header.Get("Upgrade") != "chat" {
		t.Fatalf("%s %v", res.Status, res.Header)
	}
	w.wants("first")
	w.write("second")
	b := make([]byte, 6)
	if _, err := io.ReadFull(c, b); err != nil || string(b) != "second" {
		t.Errorf("the origin gets %q, %v", b, err)
	}
	c.Write([]byte("third"))
	c.CloseWrite()
	w.wants("third")
	w.wantsEnd()
}
