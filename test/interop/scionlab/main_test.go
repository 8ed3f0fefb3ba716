//go:build linux

package scionlab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	// patience is how long a test waits for what must come; it says nothing of
	// how fast it should.
	patience = 40 * time.Second
	// startPatience is how long the network may take to know its paths: seconds
	// on an idle machine.
	startPatience = 3 * time.Minute
	// flapTime is longer than routers take to notice that a neighbour was away.
	flapTime = 2 * time.Second
	// life bounds the network of a run.
	life = 30 * time.Minute
)

// workDir holds what outlives a single test.
var workDir string

// theLab is the network that all tests share, one after the other.
var theLab *Lab

func TestMain(m *testing.M) {
	var err error
	if workDir, err = os.MkdirTemp("", "scionlab-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	status := m.Run()
	if theLab != nil {
		theLab.Close()
	}
	if w, err := theWarden(); err == nil {
		w.dismiss()
	}
	os.RemoveAll(workDir)
	os.Exit(status)
}

var started = sync.OnceValues(func() (*Lab, error) {
	// Results are cached by the files that a test looks at, not by those that
	// its children do.
	filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err == nil && (strings.HasSuffix(name, ".go") || strings.HasPrefix(d.Name(), "go.")) {
			os.Stat(name)
		}
		return nil
	})
	begin := time.Now()
	tools, err := Build(context.Background())
	if err != nil {
		return nil, err
	}
	built := time.Now()
	dir := filepath.Join(workDir, "network")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), startPatience)
	defer cancel()
	theLab, err = Start(ctx, Config{Tools: tools, Dir: dir, Life: life})
	fmt.Fprintf(os.Stderr, "reference programs at hand after %.1f s, paths %.1f s later\n", built.Sub(begin).Seconds(), time.Since(built).Seconds())
	return theLab, err
})

// theWarden watches the roles of all tests.
var theWarden = sync.OnceValues(newWarden)

// lab is the network. At the end of the test all of it runs again, whatever the
// test has done to it.
func lab(t *testing.T) *Lab {
	t.Helper()
	l, err := started()
	if errors.Is(err, ErrNoCompiler) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { repair(t, l) })
	return l
}

// repair starts what was killed and thaws what was frozen, and waits until
// packets pass on all ways between the leaves.
func repair(t *testing.T, l *Lab) {
	t.Helper()
	hurt := false
	for _, p := range l.Processes() {
		hurt = p.wasHurt() || hurt
		switch {
		case p.Pid() == 0:
			if err := p.Start(); err != nil {
				t.Error(err)
			}
		case p.Ended():
			t.Errorf("%s has ended by itself", p.Name)
		default:
			p.Thaw()
		}
	}
	if !hurt {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), startPatience)
	defer cancel()
	if err := l.AwaitPaths(ctx); err != nil {
		t.Error(err)
	}
	// A router that is back finds its neighbours up until they notice that it
	// was away, so a look is not enough.
	const looks = 8
	for range looks {
		awaitAlive(t, l, allWays...)
		<-time.After(flapTime / looks)
	}
}

// root is the directory of the main module.
const root = "../../.."

// snapproxy is the built program.
func snapproxy(t *testing.T) string {
	t.Helper()
	name, err := builtProgram()
	if err != nil {
		t.Fatal(err)
	}
	return name
}

var builtProgram = sync.OnceValues(func() (string, error) {
	name := filepath.Join(workDir, "snapproxy")
	cmd := exec.Command("go", "build", "-o", name, "./cmd/snapproxy")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the program: %w\n%s", err, out)
	}
	return name, nil
})

// eventually polls until ok or until patience is at its end.
func eventually(ok func() bool) bool {
	deadline := time.Now().Add(patience)
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
