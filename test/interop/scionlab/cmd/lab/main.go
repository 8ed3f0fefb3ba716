//go:build linux

// Lab runs the network of package scionlab by hand. From the directory of its
// module:
//
//	go run ./cmd/lab up [-dir DIR] [-life 1h] [-short]
//	go run ./cmd/lab do [-dir DIR] kill|freeze|thaw|start|await [PROCESS]
//
// Up builds what is missing, starts the network, tells where everything is (also
// in DIR/env, for a shell) and keeps it until it is interrupted.
package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/snapproxy/snapproxy/test/interop/scionlab"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "lab:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("want up or do")
	}
	flags := flag.NewFlagSet(args[0], flag.ExitOnError)
	dir := flags.String("dir", filepath.Join(os.TempDir(), fmt.Sprintf("scionlab-%d", os.Getuid())), "directory of the network, made by up and removed afterwards")
	life := flags.Duration("life", time.Hour, "end of the network if nothing ends it before")
	short := flags.Bool("short", false, "paths that expire after 337 seconds")
	flags.Parse(args[1:])
	switch args[0] {
	case "up":
		return up(*dir, *life, *short)
	case "do":
		return do(*dir, strings.Join(flags.Args(), " "))
	}
	return fmt.Errorf("unknown verb %q", args[0])
}

func up(dir string, life time.Duration, short bool) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, life)
	defer cancel()
	if err := os.Mkdir(dir, 0o755); err != nil {
		return fmt.Errorf("%w (another network? name another with -dir, or remove what is left of one)", err)
	}
	defer os.RemoveAll(dir)
	fmt.Fprintln(os.Stderr, "building, which takes minutes the first time")
	tools, err := scionlab.Build(ctx)
	if err != nil {
		return err
	}
	begin := time.Now()
	lab, err := scionlab.Start(ctx, scionlab.Config{Tools: tools, Dir: dir, Life: life, Short: short})
	if err != nil {
		return err
	}
	defer lab.Close()
	fmt.Fprintf(os.Stderr, "all paths are there after %.1f s\n", time.Since(begin).Seconds())
	text := describe(lab)
	if err := os.WriteFile(filepath.Join(dir, "env"), []byte(text), 0o644); err != nil {
		return err
	}
	fmt.Print(text)
	return serve(ctx, lab)
}

// describe tells where things are, in words of a shell.
func describe(lab *scionlab.Lab) string {
	var b strings.Builder
	fmt.Fprintf(&b, "LAB=%s\nSCION=%s\n", lab.Dir, lab.Tools.Path("scion"))
	for _, as := range lab.ASes {
		n := as.IA[strings.LastIndexByte(as.IA, ':')+1:]
		fmt.Fprintf(&b, "DIR_%s=%s TOPOLOGY_%[1]s=%[3]s HOST_%[1]s=%[4]s HOSTS_%[1]s=%[5]s CS_%[1]s=%[6]s ECHO_%[1]s=%[7]s\n",
			n, as.Dir, as.Topology(), as.Host(scionlab.FirstHost), as.Prefix(), as.ControlService(), as.Echo())
	}
	b.WriteString("PROCESSES='")
	for _, p := range lab.Processes() {
		fmt.Fprintf(&b, " %s:%d", p.Name, p.Pid())
	}
	b.WriteString("'\n")
	return b.String()
}

// serve obeys do until ctx ends.
func serve(ctx context.Context, lab *scionlab.Lab) error {
	ln, err := net.Listen("unix", socket(lab.Dir))
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { ln.Close() })()
	for {
		c, err := ln.Accept()
		if err != nil {
			return nil
		}
		c.SetDeadline(time.Now().Add(time.Minute))
		line, _ := bufio.NewReader(c).ReadString('\n')
		if err := obey(ctx, lab, strings.Fields(line)); err != nil {
			fmt.Fprintln(c, err)
		}
		c.Close()
	}
}

func obey(ctx context.Context, lab *scionlab.Lab, words []string) error {
	if len(words) == 1 && words[0] == "await" {
		ctx, cancel := context.WithTimeout(ctx, 50*time.Second)
		defer cancel()
		return lab.AwaitPaths(ctx)
	}
	if len(words) != 2 || lab.Process(words[1]) == nil {
		return fmt.Errorf("want kill, freeze, thaw or start with the name of a process, or await")
	}
	p := lab.Process(words[1])
	switch words[0] {
	case "kill":
		return p.Kill()
	case "freeze":
		return p.Freeze()
	case "thaw":
		return p.Thaw()
	case "start":
		return p.Start()
	}
	return fmt.Errorf("unknown verb %q", words[0])
}

func do(dir, line string) error {
	c, err := net.Dial("unix", socket(dir))
	if err != nil {
		return err
	}
	defer c.Close()
	fmt.Fprintln(c, line)
	answer, err := io.ReadAll(c)
	if err == nil && len(answer) > 0 {
		err = fmt.Errorf("%s", strings.TrimSpace(string(answer)))
	}
	return err
}

func socket(dir string) string { return filepath.Join(dir, "control") }
