//go:build unix

package test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	// patience is how long a test waits for what must come; it says nothing of
	// how fast it should.
	patience = 40 * time.Second
	// endPatience is how long a process may take to end.
	endPatience = 15 * time.Second
)

// A process is a program that runs, in a process group of its own.
type process struct {
	scope  scope
	cmd    *exec.Cmd
	stdout record
	stderr record
	ended  chan struct{} // closed when it has ended
	want   []int         // exit statuses that are in order; -1: killed
}

// start starts snapproxy and waits for its ready line. At the end of s the
// process is ended and must have run cleanly.
func start(s scope, args ...string) *process {
	s.Helper()
	p := launch(s, exec.Command(program(s), args...))
	p.awaitReady()
	return p
}

// awaitReady waits for the ready line.
func (p *process) awaitReady() {
	p.scope.Helper()
	if !p.stdout.await(patience, p.ended, func(text string) bool { return strings.Contains(text, "\n") }) {
		p.scope.Fatalf("no ready line from %v; standard error:\n%s", p.cmd.Args[1:], &p.stderr)
	}
}

// launch starts a command and arranges for its end.
func launch(s scope, cmd *exec.Cmd) *process {
	s.Helper()
	p := &process{scope: s, cmd: cmd, ended: make(chan struct{}), want: []int{0}}
	if cmd.Stdout == nil {
		cmd.Stdout = &p.stdout
	}
	if cmd.Stderr == nil {
		cmd.Stderr = &p.stderr
	}
	if cmd.Env == nil {
		cmd.Env = environ()
	}
	cmd.WaitDelay = endPatience
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	watch, err := theWarden()
	if err != nil {
		s.Fatalf("%v", err)
	}
	if err := cmd.Start(); err != nil {
		s.Fatalf("start %v: %v", cmd.Args, err)
	}
	watch.watch("add", cmd.Process.Pid)
	go func() {
		cmd.Wait() // the outcome is in ProcessState
		close(p.ended)
	}()
	s.Cleanup(p.finish)
	return p
}

// finish ends the process and judges how it ran.
func (p *process) finish() {
	p.scope.Helper()
	p.end()
	name := strings.Join(p.cmd.Args[1:min(3, len(p.cmd.Args))], " ")
	for _, cry := range []string{"panic", "goroutine ", "fatal error", "DATA RACE"} {
		if strings.Contains(p.stderr.String(), cry) {
			p.scope.Errorf("%s says %q", name, cry)
		}
	}
	if !p.groupGone() {
		p.scope.Errorf("%s leaves processes behind", name)
		syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	}
	if watch, err := theWarden(); err == nil {
		watch.watch("del", p.cmd.Process.Pid)
	}
	if f, ok := p.scope.(interface{ Failed() bool }); ok && f.Failed() {
		p.scope.Logf("%s, standard error:\n%s", name, tail(p.stderr.String(), 8000))
	}
}

// end ends the process with SIGTERM and waits until it has ended.
func (p *process) end() {
	p.scope.Helper()
	if !p.hasEnded() {
		p.signal(syscall.SIGTERM)
	}
	select {
	case <-p.ended:
	case <-time.After(endPatience):
		p.scope.Errorf("%v does not end by SIGTERM", p.cmd.Args[1:])
		p.signal(syscall.SIGQUIT)
		select {
		case <-p.ended:
		case <-time.After(endPatience):
			p.signal(syscall.SIGKILL)
			<-p.ended
		}
		return
	}
	p.judge()
}

func (p *process) judge() {
	p.scope.Helper()
	got := p.cmd.ProcessState.ExitCode()
	for _, w := range p.want {
		if got == w {
			return
		}
	}
	p.scope.Errorf("%v ends with %v, want status %v", p.cmd.Args[1:], p.cmd.ProcessState, p.want)
}

// kill ends the process as a crash would.
func (p *process) kill() {
	p.scope.Helper()
	p.want = []int{-1}
	p.signal(syscall.SIGKILL)
	<-p.ended
}

// wait waits for the process to end by itself and returns its status.
func (p *process) wait() int {
	p.scope.Helper()
	select {
	case <-p.ended:
	case <-time.After(patience):
		p.scope.Fatalf("%v does not end; standard error:\n%s", p.cmd.Args[1:], &p.stderr)
	}
	return p.cmd.ProcessState.ExitCode()
}

func (p *process) hasEnded() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

func (p *process) signal(sig syscall.Signal) {
	p.scope.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.scope.Errorf("signal %v: %v", p.cmd.Args[1:], err)
	}
}

// says waits until standard error holds text.
func (p *process) says(text string) {
	p.scope.Helper()
	if !p.stderr.await(patience, p.ended, func(s string) bool { return strings.Contains(s, text) }) {
		p.scope.Fatalf("%v does not say %q; standard error:\n%s", p.cmd.Args[1:], text, &p.stderr)
	}
}

// line is the ready line.
func (p *process) line() string {
	line, _, _ := strings.Cut(p.stdout.String(), "\n")
	return line
}

// groupGone waits until nothing is left of the process group.
func (p *process) groupGone() bool {
	return eventually(3*time.Second, func() bool {
		return errors.Is(syscall.Kill(-p.cmd.Process.Pid, 0), syscall.ESRCH)
	})
}

// runProgram runs snapproxy to its end.
func runProgram(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	p := launch(t, exec.Command(program(t), args...))
	status = p.wait()
	p.want = []int{status}
	return status, p.stdout.String(), p.stderr.String()
}

// environ is the environment of processes: without proxies, and without what
// would set flags of ours.
func environ(more ...string) []string {
	var env []string
	for _, entry := range os.Environ() {
		name, _, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, "SNAPPROXY_") && !strings.HasSuffix(strings.ToUpper(name), "_PROXY") {
			env = append(env, entry)
		}
	}
	return append(env, more...)
}

// A record keeps what is written to it.
type record struct {
	mu      sync.Mutex // guards what follows
	buf     bytes.Buffer
	changed chan struct{} // closed by the next write; nil: nobody waits
}

func (r *record) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.changed != nil {
		close(r.changed)
		r.changed = nil
	}
	return r.buf.Write(b)
}

func (r *record) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.buf.String()
}

// await waits until ok accepts what was written. It gives up after timeout or
// once nobody writes any more.
func (r *record) await(timeout time.Duration, over <-chan struct{}, ok func(string) bool) bool {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	for {
		r.mu.Lock()
		text := r.buf.String()
		if r.changed == nil {
			r.changed = make(chan struct{})
		}
		changed := r.changed
		r.mu.Unlock()
		if ok(text) {
			return true
		}
		select {
		case <-changed:
		case <-over:
			return ok(r.String())
		case <-timer.C:
			return false
		}
	}
}

// eventually polls until ok or timeout.
func eventually(timeout time.Duration, ok func() bool) bool {
	deadline := time.Now().Add(timeout)
	for pause := time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		if ok() {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
		<-time.After(pause)
	}
}

func tail(s string, n int) string {
	if len(s) > n {
		return "…" + s[len(s)-n:]
	}
	return s
}
