package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// The tests below run the real program as processes of its own.

func TestPortInUse(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	p := start(t, "demo", "--socks", ln.Addr().String())
	p.wants(1, "snapproxy: --socks: listen tcp "+ln.Addr().String()+": ")
}

// TestReadyLinesLead goes from role to role by their ready lines, as a script
// does.
func TestReadyLinesLead(t *testing.T) {
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	var authorized strings.Builder
	for _, role := range []string{"snap", "exit", "client"} {
		pub, err := exec.Command("snapproxy", "keygen", "-o", file(role+".key")).Output()
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&authorized, "%s %s\n", strings.TrimSpace(string(pub)), role)
	}
	keys := file("authorized_keys")
	if err := os.WriteFile(keys, []byte(authorized.String()), 0o600); err != nil {
		t.Fatal(err)
	}

	snap := start(t, "snap", "--isd-as", "1-ff00:0:110", "--listen", "127.0.0.1:0", "--key", file("snap.key"),
		"--authorized-keys", keys, "--ready-file", file("snap.line"))
	snapLine := snap.line()
	matches(t, snapLine, `^--snap 127\.0\.0\.1:[1-9][0-9]* --snap-key [A-Za-z0-9+/]{43}= --isd-as 1-ff00:0:110$`)
	holds(t, file("snap.line"), snapLine)

	exit := start(t, slices.Concat([]string{"exit"}, strings.Fields(snapLine), []string{"--key", file("exit.key"), "--bind", "127.0.0.1:0",
		"--authorized-keys", keys, "--ready-file", file("exit.line")})...)
	exitLine := exit.line()
	matches(t, exitLine, `^--exit 1-ff00:0:110,127\.0\.0\.1:[1-9][0-9]* --exit-key [A-Za-z0-9+/]{43}=$`)
	holds(t, file("exit.line"), exitLine)

	client := start(t, slices.Concat([]string{"client"}, strings.Fields(snapLine), strings.Fields(exitLine), []string{
		"--key", file("client.key"), "--socks", "0", "--http", "0", "--forward", "0=host.example.org:22", "--ready-file", file("client.line")})...)
	clientLine := client.line()
	matches(t, clientLine, `^socks5h://(127\.0\.0\.1:[1-9][0-9]*) http://127\.0\.0\.1:[1-9][0-9]* tcp://127\.0\.0\.1:[1-9][0-9]*$`)
	holds(t, file("client.line"), clientLine)
	if urls := strings.Fields(clientLine); strings.TrimPrefix(urls[0], "socks5h:") != strings.TrimPrefix(urls[1], "http:") {
		t.Errorf("equal addresses do not share a listener: %s", clientLine)
	}

	for _, p := range []*process{client, exit, snap} {
		p.end()
		p.wants(0, "")
	}
	for _, line := range []string{"snap.line", "exit.line", "client.line"} {
		if _, err := os.Stat(file(line)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is left: %v", line, err)
		}
	}
}

func TestServeSaysAllFourFlags(t *testing.T) {
	dir := t.TempDir()
	key, keys := filepath.Join(dir, "key"), filepath.Join(dir, "keys")
	if err := exec.Command("snapproxy", "keygen", "-o", key).Run(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(keys, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	p := start(t, "serve", "--isd-as", "1-ff00:0:110", "--listen", "127.0.0.1:0", "--advertise", "snap.example.org:0", "--bind", "127.0.0.1:0",
		"--key", key, "--authorized-keys", keys)
	matches(t, p.line(), `^--snap snap\.example\.org:[1-9][0-9]* --snap-key [A-Za-z0-9+/]{43}= --isd-as 1-ff00:0:110 `+
		`--exit 1-ff00:0:110,127\.0\.0\.1:[1-9][0-9]* --exit-key [A-Za-z0-9+/]{43}=$`)
	p.end()
	p.wants(0, "")
}

func TestDemoWithoutCommandServes(t *testing.T) {
	p := start(t, "demo")
	matches(t, p.line(), `^socks5h://snapproxy:[A-Z0-9]+@127\.0\.0\.1:[1-9][0-9]* http://snapproxy:[A-Z0-9]+@127\.0\.0\.1:[1-9][0-9]*$`)
	p.end()
	p.wants(0, "")

	p = start(t, "demo", "--socks", "0", "--http", "off")
	matches(t, p.line(), `^socks5h://127\.0\.0\.1:[1-9][0-9]*$`)
	p.end()
	p.wants(0, "")
}

// A process is a running snapproxy.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	stdout *bufio.Reader
	stderr strings.Builder
}

func start(t *testing.T, args ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.Command("snapproxy", args...)}
	p.launch()
	return p
}

func (p *process) launch() {
	p.t.Helper()
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	p.stdout = bufio.NewReader(stdout)
	if p.cmd.Stderr == nil {
		p.cmd.Stderr = &p.stderr
	}
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() {
		if p.cmd.ProcessState == nil {
			p.cmd.Process.Kill()
			p.cmd.Wait()
		}
		if p.t.Failed() {
			p.t.Logf("%s:\n%s", p.cmd.Args, &p.stderr)
		}
	})
}

// line is the next line on standard output.
func (p *process) line() string {
	p.t.Helper()
	line, err := p.stdout.ReadString('\n')
	if err != nil {
		p.t.Fatalf("standard output ends: %v", err)
	}
	return strings.TrimSuffix(line, "\n")
}

func (p *process) end() { p.signal(syscall.SIGTERM) }

func (p *process) signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// wants waits for the end of the process, which must say the one line that
// begins with complaint, if any, and nothing more on standard output.
func (p *process) wants(status int, complaint string) {
	p.t.Helper()
	rest, _ := io.ReadAll(p.stdout)
	p.cmd.Wait()
	if got := p.cmd.ProcessState.ExitCode(); got != status {
		p.t.Errorf("status %d (%v), want %d", got, p.cmd.ProcessState, status)
	}
	if len(rest) > 0 {
		p.t.Errorf("on standard output at the end: %q", rest)
	}
	var said []string
	for line := range strings.Lines(p.stderr.String()) {
		if !strings.HasPrefix(line, "time=") {
			said = append(said, line)
		}
	}
	switch {
	case complaint == "" && len(said) == 0:
	case complaint != "" && len(said) == 1 && strings.HasPrefix(said[0], complaint):
	default:
		p.t.Errorf("on standard error %q, want %q", said, complaint)
	}
}

func matches(t *testing.T, got, want string) {
	t.Helper()
	if !regexp.MustCompile(want).MatchString(got) {
		t.Errorf("line %q does not match %s", got, want)
	}
}

func holds(t *testing.T, name, line string) {
	t.Helper()
	if got, err := os.ReadFile(name); err != nil || string(got) != line+"\n" {
		t.Errorf("%s holds %q (%v), want the ready line", filepath.Base(name), got, err)
	}
}

// awaitSignals is a command for others to run: it prints a line for each
// signal. SIGTERM ends it with 3 unless its argument is "stubborn".
func awaitSignals() {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	fmt.Println("up")
	for s := range signals {
		fmt.Println(s)
		if s == syscall.SIGTERM && !slices.Contains(os.Args, "stubborn") {
			os.Exit(3)
		}
	}
}
