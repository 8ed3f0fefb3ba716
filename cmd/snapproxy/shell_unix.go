//go:build unix

package main

import (
	"os/exec"
	"syscall"
)

// killAll makes the end of a command's time the end of all that it started.
func killAll(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}
