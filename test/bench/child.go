//go:build linux

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// readyPatience is how long a process may take until it is ready.
	readyPatience = 30 * time.Second
	// endPatience is how long it may take to end after SIGTERM.
	endPatience = 5 * time.Second
)

// A child is a process that we started. It does not outlive us.
type child struct {
	name    string
	cmd     *exec.Cmd
	stdin   io.WriteCloser
	line    string        // what it wrote when it was ready
	startup time.Duration // from its start to its ready line
	stderr  tailWriter
	last    tailWriter // what else it wrote to standard output
	ended   chan struct{}
	once    sync.Once
}

// starter runs functions in a thread that never ends: a child is killed when
// the thread that started it does.
var starter = func() chan<- func() {
	calls := make(chan func())
	go func() {
		runtime.LockOSThread()
		for f := range calls {
			f()
		}
	}()
	return calls
}()

// launch starts a program, gives it what is to be read, and waits for the first
// line it writes.
func launch(name string, input []byte, argv ...string) (*child, error) {
	c := &child{name: name, cmd: exec.Command(argv[0], argv[1:]...), ended: make(chan struct{})}
	c.cmd.Env = environ()
	c.cmd.Stderr = &c.stderr
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	var err error
	if c.stdin, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, out, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer out.Close()
	c.cmd.Stdout = out
	begin := time.Now()
	started := make(chan error)
	starter <- func() { started <- c.cmd.Start() }
	if err := <-started; err != nil {
		stdout.Close()
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	lines, drained := make(chan string, 1), make(chan struct{})
	go func() {
		defer stdout.Close()
		r := bufio.NewReader(stdout)
		if line, err := r.ReadString('\n'); err == nil {
			lines <- strings.TrimSuffix(line, "\n")
		}
		io.Copy(&c.last, r)
		close(drained)
	}()
	go func() {
		c.cmd.Wait() // the outcome is in ProcessState
		<-drained
		close(c.ended)
	}()
	if len(input) > 0 {
		if _, err := c.stdin.Write(append(input, '\n')); err != nil {
			c.end()
			return nil, fmt.Errorf("start %s: %w", name, err)
		}
	}
	patience := time.NewTimer(readyPatience)
	defer patience.Stop()
	select {
	case c.line = <-lines:
		c.startup = time.Since(begin)
		return c, nil
	case <-c.ended:
		return nil, fmt.Errorf("%s ends before it is ready: %s", name, &c.stderr)
	case <-patience.C:
		c.end()
		return nil, fmt.Errorf("%s is not ready after %v: %s", name, readyPatience, &c.stderr)
	}
}

// launchPart starts a part of this program as a process of its own and decodes
// its ready line into ready.
func launchPart(name, part string, config, ready any) (*child, error) {
	input, err := json.Marshal(config)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c, err := launch(name, input, self, "part", part)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal([]byte(c.line), ready); err != nil {
		c.end()
		return nil, fmt.Errorf("ready line of %s: %w", name, err)
	}
	return c, nil
}

func (c *child) pid() int { return c.cmd.Process.Pid }

// end ends the process and waits for that.
func (c *child) end() {
	c.once.Do(func() {
		c.stdin.Close()
		c.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-c.ended:
			return
		case <-time.After(endPatience):
		}
		c.cmd.Process.Kill()
		<-c.ended
	})
}

// allocations are what a part of this program says that it allocated, once it
// has ended.
func (c *child) allocations() (a allocations, err error) {
	if err := json.Unmarshal([]byte(c.last.String()), &a); err != nil {
		return a, fmt.Errorf("last line of %s: %w: %s", c.name, err, &c.stderr)
	}
	return a, nil
}

// alive is an error if the process has ended.
func (c *child) alive() error {
	select {
	case <-c.ended:
		return fmt.Errorf("%s has ended: %v: %s", c.name, c.cmd.ProcessState, &c.stderr)
	default:
		return nil
	}
}

// environ is the environment of children: without proxies, and without what
// would set flags of the roles.
func environ() []string {
	var env []string
	for _, entry := range os.Environ() {
		name, _, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, "SNAPPROXY_") && !strings.HasSuffix(strings.ToUpper(name), "_PROXY") {
			env = append(env, entry)
		}
	}
	return env
}

// A tailWriter keeps the last of what is written to it.
type tailWriter struct {
	mu  sync.Mutex // guards what follows
	buf bytes.Buffer
}

func (w *tailWriter) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.buf.Write(b)
	if over := w.buf.Len() - 4096; over > 0 {
		w.buf.Next(over)
	}
	return len(b), nil
}

func (w *tailWriter) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.TrimSpace(w.buf.String())
}

// parts are what this program is besides the bench: a peer, a shim, a load, each
// in a process of its own. A part reads its configuration, calls ready once, and
// ends when done is closed.
var parts = map[string]func(config json.RawMessage, ready func(any), done <-chan struct{}) error{}

// allocations are what a part has allocated since it was ready.
type allocations struct {
	Objects, Bytes uint64
}

func allocated() allocations {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return allocations{m.Mallocs, m.TotalAlloc}
}

// runPart is the main function of a part. It ends when its standard input does,
// so that it does not outlive who started it, and then tells what it allocated.
func runPart(name string) error {
	part, ok := parts[name]
	if !ok {
		return fmt.Errorf("there is no part %q", name)
	}
	signal.Ignore(syscall.SIGTERM)
	in := bufio.NewReader(os.Stdin)
	line, err := in.ReadBytes('\n')
	if err != nil {
		return errors.New("a part is for the bench to start")
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		io.Copy(io.Discard, in)
	}()
	say := func(v any) {
		b, err := json.Marshal(v)
		if err != nil {
			panic(err)
		}
		os.Stdout.Write(append(b, '\n'))
	}
	var before allocations
	err = part(line, func(v any) {
		before = allocated()
		say(v)
	}, done)
	after := allocated()
	say(allocations{after.Objects - before.Objects, after.Bytes - before.Bytes})
	return err
}
