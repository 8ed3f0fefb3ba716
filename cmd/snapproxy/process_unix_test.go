//go:build unix

package main

import (
	"bufio"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestCommandsEndIsOurs(t *testing.T) {
	for _, tt := range []struct {
		script string
		want   int
	}{
		{"exit 0", 0},
		{"exit 7", 7},
		{"kill -TERM $$", 128 + 15},
		{"kill -KILL $$", 128 + 9},
	} {
		start(t, "demo", "--", "sh", "-c", tt.script).wants(tt.want, "")
	}
}

func TestCommandGetsTheProxyAndNoSecrets(t *testing.T) {
	p := &process{t: t, cmd: exec.Command("snapproxy", "demo", "--", "env")}
	p.cmd.Env = append(os.Environ(), "NO_PROXY=*", "no_proxy=*", "http_proxy=http://elsewhere", "SNAPPROXY_PRIVATE_KEY=sesame")
	p.launch()
	env := map[string]string{}
	for {
		line, err := p.stdout.ReadString('\n')
		if err != nil {
			break
		}
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		if _, twice := env[name]; twice {
			t.Errorf("%s is set twice", name)
		}
		env[name] = value
	}
	p.wants(0, "")
	if _, ok := env["SNAPPROXY_PRIVATE_KEY"]; ok {
		t.Error("the private key reaches the command")
	}
	for _, name := range proxyVariables {
		matches(t, env[name], `^http://snapproxy:[A-Z0-9]{26}@127\.0\.0\.1:[1-9][0-9]*$`)
	}
	matches(t, env["SNAPPROXY_SOCKS"], `^socks5h://snapproxy:[A-Z0-9]{26}@127\.0\.0\.1:[1-9][0-9]*$`)
	for _, name := range directVariables {
		if env[name] != "localhost,127.0.0.1,::1" {
			t.Errorf("%s=%s", name, env[name])
		}
	}
}

func TestStandardInputIsTheCommands(t *testing.T) {
	p := &process{t: t, cmd: exec.Command("snapproxy", "demo", "--", "cat")}
	p.cmd.Stdin = strings.NewReader("through\n")
	p.launch()
	if got := p.line(); got != "through" {
		t.Errorf("cat says %q", got)
	}
	p.wants(0, "")
}

// TestSignalsArePassedOn runs without a terminal, where SIGINT was sent to
// snapproxy alone.
func TestSignalsArePassedOn(t *testing.T) {
	for _, sig := range []os.Signal{os.Interrupt, syscall.SIGHUP, syscall.SIGTERM} {
		if signal.Ignored(sig) {
			t.Logf("%v is ignored here, as under nohup, and stays so for snapproxy", sig)
			continue
		}
		p := startDetached(t, "demo", "--", "await-signals")
		p.says("up")
		p.signal(sig)
		p.says(sig.String())
		if sig != syscall.SIGTERM {
			// The second that is passed on kills.
			p.signal(sig)
			p.wants(128+9, "")
			continue
		}
		p.wants(3, "")
	}
}

func TestSecondSignalKills(t *testing.T) {
	p := startDetached(t, "demo", "--", "await-signals", "stubborn")
	p.says("up")
	p.end()
	p.says("terminated")
	p.end()
	p.wants(128+9, "")
}

func TestReadyFileOfACommandIsPrivate(t *testing.T) {
	name := filepath.Join(t.TempDir(), "ready")
	p := startDetached(t, "demo", "--ready-file", name, "--", "await-signals")
	p.says("up")
	info, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("the file with the password has mode %v", info.Mode())
	}
	p.end()
	p.says("terminated")
	p.wants(3, "")
	if _, err := os.Stat(name); err == nil {
		t.Error("the ready file is left")
	}
}

func TestKeysAreReloadedOnHangup(t *testing.T) {
	dir := t.TempDir()
	keys := filepath.Join(dir, "keys")
	if err := os.WriteFile(keys, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, cmd: exec.Command("snapproxy", "snap", "--isd-as", "1-ff00:0:110", "--listen", "127.0.0.1:0", "--authorized-keys", keys)}
	p.cmd.Env = append(os.Environ(), "SNAPPROXY_PRIVATE_KEY="+sampleKey)
	logs, stderr, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer logs.Close()
	p.cmd.Stderr = stderr
	p.launch()
	stderr.Close()
	p.line()
	p.signal(syscall.SIGHUP)
	for lines := bufio.NewScanner(logs); ; {
		if !lines.Scan() {
			t.Fatal("SIGHUP does not reload the authorized keys")
		}
		if strings.Contains(lines.Text(), "authorized keys taken") {
			break
		}
	}
	p.end()
	p.wants(0, "")
}

// startDetached is start without a terminal.
func startDetached(t *testing.T, args ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.Command("snapproxy", args...)}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	p.launch()
	return p
}

func (p *process) says(want string) {
	p.t.Helper()
	if got := p.line(); got != want {
		p.t.Errorf("the command says %q, want %q", got, want)
	}
}
