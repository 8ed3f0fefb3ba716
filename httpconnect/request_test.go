package httpconnect

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestBadRequests(t *testing.T) {
	get := func(lines ...string) string {
		return "GET http://example.com/ HTTP/1.1\r\nHost: example.com\r\n" + strings.Join(lines, "\r\n") + "\r\n\r\n"
	}
	connect := func(authority string) string { return "CONNECT " + authority + " HTTP/1.1\r\n\r\n" }
	url := func(u string) string { return "GET " + u + " HTTP/1.1\r\nHost: example.com\r\n\r\n" }
	longest := strings.Repeat("a", 254)
	tests := []struct {
		name, request string
		status        int
	}{
		{"origin-form", "GET / HTTP/1.1\r\nHost: example.com\r\n\r\n", 400},
		{"origin-form OPTIONS", "OPTIONS /x HTTP/1.1\r\nHost: example.com\r\n\r\n", 400},
		{"asterisk with GET", "GET * HTTP/1.1\r\nHost: example.com\r\n\r\n", 400},
		{"noise", "\x16\x03\x01\x02\x00\x01\n\r\n", 400},
		{"no version", "GET http://example.com/\r\n\r\n", 400},
		{"HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505},
		{"https", url("https://example.com/"), 400},
		{"ftp", url("ftp://example.com/"), 400},
		{"opaque URL", url("http:example.com"), 400},
		{"credentials in URL", url("http://alice:x@example.com/"), 400},
		{"empty host in URL", url("http:///x"), 400},
		{"port only in URL", url("http://:80/"), 400},
		{"zone in URL", url("http://[fe80::1%25eth0]/"), 400},
		{"NUL in URL", url("http://exa%00mple.com/"), 400},
		{"long host in URL", url("http://" + longest + "/"), 400},
		{"port 0 in URL", url("http://example.com:0/"), 400},
		{"large port in URL", url("http://example.com:65536/"), 400},
		{"name in brackets", url("http://[example.com]/"), 400},
		{"CONNECT without port", connect("example.com"), 400},
		{"CONNECT with empty port", connect("example.com:"), 400},
		{"CONNECT with port 0", connect("example.com:0"), 400},
		{"CONNECT with named port", connect("example.com:https"), 400},
		{"CONNECT with signed port", connect("example.com:+443"), 400},
		{"CONNECT with empty host", connect(":443"), 400},
		{"CONNECT with zone", connect("[fe80::1%eth0]:443"), 400},
		{"CONNECT with credentials", connect("alice@example.com:443"), 400},
		{"CONNECT with path", connect("/example.com:443"), 400},
		{"CONNECT with URL", connect("http://example.com:443"), 400},
		{"CONNECT with bare IPv6", connect("::1:443"), 400},
		{"CONNECT with name in brackets", connect("[example.com]:443"), 400},
		{"CONNECT with NUL", connect("exam\x00ple.com:443"), 400},
		{"CONNECT with long host", connect(longest + ":443"), 400},
		{"CONNECT with content", "CONNECT example.com:443 HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", 400},
		{"CONNECT with chunked content", "CONNECT example.com:443 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
		{"no Host", "GET http://example.com/ HTTP/1.1\r\n\r\n", 400},
		{"two Hosts", get("Host: example.org"), 400},
		{"malformed Host", "GET http://example.com/ HTTP/1.1\r\nHost: a/b\r\n\r\n", 400},
		{"length and coding", get("Content-Length: 5", "Transfer-Encoding: chunked"), 400},
		{"two lengths", get("Content-Length: 5", "Content-Length: 6"), 400},
		{"signed length", get("Content-Length: +5"), 400},
		{"list of lengths", get("Content-Length: 5, 6"), 400},
		{"coding in HTTP/1.0", "POST http://example.com/ HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
		{"other coding", get("Transfer-Encoding: gzip, chunked"), 501},
		{"two codings", get("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"), 501},
		{"disguised coding", get("Transfer-Encoding: xchunked"), 501},
		{"space before colon", get("Transfer-Encoding : chunked"), 400},
		{"folded first line", "GET http://example.com/ HTTP/1.1\r\n Host: example.com\r\n\r\n", 400},
		{"no colon", get("what"), 400},
		{"NUL in value", get("X: a\x00b"), 400},
		{"CR in value", get("X: a\rb"), 400},
		{"long header", get("X: " + strings.Repeat("x", MaxHeaderLen)), 431},
		{"long header without end", "GET http://example.com/ HTTP/1.1\r\nX: " + strings.Repeat("x", 2*MaxHeaderLen), 431},
		{"TRACE with content", "TRACE http://example.com/ HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx", 400},
		{"last TRACE", "TRACE http://example.com/ HTTP/1.1\r\nHost: x\r\nMax-Forwards: 0\r\n\r\n", 405},
		{"malformed Max-Forwards", "TRACE http://example.com/ HTTP/1.1\r\nHost: x\r\nMax-Forwards: -1\r\n\r\n", 400},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			client := start(t, Config{
				Connect: func(_ context.Context, r *Request) { t.Errorf("connects to %s", r.Target()) },
				Dial: func(_ context.Context, _, addr string) (net.Conn, error) {
					t.Errorf("dials %s", addr)
					return nil, errSomething
				},
			})
			go func() {
				io.WriteString(client, tt.request)
				client.CloseWrite()
			}()
			r := bufio.NewReader(client)
			res, body := readResponse(t, r, "GET")
			if res.StatusCode != tt.status {
				t.Errorf("status %d (%q), want %d", res.StatusCode, body, tt.status)
			}
			if got, want := res.Header.Get("Proxy-Status"), "snapproxy; error=http_request_error"; got != want {
				t.Errorf("Proxy-Status %q, want %q", got, want)
			}
			if int(res.ContentLength) != len(body) || strings.Count(body, "\n") != 1 {
				t.Errorf("content %q of length %d, want one line", body, res.ContentLength)
			}
			readAll(t, r)
		})
	}
}

func TestHeaderOfSixteenKiB(t *testing.T) {
	head := "CONNECT example.com:443 HTTP/1.1\r\nX: "
	for over, want := range []string{"HTTP/1.1 200", "HTTP/1.1 431"} {
		client := start(t, Config{Connect: echo})
		io.WriteString(client, head+strings.Repeat("x", MaxHeaderLen+over-len(head)-4)+"\r\n\r\n")
		if got := readN(t, client, 12); got != want {
			t.Errorf("header of %d bytes: %q, want %q", MaxHeaderLen+over, got, want)
		}
	}
}

func TestCredentials(t *testing.T) {
	tests := []struct {
		name, field string
		user        string
	}{
		{"right", asAlice, "alice"},
		{"lower case scheme", asBob, "bob"},
		{"none", "", ""},
		{"wrong password", "Proxy-Authorization: Basic YWxpY2U6eA==\r\n", ""},
		{"password of another", "Proxy-Authorization: Basic YWxpY2U6YnVpbGRlcg==\r\n", ""},
		{"no colon", "Proxy-Authorization: Basic YWxpY2U=\r\n", ""},
		{"not base64", "Proxy-Authorization: Basic !!!\r\n", ""},
		{"other scheme", "Proxy-Authorization: Bearer YWxpY2U6d29uZGVybGFuZA==\r\n", ""},
		{"empty", "Proxy-Authorization: Basic Og==\r\n", ""},
		{"twice", asAlice + asAlice, ""},
		{"meant for the target", strings.TrimPrefix(asAlice, "Proxy-"), ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			user := make(chan string, 1)
			client := start(t, Config{Users: users, Connect: func(ctx context.Context, r *Request) {
				user <- r.User
				echo(ctx, r)
			}})
			io.WriteString(client, "CONNECT example.com:443 HTTP/1.1\r\n"+tt.field+"\r\n")
			res, err := http.ReadResponse(bufio.NewReader(client), &http.Request{Method: "CONNECT"})
			if err != nil {
				t.Fatal(err)
			}
			if tt.user != "" {
				if got := <-user; res.StatusCode != 200 || got != tt.user {
					t.Errorf("status %d for %q, want 200 for %q", res.StatusCode, got, tt.user)
				}
				return
			}
			if res.StatusCode != 407 || !strings.HasPrefix(res.Header.Get("Proxy-Authenticate"), "Basic realm=") {
				t.Errorf("status %d, Proxy-Authenticate %q, want 407 and Basic", res.StatusCode, res.Header.Get("Proxy-Authenticate"))
			}
		})
	}
}

