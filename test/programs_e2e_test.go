//go:build e2e && unix

package test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/cgi"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Real programs, as they are, with nothing but their usual settings.

// output runs a program and returns what it says on standard output.
func output(t *testing.T, stdin io.Reader, env []string, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(tool(t, name), args...)
	cmd.Env, cmd.Stdin = environ(env...), stdin
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	timer := time.AfterFunc(2*time.Minute, func() { cmd.Process.Kill() })
	defer timer.Stop()
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, &stderr)
	}
	return string(out)
}

// gitServer serves a repository with some history and returns its URL and its
// newest commit.
func gitServer(t *testing.T) (url, head string) {
	t.Helper()
	backend := filepath.Join(strings.TrimSpace(output(t, nil, nil, "git", "--exec-path")), "git-http-backend")
	if _, err := os.Stat(backend); err != nil {
		t.Skipf("git without its server: %v", err)
	}
	root := t.TempDir()
	work := filepath.Join(root, "work")
	git := func(args ...string) string {
		t.Helper()
		return strings.TrimSpace(output(t, nil, nil, "git", append([]string{"-C", work, "-c", "user.name=a", "-c", "user.email=a@b"}, args...)...))
	}
	if err := os.Mkdir(work, 0o755); err != nil {
		t.Fatal(err)
	}
	git("init", "-q")
	for i := range 5 {
		b, _ := io.ReadAll(io.LimitReader(randomBytes(uint64(i)), 3<<20))
		if err := os.WriteFile(filepath.Join(work, fmt.Sprintf("file%d", i)), b, 0o644); err != nil {
			t.Fatal(err)
		}
		git("add", ".")
		git("commit", "-q", "-m", fmt.Sprint("commit ", i))
	}
	head = git("rev-parse", "HEAD")
	git("clone", "-q", "--bare", work, filepath.Join(root, "repo.git"))
	handler := &cgi.Handler{Path: backend, Dir: root, Env: []string{"GIT_PROJECT_ROOT=" + root, "GIT_HTTP_EXPORT_ALL=1", "HOME=" + root,
		"GIT_CONFIG_COUNT=2", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*",
		"GIT_CONFIG_KEY_1=http.receivepack", "GIT_CONFIG_VALUE_1=true"}}
	return "http://" + httpOriginOn(t, besideLoopback, handler) + "/repo.git", head
}

func TestGit(t *testing.T) {
	t.Parallel()
	tp := shared(t)
	url, head := gitServer(t)
	for _, proxy := range []string{"http://" + tp.http, "socks5h://" + tp.socks} {
		dir := filepath.Join(t.TempDir(), "clone")
		output(t, nil, nil, "git", "-c", "http.proxy="+proxy, "clone", "-q", url, dir)
		if got := strings.TrimSpace(output(t, nil, nil, "git", "-C", dir, "rev-parse", "HEAD")); got != head {
			t.Errorf("%s: the clone's head is %s, want %s", proxy, got, head)
		}
		output(t, nil, nil, "git", "-C", dir, "fsck", "--full")
		branch := "refs/heads/" + proxy[:4]
		output(t, nil, nil, "git", "-C", dir, "-c", "http.proxy="+proxy, "push", "-q", "origin", "HEAD:"+branch)
		if got := output(t, nil, []string{"ALL_PROXY=" + proxy}, "git", "ls-remote", url, branch); !strings.HasPrefix(got, head) {
			t.Errorf("%s: pushed %q", proxy, got)
		}
	}
	p := launch(t, execCommand(t, nil, "git", "clone", "-q", url, filepath.Join(t.TempDir(), "clone")))
	if status := p.wait(); status != 0 {
		t.Errorf("exec -- git clone: status %d, %s", status, &p.stderr)
	}
}

