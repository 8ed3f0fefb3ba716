//go:build unix

package main

import (
	"os"

	"golang.org/x/sys/unix"
)

// sentByTerminal reports whether a SIGINT or SIGQUIT that just came was the
// terminal's, which sends it to all of the foreground process group and so to
// the command too. Nothing tells who sent a signal; but being in the foreground
// of a terminal, somebody at its keyboard is by far the likeliest. In a pipeline
// of a CI job or in the background it was sent to us alone.
func sentByTerminal() bool {
	tty, err := os.Open("/dev/tty")
	if err != nil {
		return false
	}
	defer tty.Close()
	foreground, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP)
	return err == nil && foreground == unix.Getpgrp()
}
