//go:build unix

package test

import (
	"encoding/base64"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// The users of guarded.
const (
	userName     = "alice"
	userPassword = "open: sesame"
)

// guarded is a client of the shared topology that asks for users. Its logs tell
// all they ever tell.
var guarded = sync.OnceValue(func() *process {
	tp := sharedTopology()
	users := tp.file("users")
	writeFile(&wholeRun, users, "# people\n"+userName+":"+userPassword+"\nbob:s3cret\n")
	p := tp.startClient("--users", users, "--log-level", "debug")
	wholeRun.Cleanup(func() { holdsNoPassword(p.stderr.String()) })
	return p
})

// holdsNoPassword looks for what the tests below have said to the client.
func holdsNoPassword(log string) {
	for _, secret := range []string{userPassword, "sesame", "s3cret", basic(userName, userPassword)[len("Basic "):]} {
		if strings.Contains(log, secret) {
			wholeRun.Errorf("the log of a client holds %q", secret)
		}
	}
}

func guardedListener(t *testing.T) listener {
	t.Helper()
	shared(t)
	return listenerOf(guarded())
}

// login is the message of RFC 1929.
func login(name, password string) string {
	return "\x01" + string([]byte{byte(len(name))}) + name + string([]byte{byte(len(password))}) + password
}

func basic(name, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(name+":"+password))
}

func TestSOCKSUsers(t *testing.T) {
	t.Parallel()
	l := guardedListener(t)
	o := echoServer(t)
	t.Run("no authentication is not offered", func(t *testing.T) {
		w := dialWire(t, l.socks)
		w.write(noAuthGreeting)
		w.wants("\x05\xff")
		w.wantsEnd()
	})
	t.Run("nor taken when listed first", func(t *testing.T) {
		w := dialWire(t, l.socks)
		w.write("\x05\x02\x00\x02")
		w.wants("\x05\x02")
	})
	for _, tt := range []struct{ name, user, password string }{
		{"password with colon and space", userName, userPassword},
		{"second user", "bob", "s3cret"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := dialWire(t, l.socks)
			w.write(passwordOffered)
			w.wants("\x05\x02")
			w.write(login(tt.user, tt.password))
			w.wants("\x01\x00")
			w.write(request(cmdConnect, o.addr))
			w.wantsReply(repGranted)
			w.write("hello")
			w.wants("hello")
		})
	}
	for _, tt := range []struct{ name, user, password string }{
		{"wrong password", userName, "sesame"},
		{"another's password", userName, "s3cret"},
		{"unknown user", "mallory", userPassword},
		{"empty password", userName, ""},
		{"empty name", "", userPassword},
		{"longest", strings.Repeat("n", 255), strings.Repeat("p", 255)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := dialWire(t, l.socks)
			w.write(passwordOffered)
			w.wants("\x05\x02")
			w.write(login(tt.user, tt.password))
			w.wants("\x01")
			if status, err := w.r.ReadByte(); err != nil || status == 0 {
				t.Fatalf("status %d, %v", status, err)
			}
			w.wantsEnd()
		})
	}
	t.Run("all at once", func(t *testing.T) {
		w := dialWire(t, l.socks)
		w.write(passwordOffered + login(userName, userPassword) + request(cmdConnect, o.addr) + "ahead")
		w.wants("\x05\x02\x01\x00")
		w.wantsReply(repGranted)
		w.wants("ahead")
	})
	t.Run("request before login", func(t *testing.T) {
		w := dialWire(t, l.socks)
		w.write(passwordOffered + request(cmdConnect, o.addr))
		w.CloseWrite()
		w.wants("\x05\x02")
		rest := make([]byte, 16)
		if n, _ := w.Read(rest); n > 1 && rest[1] == 0 {
			t.Errorf("got %x", rest[:n])
		}
	})
}