// sshServer starts a server of the test's own and returns its port and the
// options to reach it.
func sshServer(t *testing.T) (port string, options []string) {
	t.Helper()
	sshd := tool(t, "/usr/sbin/sshd")
	tool(t, "ssh")
	me, err := user.Current()
	if err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	for _, name := range []string{"host", "user"} {
		output(t, nil, nil, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", file(name))
	}
	if os.Geteuid() == 0 {
		os.MkdirAll("/run/sshd", 0o755) // where it locks itself up
	}
	port = portOf(closedPort(t))
	writeFile(t, file("config"), strings.Join([]string{"Port " + port, "ListenAddress 127.0.0.1", "HostKey " + file("host"),
		"AuthorizedKeysFile " + file("user.pub"), "StrictModes no", "UsePAM no", "PasswordAuthentication no",
		"PermitRootLogin yes", "PidFile none", ""}, "\n"))
	p := launch(t, exec.Command(sshd, "-D", "-e", "-f", file("config")))
	p.want = []int{0, 255}
	p.says("Server listening")
	return port, []string{"-F", "none", "-i", file("user"), "-l", me.Username, "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no",
		"-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-o", "IdentitiesOnly=yes"}
}

func TestSSH(t *testing.T) {
	t.Parallel()
	tp := shared(t)
	port, options := sshServer(t)
	forward := listenerOf(tp.startClient("--forward", "0=localhost:"+port)).forwards[0]
	ways := map[string][]string{
		"forward": {"-p", portOf(forward), "127.0.0.1"},
	}
	if nc, err := exec.LookPath("nc.openbsd"); err == nil {
		ways["CONNECT"] = []string{"-p", port, "-o", "ProxyCommand=" + nc + " -X connect -x " + tp.http + " %h %p", "localhost"}
		ways["SOCKS"] = []string{"-p", port, "-o", "ProxyCommand=" + nc + " -X 5 -x " + tp.socks + " %h %p", "127.0.0.1"}
	}
	if python, err := exec.LookPath("python3"); err == nil {
		script := filepath.Join(t.TempDir(), "connect.py")
		writeFile(t, script, connectScript)
		ways["CONNECT by script"] = []string{"-p", port, "-o", "ProxyCommand=" + python + " " + script + " " + strings.ReplaceAll(tp.http, ":", " ") + " %h %p", "localhost"}
	}
	sent, _ := io.ReadAll(io.LimitReader(randomBytes(3), 8<<20))
	for name, args := range ways {
		t.Run(name, func(t *testing.T) {
			args := append(append([]string{}, options...), args...)
			if got := output(t, nil, nil, "ssh", append(args, "echo", "hello")...); got != "hello\n" {
				t.Errorf("ssh echo: %q", got)
			}
			if got := output(t, bytes.NewReader(sent), nil, "ssh", append(args, "cat")...); got != string(sent) {
				t.Errorf("ssh cat: %d bytes that differ, want %d", len(got), len(sent))
			}
		})
	}
}

// connectScript is a ProxyCommand for where there is no nc that has one.
const connectScript = `
import os, socket, sys, threading
s = socket.create_connection((sys.argv[1], int(sys.argv[2])))
s.sendall(("CONNECT %s:%s HTTP/1.1\r\nHost: x\r\n\r\n" % (sys.argv[3], sys.argv[4])).encode())
head = b""
while not head.endswith(b"\r\n\r\n"):
    b = s.recv(1)
    if not b: sys.exit(1)
    head += b
if b" 200 " not in head.split(b"\r\n")[0]: sys.exit(1)
def up():
    while b := os.read(0, 65536): s.sendall(b)
    s.shutdown(socket.SHUT_WR)
threading.Thread(target=up, daemon=True).start()
while b := s.recv(65536):
    while b: b = b[os.write(1, b):]
`

func TestPythonRequests(t *testing.T) {
	t.Parallel()
	tp := shared(t)
	python := pythonWithRequests(t)
	big, _ := io.ReadAll(io.LimitReader(randomBytes(5), 4<<20))
	mux := http.NewServeMux()
	mux.HandleFunc("GET /", func(w http.ResponseWriter, _ *http.Request) { w.Write(big) })
	mux.HandleFunc("POST /", func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) })
	url := "http://localhost:" + portOf(httpOrigin(t, mux)) + "/"
	const script = `
import requests, sys
url, proxy = sys.argv[1:]
with requests.Session() as s:
    s.trust_env = False
    s.proxies = {"http": proxy, "https": proxy}
    print(len(s.get(url).content), s.post(url, data=b"echo").text)
    try:
        s.get("http://nowhere.onion/", timeout=60).raise_for_status()
    except requests.exceptions.RequestException as e:
        print("refused")
`
	for _, proxy := range []string{"socks5h://" + tp.socks, "http://" + tp.http} {
		if got, want := output(t, nil, nil, python, "-c", script, url, proxy), fmt.Sprintf("%d echo\nrefused\n", len(big)); got != want {
			t.Errorf("%s: %q, want %q", proxy, got, want)
		}
	}
}

// pythonWithRequests finds a Python that has requests and PySocks, or gets them
// for it.
func pythonWithRequests(t *testing.T) string {
	t.Helper()
	python := tool(t, "python3")
	has := func(python string) bool { return exec.Command(python, "-c", "import requests, socks").Run() == nil }
	if has(python) {
		return python
	}
	dir := t.TempDir()
	if out, err := exec.Command(python, "-m", "venv", dir).CombinedOutput(); err != nil {
		t.Skipf("Python without requests, and no venv: %s", tail(string(out), 200))
	}
	python = filepath.Join(dir, "bin", "python3")
	out, _ := exec.Command(python, "-m", "pip", "install", "-q", "--timeout", "20", "--retries", "1", "requests[socks]").CombinedOutput()
	if !has(python) {
		t.Skipf("requests is not to be had: %s", tail(string(out), 200))
	}
	return python
}
