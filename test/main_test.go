//go:build unix

package test

import (
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// The tests of this package besides those of the tree run the built program as
// processes of their own, on loopback, with ports that the kernel chooses.

// workDir holds what outlives a single test. Everybody may look into it: some
// processes run as nobody.
var workDir string

func TestMain(m *testing.M) {
	var err error
	if workDir, err = os.MkdirTemp("", "snapproxy-test-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Chmod(workDir, 0o755)
	// Most tests wait for others most of the time, so that more of them than
	// there are cores can run at once. A -parallel on the command line wins.
	flag.Set("test.parallel", "12")
	status := m.Run()
	if !wholeRun.end() {
		status = 1
	}
	if watch, err := theWarden(); err == nil {
		watch.dismiss()
	}
	os.RemoveAll(workDir)
	os.Exit(status)
}

// built builds the program when it is first needed.
var built = sync.OnceValues(func() (string, error) {
	// Results are cached by the files that a test looks at, not by those that
	// its children do.
	filepath.WalkDir("..", func(name string, d fs.DirEntry, err error) error {
		if err == nil && (strings.HasSuffix(name, ".go") || strings.HasPrefix(d.Name(), "go.")) {
			os.Stat(name)
		}
		return nil
	})
	name := filepath.Join(workDir, "snapproxy")
	cmd := exec.Command("go", "build", "-o", name, "../cmd/snapproxy")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the program: %w\n%s", err, out)
	}
	return name, nil
})

func program(s scope) string {
	s.Helper()
	name, err := built()
	if err != nil {
		s.Fatalf("%v", err)
	}
	return name
}

// A scope is what a process lives in: a test, or the whole run.
type scope interface {
	Helper()
	Logf(format string, args ...any)
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
	Cleanup(func())
}

var (
	_ scope = (*testing.T)(nil)
	_ scope = (*run)(nil)
)

// wholeRun is the scope of what several tests share.
var wholeRun run

type run struct {
	mu       sync.Mutex // guards what follows
	cleanups []func()
	failed   bool
}

func (r *run) Helper() {}

func (r *run) Logf(format string, args ...any) {
	fmt.Fprintln(os.Stderr, strings.TrimRight(fmt.Sprintf(format, args...), "\n"))
}

func (r *run) Errorf(format string, args ...any) {
	r.mu.Lock()
	r.failed = true
	r.mu.Unlock()
	r.Logf(format, args...)
}

func (r *run) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }

func (r *run) Failed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failed
}

func (r *run) Cleanup(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cleanups = append(r.cleanups, f)
}

// end ends what was shared; it reports whether that ended well.
func (r *run) end() bool {
	r.mu.Lock()
	cleanups := r.cleanups
	r.cleanups = nil
	r.mu.Unlock()
	for i := len(cleanups) - 1; i >= 0; i-- {
		cleanups[i]()
	}
	return !r.Failed()
}

// shared is a topology that many tests use at once. Its exit may reach loopback
// and an address to which there is never a route.
func shared(t *testing.T) *topology {
	t.Helper()
	defer func() {
		if r := recover(); r != nil {
			t.Fatalf("start what the tests share: %v", r)
		}
	}()
	return sharedTopology()
}

var sharedTopology = sync.OnceValue(func() *topology {
	return build(&wholeRun, layout{exit: []string{"--allow", noRoute + "/32"}})
})

// noRoute is an address that connect(2) refuses with ENETUNREACH, whatever
// routes there are: it is for broadcasts.
const noRoute = "255.255.255.255"
