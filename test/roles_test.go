//go:build unix

package test

import (
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
)

func textHandler(text string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte(text)) })
}

const aKey = `[A-Za-z0-9+/]{43}=`

func TestReadyLinesLead(t *testing.T) {
	t.Parallel()
	tp := shared(t)
	for _, tt := range []struct {
		role *process
		want string
	}{
		{tp.snap, `^--snap 127\.0\.0\.1:[1-9]\d* --snap-key ` + aKey + ` --isd-as 1-ff00:0:110\n$`},
		{tp.exit, `^--exit 1-ff00:0:110,127\.0\.0\.1:[1-9]\d* --exit-key ` + aKey + `\n$`},
		{tp.client, `^socks5h://127\.0\.0\.1:[1-9]\d* http://127\.0\.0\.1:[1-9]\d*\n$`},
	} {
		if got := tt.role.stdout.String(); !regexp.MustCompile(tt.want).MatchString(got) {
			t.Errorf("standard output of %s is %q", tt.role.cmd.Args[1], got)
		}
	}
	if got := flagOf(tp.snap.line(), "--snap-key"); got != tp.snapKey.String() {
		t.Errorf("ready line names the key %s, want %s", got, tp.snapKey)
	}
}

// TestRolesByScript goes the way of the manual: each role reads the ready file
// of the one before.
func TestRolesByScript(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	var keys strings.Builder
	for _, role := range []string{"snap", "exit", "client"} {
		status, public, stderr := runProgram(t, "keygen", "-o", file(role))
		if status != 0 || !regexp.MustCompile(`^`+aKey+`\n$`).MatchString(public) {
			t.Fatalf("keygen: status %d, %q %q", status, public, stderr)
		}
		keys.WriteString(strings.TrimSuffix(public, "\n") + " " + role + " # a comment\n\n")
	}
	writeFile(t, file("keys"), keys.String())
	run := func(role string, args ...string) (*process, []string) {
		t.Helper()
		cmd := exec.Command(program(t), append([]string{role}, args...)...)
		cmd.Env = environ("SNAPPROXY_READY_FILE=" + file(role+".line"))
		p := launch(t, cmd)
		line := readyFile(t, p, file(role+".line"))
		p.awaitReady()
		if p.line() != line {
			t.Errorf("the ready file of %s holds %q, standard output %q", role, line, p.line())
		}
		return p, strings.Fields(line)
	}
	snap, snapFlags := run("snap", "--isd-as", isdAS, "--listen", "127.0.0.1:0", "--key", file("snap"), "--authorized-keys", file("keys"))
	exit, exitFlags := run("exit", append(snapFlags, "--key", file("exit"), "--authorized-keys", file("keys"), "--bind", "127.0.0.1:0")...)
	client, _ := run("client", slices.Concat(snapFlags, exitFlags, []string{"--key", file("client"), "--socks", "0", "--http", "0"})...)
	for _, p := range []*process{client, exit, snap} {
		p.end()
		if _, err := os.Stat(file(p.cmd.Args[1] + ".line")); err == nil {
			t.Errorf("%s leaves its ready file", p.cmd.Args[1])
		}
	}
}

func TestServeIsSNAPAndExit(t *testing.T) {
	t.Parallel()
	tp := shared(t)
	p := start(t, "serve", "--isd-as", isdAS, "--listen", "127.0.0.1:0", "--bind", "127.0.0.1:0", "--key", tp.file("snap.key"),
		"--authorized-keys", tp.authorized, "--allow", "127.0.0.1/32")
	// All that a client needs is in one line, and may come by the environment.
	cmd := exec.Command(program(t), "client")
	cmd.Env = environ("SNAPPROXY_SNAP="+flagOf(p.line(), "--snap"), "SNAPPROXY_SNAP_KEY="+flagOf(p.line(), "--snap-key"),
		"SNAPPROXY_ISD_AS="+isdAS, "SNAPPROXY_EXIT="+flagOf(p.line(), "--exit"), "SNAPPROXY_EXIT_KEY="+flagOf(p.line(), "--exit-key"),
		"SNAPPROXY_PRIVATE_KEY="+privateKey(t, tp.file("client.key")).Base64(), "SNAPPROXY_SOCKS=0", "SNAPPROXY_HTTP=off",
		"SNAPPROXY_FORWARD=0=localhost:1 0=localhost:2", "SNAPPROXY_PORT=tcp://10.0.0.1:80")
	c := launch(t, cmd)
	c.awaitReady()
	l := listenerOf(c)
	if l.socks == "" || l.http != "" || len(l.forwards) != 2 {
		t.Errorf("ready line %q", c.line())
	}
	connectSOCKS(t, l.socks, echoServer(t).addr)
	if !strings.Contains(c.stderr.String(), "SNAPPROXY_PORT") {
		t.Error("no warning of an unknown variable")
	}
}

func TestSNAPMayBeAName(t *testing.T) {
	t.Parallel()
	tp := shared(t)
	c := tp.startClient("--snap", "localhost:"+portOf(tp.snapAddr()))
	connectSOCKS(t, listenerOf(c).socks, echoServer(t).addr)
}

