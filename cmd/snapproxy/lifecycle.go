package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

const hangup = syscall.SIGHUP

// lifecycle holds the flags of every role.
type lifecycle struct {
	readyFile    string
	readyTimeout time.Duration
	level        slog.Level
}

// addLifecycle defines the flags. If level is "", the command sets the level.
func (o *lifecycle) add(fs *pflag.FlagSet, timeout, level string) {
	addValue(fs, &o.readyFile, "ready-file", "FILE", "", "file to hold the ready line while the role is ready", parseText)
	addValue(fs, &o.readyTimeout, "ready-timeout", "DURATION", timeout, "give up if not ready by then (0: never)", parseTimeout)
	addValue(fs, &o.level, "log-level", "LEVEL", level, "debug, info, warn or error", parseLevel)
}

func parseTimeout(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("%q is no time to wait (want 30s, 2m or 0)", s)
	}
	return d, nil
}

// logger makes the logger of a role, which writes to standard error.
func (o *lifecycle) logger(cmd *cobra.Command) *slog.Logger {
	l := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: o.level}))
	warnUnknownVariables(cmd.Root(), os.Environ(), l)
	return l
}

// serve runs a role until a signal ends it. Once the role is ready it prints
// the ready line.
func (o *lifecycle) serve(cmd *cobra.Command, r role, logger *slog.Logger) error {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	if r.reload != nil {
		signal.Notify(signals, hangup)
	}
	defer signal.Stop(signals)
	file, err := newReadyFile(o.readyFile)
	if err != nil {
		return err
	}
	defer file.remove()
	u := r.start()
	err = u.await(o.readyTimeout, signals, logger)
	if err == nil {
		err = file.write(r.line(), 0o666)
	}
	if err == nil {
		_, err = fmt.Fprintln(cmd.OutOrStdout(), r.line())
	}
	for err == nil {
		select {
		case <-u.done:
			return u.err
		case sig := <-signals:
			if sig == hangup {
				r.reload()
				continue
			}
			err = signalError{sig}
		}
	}
	// From here on a second signal ends the process at once, as signals do.
	signal.Reset(os.Interrupt, syscall.SIGTERM)
	file.remove()
	var sig signalError
	if errors.As(err, &sig) {
		logger.Info("ending", "signal", sig.String())
		return u.stop()
	}
	u.stop()
	return err
}

// A readyFile holds the ready line while a role is ready. Without a name it
// does nothing.
type readyFile struct {
	name string
	info os.FileInfo // of the file that was written; nil: none
}

// newReadyFile removes what an earlier run left, so that nobody takes it for
// ours.
func newReadyFile(name string) (*readyFile, error) {
	if name == "" {
		return &readyFile{}, nil
	}
	info, err := os.Lstat(name)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return &readyFile{name: name}, nil
	case err == nil && !info.Mode().IsRegular():
		err = fmt.Errorf("%s is not a regular file (want a name of its own)", name)
	case err == nil:
		err = os.Remove(name)
	}
	if err != nil {
		return nil, &settingError{"--ready-file", err}
	}
	return &readyFile{name: name}, nil
}

// write makes the file appear whole.
func (f *readyFile) write(line string, mode os.FileMode) error {
	if f.name == "" {
		return nil
	}
	if err := f.replace(line, mode); err != nil {
		return &settingError{"--ready-file", err}
	}
	return nil
}

func (f *readyFile) replace(line string, mode os.FileMode) error {
	dir, name := filepath.Split(f.name)
	next := filepath.Join(dir, fmt.Sprintf(".%s.%d", name, os.Getpid()))
	out, err := os.OpenFile(next, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(out, line)
	info, statErr := out.Stat()
	err = errors.Join(err, statErr, out.Close())
	if err == nil {
		err = os.Rename(next, f.name)
	}
	if err != nil {
		os.Remove(next)
		return err
	}
	f.info = info
	return nil
}

// remove removes the file, unless another process has replaced it.
func (f *readyFile) remove() {
	if f.info == nil {
		return
	}
	if now, err := os.Lstat(f.name); err == nil && os.SameFile(now, f.info) {
		os.Remove(f.name)
	}
	f.info = nil
}
