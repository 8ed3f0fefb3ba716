//go:build unix

package test

import (
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const (
	demoURL  = "http://demo.snapproxy.internal/"
	demoText = "It works"
)

// tool finds a program that a test needs, or skips the test.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s is not installed", name)
	}
	return path
}

func TestDemoGivesCurlThePage(t *testing.T) {
	t.Parallel()
	tool(t, "curl")
	for _, command := range [][]string{
		{"curl", "-sS", demoURL},
		{"sh", "-c", `curl -sS -x "$SNAPPROXY_SOCKS" ` + demoURL},
		{"sh", "-c", `curl -sS -p ` + demoURL}, // CONNECT
	} {
		status, stdout, stderr := runProgram(t, append([]string{"demo", "--"}, command...)...)
		if status != 0 || stderr != "" || !strings.Contains(stdout, demoText) {
			t.Errorf("%q: status %d, output %q, complaints %q", command, status, stdout, stderr)
		}
	}
}

func TestDemoServes(t *testing.T) {
	t.Parallel()
	o := echoServer(t)
	p := start(t, "demo", "--socks", "0", "--http", "0", "--allow", "127.0.0.1/32")
	l := listenerOf(p)
	for _, proxy := range strings.Fields(p.line()) {
		page(t, proxy)
	}
	connectSOCKS(t, l.socks, "demo.snapproxy.internal:80")
	connectSOCKS(t, l.socks, o.addr)
	if got := askSOCKS(t, l.socks, request(cmdConnect, "127.0.0.2:"+portOf(o.addr))); got != repPolicy {
		t.Errorf("REP %d for a target that is not allowed", got)
	}
	if res, _ := askHTTP(t, l.http, "GET "+demoURL+"nowhere HTTP/1.1\r\nHost: x\r\n\r\n"); res.StatusCode != http.StatusNotFound {
		t.Errorf("another page: %s", res.Status)
	}
}

// page fetches the demo's page through a proxy with what Go brings.
func page(t *testing.T, proxy string) {
	t.Helper()
	res, err := through(t, proxy).Get(demoURL)
	if err != nil {
		t.Fatalf("%s: %v", proxy, err)
	}
	defer res.Body.Close()
	if b, err := io.ReadAll(res.Body); err != nil || res.StatusCode != http.StatusOK || !strings.Contains(string(b), demoText) {
		t.Errorf("%s: %s %q, %v", proxy, res.Status, b, err)
	}
}

// Without --allow, an exit reaches nothing of the machine it is on, by whatever
// name.
func TestDemoReachesNothingElseOfLoopback(t *testing.T) {
	t.Parallel()
	o := echoServer(t)
	p := start(t, "demo", "--socks", "0", "--http", "off")
	l := listenerOf(p)
	port := portNumber(t, o.addr)
	for _, r := range []string{
		request(cmdConnect, o.addr), requestByName(cmdConnect, "localhost", port),
		request(cmdConnect, "[::1]:"+portOf(o.addr)), request(cmdConnect, "0.0.0.0:"+portOf(o.addr)),
		request(cmdConnect, "[::ffff:127.0.0.1]:"+portOf(o.addr)), request(cmdConnect, "[64:ff9b:1::7f00:1]:"+portOf(o.addr)),
	} {
		if got := askSOCKS(t, l.socks, r); got != repPolicy {
			t.Errorf("REP %d for %q, want %d", got, r, repPolicy)
		}
	}
	// Catch-alls do not open loopback either.
	p = start(t, "demo", "--socks", "0", "--http", "off", "--allow", "0.0.0.0/0", "--allow", "::/0")
	if got := askSOCKS(t, listenerOf(p).socks, request(cmdConnect, o.addr)); got != repPolicy {
		t.Errorf("REP %d with --allow 0.0.0.0/0", got)
	}
	if n := o.accepted.Load(); n != 0 {
		t.Errorf("the origin has got %d connections", n)
	}
}

// The proxy of a command belongs to that command.
func TestDemoAsksOthersForThePassword(t *testing.T) {
	t.Parallel()
	ready := filepath.Join(t.TempDir(), "ready")
	cmd := exec.Command(program(t), "demo", "--ready-file", ready, "--", "cat")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	p := launch(t, cmd)
	line := readyFile(t, p, ready)
	for _, proxy := range strings.Fields(line) {
		u, err := url.Parse(proxy)
		if err != nil || u.User == nil {
			t.Fatalf("ready line %q: %v", line, err)
		}
		page(t, proxy)
		w := dialWire(t, u.Host)
		w.write(noAuthGreeting)
		w.wants("\x05\xff")
	}
	stdin.Close() // which ends cat
	if status := p.wait(); status != 0 {
		t.Errorf("status %d", status)
	}
	if _, err := os.Stat(ready); err == nil {
		t.Error("the ready file is left")
	}
}

// readyFile waits for a ready file and returns its line.
func readyFile(t *testing.T, p *process, name string) string {
	t.Helper()
	var b []byte
	if !eventually(patience, func() bool { b, _ = os.ReadFile(name); return len(b) > 0 || p.hasEnded() }) || len(b) == 0 {
		t.Fatalf("no ready file; standard error:\n%s", &p.stderr)
	}
	line, rest, ended := strings.Cut(string(b), "\n")
	if !ended || rest != "" {
		t.Errorf("the ready file holds %q, want one line", b)
	}
	return line
}
