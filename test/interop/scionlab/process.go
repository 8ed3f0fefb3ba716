//go:build linux

package scionlab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
)

// A Process is one of the network's, in a process group of its own. Its methods
// may be called by several goroutines.
type Process struct {
	// Name is that of its configuration: br-111-1, cs-110, echo-112.
	Name string
	// Log is the file that holds what it says, of all its lives.
	Log string

	path   string
	args   []string
	warden *warden

	mu    sync.Mutex // guards what follows
	cmd   *exec.Cmd  // nil: does not run
	ended chan struct{}
	hurt  bool // killed or frozen since it was last asked for
}

// Start starts the process, which must not run.
func (p *Process) Start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd != nil {
		return fmt.Errorf("start %s: it runs", p.Name)
	}
	log, err := os.OpenFile(p.Log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(p.path, p.args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.Name, err)
	}
	p.warden.watch("add", cmd.Process.Pid)
	ended := make(chan struct{})
	go func() {
		cmd.Wait() // how it ended says its log
		p.warden.watch("del", cmd.Process.Pid)
		close(ended)
	}()
	p.cmd, p.ended = cmd, ended
	return nil
}

// Freeze stops the process as it stands: what is sent to it waits.
func (p *Process) Freeze() error { return p.signal(syscall.SIGSTOP) }

// Thaw lets a frozen process go on.
func (p *Process) Thaw() error { return p.signal(syscall.SIGCONT) }

// Kill ends the process without a word. It may be started again.
func (p *Process) Kill() error {
	if err := p.signal(syscall.SIGKILL); err != nil {
		return err
	}
	p.forget()
	return nil
}

// Pid is the process id, or 0 if the process does not run.
func (p *Process) Pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return 0
	}
	return p.cmd.Process.Pid
}

// Ended reports whether the process has ended, by itself or by others.
func (p *Process) Ended() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return true
	}
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// wasHurt reports whether the process was killed or frozen since the last call.
func (p *Process) wasHurt() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	hurt := p.hurt
	p.hurt = false
	return hurt
}

// forget waits for the end of the process.
func (p *Process) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd != nil {
		<-p.ended
		p.cmd = nil
	}
}

func (p *Process) signal(sig syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return fmt.Errorf("%s does not run", p.Name)
	}
	p.hurt = p.hurt || sig != syscall.SIGCONT
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signal %s: %w", p.Name, err)
	}
	return nil
}