// Whoever is silent is named, with the key to add there.
func TestClientSaysWhoIsSilent(t *testing.T) {
	t.Parallel()
	tp := shared(t)
	unknown := strangerKey(t)
	unknownPublic := privateKey(t, unknown).PublicKey()
	// An exit that does not know everybody whom its SNAP knows.
	narrow := build(t, layout{noClient: true})
	few := narrow.file("few")
	writeFile(t, few, narrow.clientKey.String()+"\n")
	narrow.layout.exit = []string{"--authorized-keys", few}
	narrow.exit.end()
	narrow.startExit("0")
	narrow.authorize(narrow.exitKey, narrow.clientKey, unknownPublic)

	for _, tt := range []struct {
		name  string
		tp    *topology
		flags []string
		want  []string
	}{
		{"key unknown to the SNAP", tp, []string{"--key", unknown}, []string{"SNAP", unknownPublic.String()}},
		{"key unknown to the exit", narrow, []string{"--key", unknown}, []string{"exit", unknownPublic.String()}},
		{"wrong key of the SNAP", tp, []string{"--snap-key", tp.exitKey.String()}, []string{"SNAP"}},
		{"wrong key of the exit", tp, []string{"--exit-key", tp.snapKey.String()}, []string{"exit", tp.clientKey.String()}},
		{"no SNAP", tp, []string{"--snap", closedUDP(t)}, []string{"SNAP"}},
		{"no exit", tp, []string{"--exit", isdAS + ",127.0.0.1:9"}, []string{"exit"}},
		{"name without address", tp, []string{"--snap", "nowhere.onion:1"}, []string{"nowhere.onion"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := tt.tp.launchClient(append([]string{"--ready-timeout", "8s"}, tt.flags...)...)
			c.want = []int{1}
			c.says("level=WARN") // before it gives up
			status := c.wait()
			for _, w := range append(tt.want, "not ready after 8s") {
				wantsComplaint(t, status, c.stdout.String(), c.stderr.String(), 1, w)
			}
		})
	}
}

func TestPortsInUse(t *testing.T) {
	t.Parallel()
	tp := shared(t)
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	taken := udp.LocalAddr().String()
	for flag, args := range map[string][]string{
		"--listen": {"snap", "--isd-as", isdAS, "--listen", taken, "--key", tp.file("snap.key"), "--authorized-keys", tp.authorized},
		"--bind": append(append([]string{"exit"}, strings.Fields(tp.snap.line())...), "--key", tp.file("exit.key"),
			"--authorized-keys", tp.authorized, "--bind", taken),
		"--socks":   append([]string{"client"}, tp.clientFlags("--socks", tp.socks)...),
		"--http":    append([]string{"client"}, tp.clientFlags("--http", tp.socks)...),
		"--forward": append([]string{"client"}, tp.clientFlags("--forward", tp.socks+"=localhost:1")...),
	} {
		t.Run(flag, func(t *testing.T) {
			status, stdout, stderr := runProgram(t, args...)
			wantsComplaint(t, status, stdout, stderr, 1, flag)
		})
	}
}

func TestKeyFilesOfOthers(t *testing.T) {
	t.Parallel()
	tp := shared(t)
	key := filepath.Join(t.TempDir(), "key")
	b, err := os.ReadFile(tp.file("client.key"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(key, b, 0o600); err != nil {
		t.Fatal(err)
	}
	os.Chmod(key, 0o644)
	c := tp.startClient("--key", key)
	if log := c.stderr.String(); !strings.Contains(log, "level=WARN") || !strings.Contains(log, key) {
		t.Errorf("no warning of a key that others can read:\n%s", log)
	}
	os.Chmod(key, 0o666)
	status, stdout, stderr := runProgram(t, append([]string{"client"}, tp.clientFlags("--key", key)...)...)
	wantsComplaint(t, status, stdout, stderr, 1, "chmod 600")
	if strings.Contains(stderr, strings.TrimSpace(string(b))) {
		t.Error("the key is printed")
	}
}

func TestKeyFromStandardInput(t *testing.T) {
	t.Parallel()
	tp := shared(t)
	f, err := os.Open(tp.file("client.key"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cmd := exec.Command(program(t), append([]string{"client"}, tp.clientFlags("--key", "-")...)...)
	cmd.Stdin = f
	launch(t, cmd).awaitReady()
}

// Signals end every role, ready or not, with status 0; two of them at once too,
// in order or not.
func TestSignalsEndRoles(t *testing.T) {
	t.Parallel()
	tp := shared(t)
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		c := tp.startClient()
		w := connectSOCKS(t, listenerOf(c).socks, echoServer(t).addr) // work in hand does not hold it up
		c.signal(sig)
		if status := c.wait(); status != 0 {
			t.Errorf("%v: status %d", sig, status)
		}
		w.Close()
		waiting := tp.launchClient("--snap", closedUDP(t))
		waiting.says("level=")
		waiting.signal(sig)
		if status := waiting.wait(); status != 0 {
			t.Errorf("%v before it is ready: status %d", sig, status)
		}
		twice := tp.startClient()
		twice.want = []int{0, -1}
		twice.signal(sig)
		twice.signal(sig)
		twice.wait()
	}
}

func TestVersion(t *testing.T) {
	t.Parallel()
	for _, arg := range []string{"--version", "version"} {
		if status, stdout, _ := runProgram(t, arg); status != 0 || !strings.HasPrefix(stdout, "snapproxy ") {
			t.Errorf("%s: status %d, %q", arg, status, stdout)
		}
	}
}
