//go:build interop && linux

package pocketscion

import (
	"errors"
	"flag"
	"fmt"
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
	// endPatience is how long a process may take to end.
	endPatience = 15 * time.Second
)

// transferTime is how long the transfers last. The default outlives a token and
// the keys of a session, which are refused after 180 s.
var transferTime = 200 * time.Second

var workDir string

func TestMain(m *testing.M) {
	if text := os.Getenv("INTEROP_LONG"); text != "" {
		d, err := time.ParseDuration(text)
		if err != nil {
			fmt.Fprintf(os.Stderr, "INTEROP_LONG: %v\n", err)
			os.Exit(2)
		}
		transferTime = d
	}
	var err error
	if workDir, err = os.MkdirTemp("", "snapproxy-interop-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	// Most tests wait for others most of the time. A -parallel on the command
	// line wins.
	flag.Set("test.parallel", "6")
	status := m.Run()
	os.RemoveAll(workDir)
	os.Exit(status)
}

// peers is the program of the Rust peers. It skips the test on a machine that
// cannot build it.
func peers(t *testing.T) string {
	t.Helper()
	name, err := builtPeers()
	var missing *missingError
	if errors.As(err, &missing) {
		t.Skip(missing)
	}
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// A missingError says which tool a machine lacks.
type missingError struct{ what string }

func (e *missingError) Error() string { return e.what }

var builtPeers = sync.OnceValues(func() (string, error) {
	cmd := exec.Command("./build")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	text := strings.TrimSpace(string(out))
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 77 {
		return "", &missingError{text}
	}
	if err != nil {
		return "", fmt.Errorf("build the peers: %w", err)
	}
	return text, nil
})

// program is snapproxy.
func program(t *testing.T) string {
	t.Helper()
	name, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return name
}

var built = sync.OnceValues(func() (string, error) {
	name := filepath.Join(workDir, "snapproxy")
	cmd := exec.Command("go", "build", "-o", name, "../../../cmd/snapproxy")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the program: %w\n%s", err, out)
	}
	return name, nil
})