func TestEmptyCredentialsFailClosed(t *testing.T) {
	client := start(t, Config{Users: func(string, string) bool { return true }, Connect: echo})
	io.WriteString(client, "CONNECT example.com:443 HTTP/1.1\r\nProxy-Authorization: Basic OnB3\r\n\r\n") // ":pw"
	if got := readN(t, client, 12); got != "HTTP/1.1 407" {
		t.Errorf("answered %q, want 407", got)
	}
}

func TestOptionsForTheProxy(t *testing.T) {
	for _, request := range []string{
		"OPTIONS * HTTP/1.1\r\nHost: proxy\r\n\r\n",
		"OPTIONS http://example.com/ HTTP/1.1\r\nHost: example.com\r\nMax-Forwards: 0\r\n\r\n",
	} {
		client := start(t, Config{Dial: refuseAll})
		r := bufio.NewReader(client)
		for range 2 { // the connection is kept
			io.WriteString(client, request)
			if res, _ := readResponse(t, r, "OPTIONS"); res.StatusCode != 204 || res.Header.Get("Allow") == "" {
				t.Errorf("%q: status %d, Allow %q", request, res.StatusCode, res.Header.Get("Allow"))
			}
		}
	}
}

func TestDeadlines(t *testing.T) {
	const request = "OPTIONS * HTTP/1.1\r\nHost: proxy\r\n\r\n"
	tests := []struct {
		name   string
		first  string // sent at once
		every  time.Duration
		then   string // sent byte by byte
		want   time.Duration
		status string // of the last answer
	}{
		{"silent client", "", time.Hour, "x", 10 * time.Second, ""},
		{"slow header", "", time.Second, request, 10 * time.Second, "408"},
		{"idle between requests", request, time.Hour, "x", 2 * time.Minute, "204"},
		{"slow second header", request, time.Second, request, 11 * time.Second, "408"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, server := net.Pipe()
				begin := time.Now()
				go func() {
					io.WriteString(client, tt.first)
					for _, b := range []byte(tt.then) {
						time.Sleep(tt.every)
						if _, err := client.Write([]byte{b}); err != nil {
							return
						}
					}
				}()
				answer := make(chan string, 1)
				go func() {
					b, _ := io.ReadAll(client)
					answer <- string(b)
				}()
				NewServer(Config{}).ServeConn(t.Context(), server)
				if took := time.Since(begin); took != tt.want {
					t.Errorf("ended after %v, want %v", took, tt.want)
				}
				a := <-answer
				if i := strings.LastIndex(a, "HTTP/1.1 "); tt.status == "" && a != "" || tt.status != "" && (i < 0 || !strings.HasPrefix(a[i+9:], tt.status)) {
					t.Errorf("answered %q, want %q", a, tt.status)
				}
				time.Sleep(2 * time.Hour) // the client ends
			})
		})
	}
}

func TestDeadlineOfTheCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		defer client.Close()
		begin := time.Now()
		NewServer(Config{}).ServeConnBefore(t.Context(), server, begin.Add(3*time.Second))
		if took := time.Since(begin); took != 3*time.Second {
			t.Errorf("ended after %v, want 3s", took)
		}
	})
}

func TestServeConnEndsWithContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		defer client.Close()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		begin := time.Now()
		go func() {
			defer close(done)
			NewServer(Config{}).ServeConn(ctx, server)
		}()
		synctest.Wait()
		cancel()
		<-done
		if took := time.Since(begin); took != 0 {
			t.Errorf("ended after %v, want at once", took)
		}
	})
}
