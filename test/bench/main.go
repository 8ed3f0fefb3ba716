//go:build linux

package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) == 3 && os.Args[1] == "part" {
		if err := runPart(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// A bench is one run.
type bench struct {
	ctx     context.Context
	dir     string // of files that end with the run
	program string // snapproxy, stripped
	origin  *origin
	plan    plan
	report  *Report
}

// sections are what a run is made of, in their order. The last ones run only if
// they are asked for.
var sections = []struct {
	name  string
	run   func(*bench) error
	extra bool
}{
	{"floors", (*bench).floors, false},
	{"stream", (*bench).loopbackStreams, false},
	{"connect", (*bench).connects, false},
	{"delay", (*bench).delayed, false},
	{"loss", (*bench).lossy, false},
	{"many", (*bench).manyStreams, false},
	{"idle", (*bench).idle, false},
	{"scale", (*bench).scale, false},
	{"gateway", (*bench).gateway, false},
	{"unruly", (*bench).unruly, true},
	{"narrow", (*bench).narrow, true},
	{"crowd", (*bench).crowd, true},
}

func run(args []string) error {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	quick := flags.Bool("quick", false, "two minutes instead of twelve, for a look at whether it works")
	only := flags.String("only", "", "sections to run, separated by commas: "+strings.Join(names(true), ", ")+" (default all up to "+names(false)[len(names(false))-1]+")")
	rounds := flags.Int("rounds", 0, "rounds, in which the systems take turns (default 5 and, through the shim, 3; with -quick 1)")
	tunnels := flags.String("tunnels", "", "numbers of tunnels of the SNAP, separated by commas (default 10,1000,10000)")
	jsonFile := flags.String("json", "", "file to write all values to")
	markdown := flags.String("markdown", "", "document to write the tables into, between its markers")
	from := flags.String("from", "", "JSON file of an earlier run to write the tables of, instead of a run")
	profile := flags.String("profile", "", "directory for CPU profiles of the roles, instead of the bench")
	program := flags.String("program", "", "a built snapproxy to measure (default: build it)")
	limit := flags.Duration("limit", 30*time.Minute, "time after which the run gives up")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *from != "" {
		r, err := readReport(*from)
		if err != nil {
			return err
		}
		return r.publish("", *markdown)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, *limit)
	defer cancel()

	b := &bench{ctx: ctx, plan: usual}
	if *quick {
		b.plan = quickPlan
	}
	if *rounds > 0 {
		b.plan.rounds, b.plan.slowRounds = *rounds, *rounds
	}
	if *tunnels != "" {
		var err error
		if b.plan.tunnels, err = parseNumbers(*tunnels); err != nil {
			return fmt.Errorf("-tunnels: %w", err)
		}
	}
	var err error
	if b.dir, err = os.MkdirTemp("", "snapproxy-bench-"); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	if b.program = *program; b.program == "" {
		if b.program, err = build(ctx, b.dir); err != nil {
			return err
		}
	}
	if b.origin, err = newOrigin(); err != nil {
		return err
	}
	defer b.origin.close()
	b.report = newReport(*quick)
	if *profile != "" {
		return b.profile(*profile)
	}
	wanted := names(false)
	if *only != "" {
		wanted = strings.Split(*only, ",")
	}
	for _, name := range wanted {
		if !slices.Contains(names(true), name) {
			return fmt.Errorf("-only: there is no section %q", name)
		}
	}
	for _, s := range sections {
		if !slices.Contains(wanted, s.name) {
			continue
		}
		b.report.Busy = append(b.report.Busy, b.busy())
		begin := time.Now()
		fmt.Fprintf(os.Stderr, "bench: %s… ", s.name)
		err := s.run(b)
		fmt.Fprintf(os.Stderr, "%.0f s\n", time.Since(begin).Seconds())
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			fmt.Fprintf(os.Stderr, "bench: %s: %v\n", s.name, err)
			b.report.fault(s.name, err)
		}
	}
	b.report.finish()
	return b.report.publish(*jsonFile, *markdown)
}

// names are those of the sections, with or without the extra ones.
func names(extra bool) (all []string) {
	for _, s := range sections {
		if !s.extra || extra {
			all = append(all, s.name)
		}
	}
	return all
}

// busy is the part of the cores that others use now.
func (b *bench) busy() float64 {
	before, begin := busySeconds(), time.Now()
	b.sleep(500 * time.Millisecond)
	return (busySeconds() - before) / time.Since(begin).Seconds() / float64(runtime.NumCPU())
}

// build builds snapproxy as it is released.
func build(ctx context.Context, dir string) (string, error) {
	name := filepath.Join(dir, "snapproxy")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", name, "github.com/snapproxy/snapproxy/cmd/snapproxy")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build snapproxy: %w\n%s", err, out)
	}
	return name, nil
}
