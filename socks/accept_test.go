package socks

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"
)

const (
	hello    = "\x05\x01\x00"
	helloOK  = "\x05\x00"
	nowhere  = "\x00\x01\x00\x00\x00\x00\x00\x00" // RSV, address and port of a refusal
	connect4 = "\x05\x01\x00\x01\xc0\x00\x02\x01\x00\x50"
)

func TestAcceptReadsRequests(t *testing.T) {
	v6 := string(netip.MustParseAddr("2001:db8::1").AsSlice())
	mapped := string(netip.MustParseAddr("::ffff:192.0.2.1").AsSlice())
	longest := strings.Repeat("a", 253)
	tests := []struct {
		name, sent string
		command    Command
		target     string
	}{
		{"IPv4", hello + connect4, Connect, "192.0.2.1:80"},
		{"IPv6", hello + "\x05\x01\x00\x04" + v6 + "\x01\xbb", Connect, "[2001:db8::1]:443"},
		{"mapped IPv4", hello + "\x05\x01\x00\x04" + mapped + "\x01\xbb", Connect, "192.0.2.1:443"},
		{"name", hello + "\x05\x01\x00\x03\x0bexample.com\xff\xff", Connect, "example.com:65535"},
		{"longest name", hello + "\x05\x01\x00\x03\xfd" + longest + "\x00\x01", Connect, longest + ":1"},
		{"name that is IPv4", hello + "\x05\x01\x00\x03\x09127.0.0.1\x00\x50", Connect, "127.0.0.1:80"},
		{"name that is IPv6", hello + "\x05\x01\x00\x03\x0d2001:DB8:0::1\x00\x50", Connect, "[2001:db8::1]:80"},
		{"many methods", "\x05\x03\x02\x01\x00" + connect4, Connect, "192.0.2.1:80"},
		{"reserved byte set", hello + "\x05\x01\xff\x01\xc0\x00\x02\x01\x00\x50", Connect, "192.0.2.1:80"},
		{"associate from anywhere", hello + "\x05\x03\x00\x01\x00\x00\x00\x00\x00\x00", Associate, "0.0.0.0:0"},
		{"associate from a port", hello + "\x05\x03\x00\x01\x7f\x00\x00\x01\x30\x39", Associate, "127.0.0.1:12345"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, req := request(t, Config{}, tt.sent)
			if req.Command != tt.command || req.Target() != tt.target {
				t.Errorf("got %v %s, want %v %s", req.Command, req.Target(), tt.command, tt.target)
			}
		})
	}
}

func TestAcceptReadsByteByByte(t *testing.T) {
	client, server := tcpPair(t)
	io.WriteString(client, hello+connect4)
	a := <-accept(server, bufio.NewReader(iotest.OneByteReader(server)), Config{})
	if a.err != nil {
		t.Fatal(a.err)
	}
	if got, want := a.req.Target(), "192.0.2.1:80"; got != want {
		t.Errorf("target %s, want %s", got, want)
	}
}

func TestAcceptAuthenticates(t *testing.T) {
	client, server := tcpPair(t)
	// The client would rather not authenticate: it is not asked.
	io.WriteString(client, "\x05\x02\x00\x02"+"\x01\x05alice\x0awonderland"+connect4)
	a := <-accept(server, nil, Config{Users: users(t)})
	if a.err != nil {
		t.Fatal(a.err)
	}
	if got, want := readN(t, client, 4), "\x05\x02\x01\x00"; got != want {
		t.Errorf("answered %q, want %q", got, want)
	}
	if a.req.User != "alice" {
		t.Errorf("user %q, want alice", a.req.User)
	}
}