func TestHTTPUsers(t *testing.T) {
	t.Parallel()
	l := guardedListener(t)
	o, conns := handOver(t)
	for _, tt := range []struct{ name, credentials string }{
		{"none", ""},
		{"wrong password", basic(userName, "sesame")},
		{"unknown user", basic("mallory", userPassword)},
		{"empty password", basic(userName, "")},
		{"another scheme", "Bearer " + userPassword},
		{"no base64", "Basic ???"},
	} {
		for form, begin := range map[string]string{
			"CONNECT":       "CONNECT " + o.addr + " HTTP/1.1\r\nHost: x\r\n",
			"absolute-form": "GET http://" + o.addr + "/ HTTP/1.1\r\nHost: x\r\n",
		} {
			t.Run(tt.name+" "+form, func(t *testing.T) {
				if tt.credentials != "" {
					begin += "Proxy-Authorization: " + tt.credentials + "\r\n"
				}
				res, body := askHTTP(t, l.http, begin+"\r\n")
				wantsFailure(t, res, body, http.StatusProxyAuthRequired, "[a-z_]+")
				if got := res.Header.Get("Proxy-Authenticate"); !strings.HasPrefix(got, `Basic realm="`) {
					t.Errorf("Proxy-Authenticate %q", got)
				}
			})
		}
	}
	if n := o.accepted.Load(); n != 0 {
		t.Errorf("the origin has got %d connections", n)
	}
	t.Run("right", func(t *testing.T) {
		w := dialWire(t, l.http)
		w.write("GET http://" + o.addr + "/ HTTP/1.1\r\nHost: x\r\nProxy-Authorization: " + basic(userName, userPassword) +
			"\r\nAuthorization: Basic dGhlaXJz\r\n\r\n")
		got := answer(t, next(t, conns), "HTTP/1.1 407 Theirs\r\nContent-Length: 0\r\n\r\n")
		if strings.Contains(got, "Proxy-Authorization") || !strings.Contains(got, "Authorization: Basic dGhlaXJz") {
			t.Errorf("the origin gets %q", got)
		}
		w.response("GET")
	})
	t.Run("CONNECT", func(t *testing.T) {
		w := dialWire(t, l.http)
		w.write("CONNECT " + o.addr + " HTTP/1.1\r\nHost: x\r\nProxy-Authorization: " + strings.Replace(basic("bob", "s3cret"), "Basic", "basic", 1) + "\r\n\r\n")
		if res, _ := w.response(http.MethodConnect); res.StatusCode != http.StatusOK {
			t.Errorf("%s", res.Status)
		}
	})
}

// What everybody could use is refused before anything else is done.
func TestOpenListenersAreRefused(t *testing.T) {
	t.Parallel()
	tp := shared(t)
	users := tp.file("users-of-open-listeners")
	writeFile(t, users, "a:b\n")
	bad := tp.file("bad-users")
	writeFile(t, bad, "alice\n")
	empty := tp.file("no-password")
	writeFile(t, empty, "alice:\n")
	for _, tt := range []struct {
		name  string
		flags []string
	}{
		{"SOCKS", []string{"--socks", "0.0.0.0:0"}},
		{"HTTP", []string{"--http", "[::]:0"}},
		{"forward", []string{"--forward", "0.0.0.0:0=localhost:22"}},
		{"forward with users", []string{"--forward", "0.0.0.0:0=localhost:22", "--users", users}},
		{"user without password", []string{"--users", bad}},
		{"user with an empty password", []string{"--users", empty}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			status, stdout, stderr := runProgram(t, append([]string{"client"}, tp.clientFlags(tt.flags...)...)...)
			wantsComplaint(t, status, stdout, stderr, 1, tt.flags[0][len("--"):])
		})
	}
	for _, flags := range [][]string{{"--users", users}, {"--insecure-open"}} {
		l := listenerOf(tp.startClient(append([]string{"--socks", "0.0.0.0:0", "--http", "off"}, flags...)...))
		if !strings.HasPrefix(l.socks, "127.0.0.1:") {
			t.Errorf("%v: ready line names %s", flags, l.socks)
		}
	}
}

// wantsComplaint wants one line on standard error, besides the log, that
// begins as all complaints do and holds text.
func wantsComplaint(t *testing.T, status int, stdout, stderr string, want int, text string) {
	t.Helper()
	if status != want {
		t.Errorf("status %d, want %d", status, want)
	}
	if stdout != "" {
		t.Errorf("standard output %q", stdout)
	}
	var said []string
	for line := range strings.Lines(stderr) {
		if !strings.HasPrefix(line, "time=") {
			said = append(said, line)
		}
	}
	if len(said) != 1 || !strings.HasPrefix(said[0], "snapproxy: ") || !strings.Contains(said[0], text) {
		t.Errorf("standard error %q, want one line with %q", said, text)
	}
}
