//go:build linux

package scionlab

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
)

// module is where the reference programs come from; go.mod pins its version.
const module = "github.com/scionproto/scion"

var toolPackages = map[string]string{
	"control":    module + "/control/cmd/control",
	"dispatcher": module + "/dispatcher/cmd/dispatcher",
	"router":     module + "/router/cmd/router",
	"scion":      module + "/scion/cmd/scion",
	"scion-pki":  module + "/scion-pki/cmd/scion-pki",
}

// ErrNoCompiler says that the control service, whose database is in C, cannot be
// built here.
var ErrNoCompiler = errors.New("no C compiler for the control service")

// Tools are the built reference programs.
type Tools struct{ dir string }

// Path is the path of one: router, control, dispatcher, scion or scion-pki.
func (t *Tools) Path(name string) string { return filepath.Join(t.dir, name) }

// Build builds the reference programs from the module in the current directory,
// or takes those that were built before from the same go.sum with the same Go.
// They are kept in $SNAPPROXY_SCIONLAB_CACHE, or else below the user's cache
// directory. Several processes may build at once: the others wait for the first.
func Build(ctx context.Context) (*Tools, error) {
	compiler, err := exec.CommandContext(ctx, "go", "env", "CC").Output()
	if err != nil {
		return nil, fmt.Errorf("ask Go for a C compiler: %w", err)
	}
	if _, err := exec.LookPath(strings.TrimSpace(string(compiler))); err != nil {
		return nil, ErrNoCompiler
	}
	cache, err := cacheDir()
	if err != nil {
		return nil, err
	}
	unlock, err := lock(filepath.Join(filepath.Dir(cache), "lock"))
	if err != nil {
		return nil, err
	}
	defer unlock()
	tools := &Tools{cache}
	if _, err := os.Stat(cache); err == nil {
		return tools, nil
	}
	next := cache + ".next"
	if err := os.RemoveAll(next); err != nil {
		return nil, err
	}
	args := []string{"build", "-trimpath", "-ldflags=-s -w", "-o", next + "/"}
	for _, path := range toolPackages {
		args = append(args, path)
	}
	if err := os.Mkdir(next, 0o755); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1", "GOFLAGS=-mod=readonly")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build the reference programs: %w\n%s", err, out)
	}
	return tools, os.Rename(next, cache)
}

// cacheDir is where the programs of this go.sum are kept.
func cacheDir() (string, error) {
	sums, err := os.ReadFile("go.sum")
	if err != nil {
		return "", fmt.Errorf("not in the directory of the module: %w", err)
	}
	of := sha256.Sum256(fmt.Appendf(sums, "%s %s", runtime.Version(), runtime.GOARCH))
	top := os.Getenv("SNAPPROXY_SCIONLAB_CACHE")
	if top == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("no directory for the reference programs: %w", err)
		}
		top = filepath.Join(user, "snapproxy", "scionlab")
	}
	return filepath.Join(top, hex.EncodeToString(of[:8])), os.MkdirAll(top, 0o755)
}

// lock holds a file until unlock is called or the process ends.
func lock(name string) (unlock func(), err error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR|syscall.O_CLOEXEC, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	return func() { f.Close() }, nil
}
