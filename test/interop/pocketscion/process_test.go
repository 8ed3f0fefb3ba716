//go:build interop && linux

package pocketscion

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A process is a program that runs.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	stdin  io.WriteCloser // of a peer: it ends when this is closed; nil: SIGTERM ends it
	stdout record
	stderr record
	ended  chan struct{} // closed when it has ended
	want   int           // exit status that is in order
}

// start starts snapproxy and waits for its ready line.
func start(t *testing.T, args ...string) *process {
	t.Helper()
	p := launch(t, exec.Command(program(t), args...))
	p.awaitLine(0)
	return p
}

// startPeer starts a program of the peers and waits for its first line.
func startPeer(t *testing.T, args ...string) *process {
	t.Helper()
	p := launchPeer(t, args...)
	p.awaitLine(0)
	return p
}

func launchPeer(t *testing.T, args ...string) *process {
	t.Helper()
	cmd := exec.Command(peers(t), args...)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	p := launch(t, cmd)
	p.stdin = stdin
	return p
}

// runPeer runs a program of the peers to its end and returns its output. The
// program must end well within the time.
func runPeer(t *testing.T, within time.Duration, args ...string) string {
	t.Helper()
	p := launchPeer(t, args...)
	if status := p.wait(within); status != 0 {
		p.want = status
		t.Fatalf("%s ends with status %d; standard error:\n%s", args[0], status, &p.stderr)
	}
	return p.stdout.String()
}

// launch starts a command and arranges for its end.
func launch(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{t: t, cmd: cmd, ended: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = &p.stdout, &p.stderr
	cmd.Env = environ()
	cmd.WaitDelay = endPatience
	// A test binary that is killed runs no cleanups.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %v: %v", cmd.Args, err)
	}
	go func() {
		cmd.Wait() // the outcome is in ProcessState
		close(p.ended)
	}()
	t.Cleanup(p.finish)
	return p
}

// finish ends the process and judges how it ran.
func (p *process) finish() {
	p.t.Helper()
	p.end()
	for _, cry := range []string{"panic", "goroutine ", "fatal error", "DATA RACE"} {
		if strings.Contains(p.stderr.String(), cry) {
			p.t.Errorf("%s says %q", p.name(), cry)
		}
	}
	if p.t.Failed() {
		text := p.stderr.String()
		p.t.Logf("%s, standard error:\n%s", p.name(), text[max(0, len(text)-8000):])
	}
}

// end ends the process and waits until it has ended.
func (p *process) end() {
	p.t.Helper()
	switch {
	case p.hasEnded():
	case p.stdin != nil:
		p.stdin.Close()
	default:
		p.signal(syscall.SIGTERM)
	}
	select {
	case <-p.ended:
	case <-time.After(endPatience):
		p.t.Errorf("%s does not end", p.name())
		p.signal(syscall.SIGQUIT)
		select {
		case <-p.ended:
		case <-time.After(endPatience):
			p.signal(syscall.SIGKILL)
			<-p.ended
		}
		return
	}
	if got := p.cmd.ProcessState.ExitCode(); got != p.want {
		p.t.Errorf("%s ends with %v, want status %d", p.name(), p.cmd.ProcessState, p.want)
	}
}

// wait waits for the process to end by itself and returns its status.
func (p *process) wait(within time.Duration) int {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(within):
		p.t.Fatalf("%s does not end within %v; standard error:\n%s", p.name(), within, &p.stderr)
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
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Errorf("signal %s: %v", p.name(), err)
	}
}

// name is the program and what it was asked to do.
func (p *process) name() string {
	return filepath.Base(p.cmd.Path) + " " + p.cmd.Args[min(1, len(p.cmd.Args)-1)]
}

// awaitLine waits for a line of standard output and returns it, without its end.
func (p *process) awaitLine(n int) string {
	p.t.Helper()
	if !p.stdout.await(patience, p.ended, func(text string) bool { return strings.Count(text, "\n") > n }) {
		p.t.Fatalf("%v prints no line %d; standard error:\n%s", p.cmd.Args, n, &p.stderr)
	}
	return strings.Split(p.stdout.String(), "\n")[n]
}

// says waits until standard error holds text.
func (p *process) says(text string) {
	p.t.Helper()
	if !p.stderr.await(patience, p.ended, func(s string) bool { return strings.Contains(s, text) }) {
		p.t.Fatalf("%s does not say %q; standard error:\n%s", p.name(), text, &p.stderr)
	}
}

// flagOf is the value of a flag in a ready line.
func flagOf(line, flag string) string {
	words := strings.Fields(line)
	if i := slices.Index(words, flag); i >= 0 && i+1 < len(words) {
		return words[i+1]
	}
	return ""
}

// environ is the environment of processes: without proxies, and without what
// would set flags of ours.
func environ() []string {
	return slices.DeleteFunc(os.Environ(), func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		return strings.HasPrefix(name, "SNAPPROXY_") || strings.HasSuffix(strings.ToUpper(name), "_PROXY")
	})
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
