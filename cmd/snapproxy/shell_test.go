//go:build unix

package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestShell(t *testing.T) {
	if out, err := shell("echo some.token")(t.Context()); err != nil || strings.TrimSpace(out) != "some.token" {
		t.Errorf("output %q, %v", out, err)
	}
	if _, err := shell("exit 3")(t.Context()); err == nil {
		t.Error("a command that fails is no error")
	}
	if _, err := shell("head -c 100000 /dev/zero")(t.Context()); !errors.Is(err, errShellOutput) {
		t.Errorf("too much output: %v", err)
	}
}

// What a command started ends with its time.
func TestShellLeavesNothing(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := shell("(exec 3>" + pipe + "; echo begun >&3; sleep 600) & wait")(ctx)
		done <- err
	}()
	r, err := os.Open(pipe) // until there is a writer
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := r.Read(make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-done; err == nil {
		t.Error("no error")
	}
	r.SetReadDeadline(time.Now().Add(20 * time.Second))
	if n, err := r.Read(make([]byte, 10)); n != 0 || err == nil || os.IsTimeout(err) {
		t.Errorf("the child goes on: %d, %v", n, err)
	}
}