func TestAcceptRejects(t *testing.T) {
	anybody := Config{Users: func(string, string) bool { return true }}
	known := Config{Users: users(t)}
	name := func(s string) string {
		return hello + "\x05\x01\x00\x03" + string([]byte{byte(len(s))}) + s + "\x00\x50"
	}
	tests := []struct {
		name   string
		cfg    Config
		sent   string
		answer string
		err    error
	}{
		{"SOCKS4", Config{}, "\x04\x01\x00\x50\xc0\x00\x02\x01\x00", "", ErrVersion},
		{"HTTP", Config{}, "GET / HTTP/1.1\r\n\r\n", "", ErrVersion},
		{"nothing", Config{}, "", "", io.EOF},
		{"no methods", Config{}, "\x05\x00", "\x05\xff", ErrMethod},
		{"other methods", Config{}, "\x05\x02\x01\x02", "\x05\xff", ErrMethod},
		{"no authentication where users are", known, hello, "\x05\xff", ErrMethod},
		{"wrong password", known, "\x05\x01\x02\x01\x05alice\x05wrong", "\x05\x02\x01\x01", ErrCredentials},
		{"password of another", known, "\x05\x01\x02\x01\x05alice\x07builder", "\x05\x02\x01\x01", ErrCredentials},
		{"unknown user", known, "\x05\x01\x02\x01\x05carol\x0awonderland", "\x05\x02\x01\x01", ErrCredentials},
		{"empty name", anybody, "\x05\x01\x02\x01\x00\x01x", "\x05\x02\x01\x01", ErrCredentials},
		{"empty password", anybody, "\x05\x01\x02\x01\x01x\x00", "\x05\x02\x01\x01", ErrCredentials},
		{"nobody is known", Config{Users: new(Users).Valid}, "\x05\x01\x02\x01\x01x\x01x", "\x05\x02\x01\x01", ErrCredentials},
		{"other authentication version", known, "\x05\x01\x02\x05\x05alice\x0awonderland", "\x05\x02", nil},
		{"BIND", Config{}, hello + "\x05\x02\x00\x01\xc0\x00\x02\x01\x00\x50", helloOK + "\x05\x07" + nowhere, ErrCommand},
		{"unknown command", Config{}, hello + "\x05\x09\x00\x01\xc0\x00\x02\x01\x00\x50", helloOK + "\x05\x07" + nowhere, ErrCommand},
		{"unknown command and address type", Config{}, hello + "\x05\x09\x00\x05\xc0\x00", helloOK + "\x05\x07" + nowhere, ErrCommand},
		{"unknown address type", Config{}, hello + "\x05\x01\x00\x02\xc0\x00\x02\x01", helloOK + "\x05\x08" + nowhere, ErrAddressType},
		{"other version in request", Config{}, hello + "\x04\x01\x00\x01\xc0\x00\x02\x01\x00\x50", helloOK + "\x05\x01" + nowhere, ErrVersion},
		{"empty host", Config{}, name(""), helloOK + "\x05\x01" + nowhere, ErrAddress},
		{"host of 254 bytes", Config{}, name(strings.Repeat("a", 254)), helloOK + "\x05\x01" + nowhere, ErrAddress},
		{"NUL in host", Config{}, name("example.com\x00.test"), helloOK + "\x05\x01" + nowhere, ErrAddress},
		{"line end in host", Config{}, name("a\r\nb"), helloOK + "\x05\x01" + nowhere, ErrAddress},
		{"port in host", Config{}, name("example.com:80"), helloOK + "\x05\x01" + nowhere, ErrAddress},
		{"brackets in host", Config{}, name("[::1]"), helloOK + "\x05\x01" + nowhere, ErrAddress},
		{"zone", Config{}, name("fe80::1%eth0"), helloOK + "\x05\x08" + nowhere, ErrAddressType},
		{"bare zone", Config{}, name("host%1"), helloOK + "\x05\x08" + nowhere, ErrAddressType},
		{"port 0", Config{}, hello + "\x05\x01\x00\x01\xc0\x00\x02\x01\x00\x00", helloOK + "\x05\x01" + nowhere, ErrAddress},
		{"request cut short", Config{}, hello + "\x05\x01\x00\x03\x0bexample", helloOK, io.ErrUnexpectedEOF},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			client, server := tcpPair(t)
			io.WriteString(client, tt.sent)
			client.CloseWrite()
			a := <-accept(server, nil, tt.cfg)
			if a.err == nil || tt.err != nil && !errors.Is(a.err, tt.err) {
				t.Errorf("error %v, want %v", a.err, tt.err)
			}
			if got := readAll(t, client); got != tt.answer {
				t.Errorf("answered %q, want %q", got, tt.answer)
			}
			if _, err := server.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
				t.Errorf("write after rejection: %v, want net.ErrClosed", err)
			}
		})
	}
}

// A close with unread bytes resets the connection, and the reset would destroy
// the answer on its way.
func TestAnswerArrivesInSpiteOfUnreadBytes(t *testing.T) {
	client, server := tcpPair(t)
	unread := strings.Repeat("x", 64<<10)
	io.WriteString(client, hello+"\x05\x02\x00\x01\xc0\x00\x02\x01\x00\x50"+unread)
	ch := accept(server, nil, Config{})
	if got, want := readAll(t, client), helloOK+"\x05\x07"+nowhere; got != want {
		t.Errorf("answered %q, want %q", got, want)
	}
	client.Close()
	<-ch
}

func TestPasswordsStayUnknown(t *testing.T) {
	var log bytes.Buffer
	cfg := Config{Users: users(t), Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	for _, password := range []string{"wonderland", "hunter2"} {
		client, server := tcpPair(t)
		io.WriteString(client, "\x05\x01\x02\x01\x05alice"+string([]byte{byte(len(password))})+password+"\x04")
		client.CloseWrite()
		a := <-accept(server, nil, cfg)
		if a.err == nil || strings.Contains(a.err.Error(), password) || strings.Contains(log.String(), password) {
			t.Errorf("error %v, log %q: must not hold the password", a.err, &log)
		}
	}
}

func TestHandshakeDeadline(t *testing.T) {
	tests := []struct {
		name    string
		timeout time.Duration
		every   time.Duration // between the bytes of the client
		want    time.Duration
		err     bool
	}{
		{"silent client", 0, time.Hour, 10 * time.Second, true},
		{"slow client", 0, 2 * time.Second, 10 * time.Second, true},
		{"configured", 3 * time.Second, time.Second, 3 * time.Second, true},
		{"in time", 0, 700 * time.Millisecond, 13 * 700 * time.Millisecond, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, server := net.Pipe()
				defer client.Close()
				defer server.Close()
				begin := time.Now()
				ch := accept(server, nil, Config{HandshakeTimeout: tt.timeout})
				go io.Copy(io.Discard, client)
				var typing sync.WaitGroup
				defer typing.Wait()
				typing.Go(func() {
					for _, b := range []byte(hello + connect4) {
						time.Sleep(tt.every)
						if _, err := client.Write([]byte{b}); err != nil {
							return
						}
					}
				})
				a := <-ch
				if took := time.Since(begin); took != tt.want {
					t.Errorf("ended after %v, want %v", took, tt.want)
				}
				if (a.err != nil) != tt.err {
					t.Fatalf("error %v, want one: %v", a.err, tt.err)
				}
				if a.err != nil {
					return
				}
				// The deadline does not outlive the handshake.
				stream, err := a.req.Accept(netip.AddrPort{})
				if err != nil {
					t.Fatal(err)
				}
				time.AfterFunc(time.Hour, func() { io.WriteString(client, "late") })
				if got := readN(t, stream, 4); got != "late" {
					t.Errorf("read %q after the handshake, want late", got)
				}
			})
		})
	}
}
