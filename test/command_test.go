//go:build unix

package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// execCommand is a command run by exec in the shared topology.
func execCommand(t *testing.T, flags []string, command ...string) *exec.Cmd {
	t.Helper()
	tp := shared(t)
	args := append([]string{"exec"}, tp.attachFlags()...)
	args = append(append(args, "--key", tp.file("client.key")), flags...)
	return exec.Command(program(t), append(append(args, "--"), command...)...)
}

func TestExecEndsAsItsCommand(t *testing.T) {
	t.Parallel()
	script := filepath.Join(t.TempDir(), "no-program")
	if err := os.WriteFile(script, []byte("#!/bin/sh\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name    string
		command []string
		want    int
	}{
		{"well", []string{"true"}, 0},
		{"badly", []string{"sh", "-c", "exit 7"}, 7},
		{"by SIGTERM", []string{"sh", "-c", "kill -TERM $$"}, 128 + 15},
		{"by SIGKILL", []string{"sh", "-c", "kill -KILL $$"}, 128 + 9},
		{"not found", []string{"there-is-no-such-command"}, 127},
		{"no such file", []string{"./there-is-no-such-command"}, 127},
		{"not a program", []string{script}, 126},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := launch(t, execCommand(t, nil, tt.command...))
			p.want = []int{tt.want}
			if got := p.wait(); got != tt.want {
				t.Errorf("status %d, want %d; standard error %q", got, tt.want, &p.stderr)
			}
			if said := p.stderr.String(); (said != "") != (tt.want == 126 || tt.want == 127) {
				t.Errorf("standard error %q", said)
			}
		})
	}
}

func TestExecWithoutATunnelRunsNothing(t *testing.T) {
	t.Parallel()
	tp := shared(t)
	touched := filepath.Join(t.TempDir(), "touched")
	for name, flags := range map[string][]string{
		"no SNAP":       {"--snap", closedUDP(t)},
		"no such exit":  {"--exit", isdAS + ",127.0.0.1:9"},
		"unknown key":   {"--key", strangerKey(t)},
		"wrong exit":    {"--exit-key", tp.snapKey.String()},
		"wrong SNAP":    {"--snap-key", tp.exitKey.String()},
		"another IA":    {"--isd-as", "1-ff00:0:111"},
		"port in use":   {"--socks", tp.socks},
		"no file":       {"--key", "/nowhere/key"},
		"open listener": {"--socks", "0.0.0.0:0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := launch(t, execCommand(t, append([]string{"--ready-timeout", "3s"}, flags...), "touch", touched))
			p.want = []int{125}
			wantsComplaint(t, p.wait(), p.stdout.String(), p.stderr.String(), 125, "")
			if _, err := os.Stat(touched); err == nil {
				t.Error("the command has run")
			}
		})
	}
}

// strangerKey is a key file that nobody knows.
func strangerKey(t *testing.T) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "key")
	if status, _, stderr := runProgram(t, "keygen", "-o", name); status != 0 {
		t.Fatal(stderr)
	}
	return name
}

func TestExecSetsTheEnvironment(t *testing.T) {
	t.Parallel()
	cmd := execCommand(t, nil, "env")
	cmd.Env = environ("NO_PROXY=*", "no_proxy=*", "HTTPS_PROXY=http://elsewhere", "all_proxy=socks5://elsewhere", "KEPT=1",
		"SNAPPROXY_LOG_LEVEL=debug")
	p := launch(t, cmd)
	p.wait()
	env := map[string]string{}
	for line := range strings.Lines(p.stdout.String()) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		env[name] = value
	}
	proxy := env["ALL_PROXY"]
	if !strings.HasPrefix(proxy, "http://") || !strings.Contains(proxy, "@127.0.0.1:") {
		t.Errorf("ALL_PROXY=%s", proxy)
	}
	for _, name := range []string{"ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "all_proxy", "https_proxy", "http_proxy"} {
		if env[name] != proxy {
			t.Errorf("%s=%s, want %s", name, env[name], proxy)
		}
	}
	if got, want := env["SNAPPROXY_SOCKS"], strings.Replace(proxy, "http:", "socks5h:", 1); got != want {
		t.Errorf("SNAPPROXY_SOCKS=%s, want %s", got, want)
	}
	for _, name := range []string{"NO_PROXY", "no_proxy"} {
		if env[name] != "localhost,127.0.0.1,::1" {
			t.Errorf("%s=%s", name, env[name])
		}
	}
	if env["KEPT"] != "1" {
		t.Error("the rest of the environment is gone")
	}
}

func TestExecKeepsSecretsToItself(t *testing.T) {
	t.Parallel()
	tp := shared(t)
	key := privateKey(t, tp.file("client.key")).Base64()
	args := append(append([]string{"exec"}, tp.attachFlags()...), "--", "sh", "-c", `env; cat`)
	cmd := exec.Command(program(t), args...)
	cmd.Env = environ("SNAPPROXY_PRIVATE_KEY=" + key)
	cmd.Stdin = strings.NewReader("standard input is the command's\n")
	p := launch(t, cmd)
	if status := p.wait(); status != 0 {
		t.Fatalf("status %d: %s", status, &p.stderr)
	}
	if out := p.stdout.String(); strings.Contains(out, key) || !strings.Contains(out, "standard input is the command's\n") {
		t.Errorf("the command says %q", out)
	}
}

func TestExecPassesSignalsOn(t *testing.T) {
	t.Parallel()
	const patient = `trap 'echo got it; exit 3' TERM; echo up; while :; do sleep .1; done`
	const stubborn = `trap 'echo got it' TERM; echo up; while :; do sleep .1; done`
	for _, tt := range []struct {
		name, script string
		twice        bool
		want         int
	}{
		{"once", patient, false, 3},
		{"twice", stubborn, true, 128 + 9},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := launch(t, execCommand(t, nil, "sh", "-c", tt.script))
			p.want = []int{tt.want}
			prints := func(text string) {
				t.Helper()
				if !p.stdout.await(patience, p.ended, func(s string) bool { return strings.Contains(s, text) }) {
					t.Fatalf("the command does not print %q", text)
				}
			}
			prints("up")
			p.signal(syscall.SIGTERM)
			prints("got it")
			if tt.twice {
				p.signal(syscall.SIGTERM)
			}
			if got := p.wait(); got != tt.want {
				t.Errorf("status %d, want %d", got, tt.want)
			}
		})
	}
}

func TestExecServesItsCommand(t *testing.T) {
	t.Parallel()
	tool(t, "curl")
	origin := httpOriginOn(t, besideLoopback, textHandler("through exec"))
	// Nothing else would answer 403 for an address like that.
	p := launch(t, execCommand(t, nil, "curl", "-sS", "-w", " %{http_code} ", "http://"+origin+"/", "http://10.1.2.3/"))
	if status := p.wait(); status != 0 || p.stdout.String() != "through exec 200 forbidden by policy\n 403 " || p.stderr.String() != "" {
		t.Errorf("status %d, %q, %q", status, &p.stdout, &p.stderr)
	}
}
