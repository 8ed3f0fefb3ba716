//go:build linux

package scionlab

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A role is a snapproxy that runs, in a process group of its own.
type role struct {
	t      *testing.T
	cmd    *exec.Cmd
	stdin  io.Closer
	stdout record
	stderr record
	ended  chan struct{} // closed when it has ended
}

// startRole starts snapproxy and waits for its ready line. At the end of the
// test the process is ended, and must have run cleanly.
func startRole(t *testing.T, args ...string) *role {
	t.Helper()
	return startPeer(t, snapproxy(t), args...)
}

// startPeer starts any program that has a ready line and ends by SIGTERM or
// with its input.
func startPeer(t *testing.T, name string, args ...string) *role {
	t.Helper()
	r := &role{t: t, cmd: exec.Command(name, args...), ended: make(chan struct{})}
	r.cmd.Stdout, r.cmd.Stderr = &r.stdout, &r.stderr
	r.cmd.Env = environ()
	var err error
	if r.stdin, err = r.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	watch, err := theWarden()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.cmd.Start(); err != nil {
		t.Fatalf("start %v: %v", args, err)
	}
	watch.watch("add", r.cmd.Process.Pid)
	go func() {
		r.cmd.Wait() // the outcome is in ProcessState
		watch.watch("del", r.cmd.Process.Pid)
		close(r.ended)
	}()
	t.Cleanup(r.finish)
	if !eventually(func() bool { return strings.Contains(r.stdout.String(), "\n") || r.hasEnded() }) || r.line() == "" {
		t.Fatalf("no ready line from %v; standard error:\n%s", args, &r.stderr)
	}
	return r
}

// line is the ready line.
func (r *role) line() string {
	line, _, ok := strings.Cut(r.stdout.String(), "\n")
	if !ok {
		return ""
	}
	return line
}

func (r *role) hasEnded() bool {
	select {
	case <-r.ended:
		return true
	default:
		return false
	}
}

// end ends the role and waits until it has ended.
func (r *role) end() {
	if r.ours() {
		r.cmd.Process.Signal(syscall.SIGTERM)
	} else {
		r.stdin.Close()
	}
	select {
	case <-r.ended:
	case <-time.After(15 * time.Second):
		r.t.Errorf("%v does not end by SIGTERM", r.cmd.Args[1:])
		r.cmd.Process.Kill()
		<-r.ended
	}
}

func (r *role) ours() bool { return r.cmd.Path != os.Getenv(rustPeer) }

// finish ends the role and judges how it ran.
func (r *role) finish() {
	crashed := r.hasEnded()
	r.end()
	if crashed || r.cmd.ProcessState.ExitCode() != 0 {
		r.t.Errorf("%v ends with %v", r.cmd.Args[1:], r.cmd.ProcessState)
	}
	for _, cry := range []string{"panic", "goroutine ", "fatal error", "DATA RACE"} {
		if strings.Contains(r.stderr.String(), cry) {
			r.t.Errorf("%v says %q", r.cmd.Args[1:], cry)
		}
	}
	if r.t.Failed() || testing.Verbose() {
		said := r.stderr.String()
		r.t.Logf("%s, standard error:\n%s", r.cmd.Args[1], said[max(0, len(said)-4000):])
	}
}

// run runs snapproxy to its end.
func run(t *testing.T, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, snapproxy(t), args...)
	cmd.Env = environ()
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	err = cmd.Run()
	return out.String(), said.String(), err
}

// mustRun is run for what must go well.
func mustRun(t *testing.T, args ...string) string {
	t.Helper()
	stdout, stderr, err := run(t, args...)
	if err != nil {
		t.Fatalf("%v: %v\n%s", args, err, stderr)
	}
	return stdout
}

// environ is the environment of roles: without proxies, and without what would
// set flags of ours.
func environ() []string {
	return slices.DeleteFunc(os.Environ(), func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		return strings.HasPrefix(name, "SNAPPROXY_") || strings.HasSuffix(strings.ToUpper(name), "_PROXY")
	})
}

// flagOf is the value of a flag in a ready line.
func flagOf(line, flag string) string {
	words := strings.Fields(line)
	if i := slices.Index(words, flag); i >= 0 && i+1 < len(words) {
		return words[i+1]
	}
	return ""
}

// A record keeps what is written to it.
type record struct {
	mu  sync.Mutex // guards what follows
	buf bytes.Buffer
}

func (r *record) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.buf.Write(b)
}

func (r *record) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.buf.String()
}
