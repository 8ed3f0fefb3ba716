package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestTerminalsInterruptIsNotPassedOn presses the interrupt key of a terminal
// whose foreground is snapproxy and its command: the command must see one
// SIGINT, not two, and snapproxy must not count it as one that it passed on.
func TestTerminalsInterruptIsNotPassedOn(t *testing.T) {
	keyboard, terminal := openTerminal(t)
	cmd := exec.Command("snapproxy", "demo", "--", "await-signals")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = terminal, terminal, terminal
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill() })
	screen := bufio.NewScanner(keyboard)
	says := func(want string) {
		t.Helper()
		if !screen.Scan() {
			t.Fatalf("the terminal closes, want %q", want)
		}
		// The terminal echoes the key as ^C.
		if got := strings.TrimPrefix(screen.Text(), "^C"); got != want {
			t.Errorf("on the terminal %q, want %q", got, want)
		}
	}
	says("up")
	for range 2 {
		if _, err := keyboard.Write([]byte{3}); err != nil {
			t.Fatal(err)
		}
		says("interrupt")
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	says("terminated")
	cmd.Wait()
	if got := cmd.ProcessState.ExitCode(); got != 3 {
		t.Errorf("status %v, want the command's 3", cmd.ProcessState)
	}
}

// openTerminal makes a pseudo terminal.
func openTerminal(t *testing.T) (keyboard, terminal *os.File) {
	t.Helper()
	keyboard, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no pseudo terminal: ", err)
	}
	t.Cleanup(func() { keyboard.Close() })
	fd := int(keyboard.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Skip("no pseudo terminal: ", err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Skip("no pseudo terminal: ", err)
	}
	terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no pseudo terminal: ", err)
	}
	t.Cleanup(func() { terminal.Close() })
	return keyboard, terminal
}
