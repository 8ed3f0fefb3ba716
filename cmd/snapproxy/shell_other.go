//go:build !unix

package main

import "os/exec"

// killAll leaves it at killing the command itself.
func killAll(*exec.Cmd) {}
