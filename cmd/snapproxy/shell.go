package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"time"
)

const (
	// shellLimit is how long a command of the user's may take, and shellOutput
	// how many bytes it may print.
	shellLimit  = 30 * time.Second
	shellOutput = 64 << 10
)

var errShellOutput = fmt.Errorf("it printed more than %d bytes", shellOutput)

// shell returns what runs a command by the shell and returns its output. What
// it says on standard error goes to ours.
func shell(command string) func(ctx context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		ctx, cancel := context.WithTimeoutCause(ctx, shellLimit, fmt.Errorf("no output after %v", shellLimit))
		defer cancel()
		cmd := exec.CommandContext(ctx, "sh", "-c", command)
		if runtime.GOOS == "windows" {
			cmd = exec.CommandContext(ctx, "cmd", "/C", command)
		}
		killAll(cmd)
		var out limitedOutput
		cmd.Stdout, cmd.Stderr = &out, os.Stderr
		cmd.WaitDelay = time.Second // for children that keep the output open
		switch err := cmd.Run(); {
		case ctx.Err() != nil:
			return "", context.Cause(ctx)
		case out.full:
			return "", errShellOutput
		case err != nil:
			return "", err
		}
		return string(out.text), nil
	}
}

// A limitedOutput refuses what is beyond shellOutput.
type limitedOutput struct {
	text []byte
	full bool
}

func (o *limitedOutput) Write(b []byte) (int, error) {
	if len(o.text)+len(b) > shellOutput {
		o.full = true
		return 0, errShellOutput
	}
	o.text = append(o.text, b...)
	return len(b), nil
}
