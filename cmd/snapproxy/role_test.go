package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// idle is a role that is never ready.
func idle() role {
	return role{
		run:    func(ctx context.Context) error { <-ctx.Done(); return nil },
		ready:  make(chan struct{}),
		silent: func() string { return "the SNAP is asleep" },
	}
}

func TestAwaitSaysWhoIsSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		begin := time.Now()
		u := idle().start()
		err := u.await(30*time.Second, nil, slog.New(slog.NewTextHandler(&log, nil)))
		if err == nil || err.Error() != "not ready after 30s: the SNAP is asleep" {
			t.Errorf("await: %v", err)
		}
		if took := time.Since(begin); took != 30*time.Second {
			t.Errorf("gives up after %v", took)
		}
		if !strings.Contains(log.String(), `level=WARN msg="not ready" reason="the SNAP is asleep"`) {
			t.Errorf("says nothing before: %q", &log)
		}
		if err := u.stop(); err != nil {
			t.Error(err)
		}
	})
}

func TestAwaitEndsWith(t *testing.T) {
	broken := errors.New("broken")
	signals := make(chan os.Signal, 1)
	signals <- syscall.SIGTERM
	for _, tt := range []struct {
		name    string
		run     error // nil: runs on
		signals <-chan os.Signal
		want    error
	}{
		{"the role's error", broken, nil, broken},
		{"a signal", nil, signals, signalError{syscall.SIGTERM}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := idle()
			if tt.run != nil {
				r.run = func(context.Context) error { return tt.run }
			}
			u := r.start()
			if err := u.await(0, tt.signals, slog.New(slog.DiscardHandler)); err != tt.want {
				t.Errorf("await: %v, want %v", err, tt.want)
			}
			u.stop()
		})
	}
}

func TestHangupWhileNotReadyReloads(t *testing.T) {
	signals := make(chan os.Signal, 2)
	signals <- hangup
	signals <- os.Interrupt
	reloads := 0
	r := idle()
	r.reload = func() { reloads++ }
	u := r.start()
	defer u.stop()
	if err := u.await(0, signals, slog.New(slog.DiscardHandler)); err != (signalError{os.Interrupt}) {
		t.Errorf("await: %v", err)
	}
	if reloads != 1 {
		t.Errorf("%d reloads", reloads)
	}
}

func TestTogetherEndsAllWithTheFirstError(t *testing.T) {
	first := errors.New("first")
	ended := false
	err := together(t.Context(),
		func(ctx context.Context) error { <-ctx.Done(); ended = true; return errors.New("second") },
		func(context.Context) error { return nil },
		func(context.Context) error { return first })
	if err != first || !ended {
		t.Errorf("together: %v, others ended: %v", err, ended)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := together(ctx, func(ctx context.Context) error { <-ctx.Done(); return nil }); err != nil {
		t.Errorf("together with nothing wrong: %v", err)
	}
}

func TestReadyFile(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "ready")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("of an earlier run")
	f, err := newReadyFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(name); err == nil {
		t.Error("what an earlier run left is still there")
	}
	if err := f.write("line", 0o600); err != nil {
		t.Fatal(err)
	}
	holds(t, name, "line")
	f.remove()
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left: %v", left)
	}

	// A file that somebody else has put there meanwhile is not ours to remove.
	if err := f.write("line", 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(name, name+".old"); err != nil {
		t.Fatal(err)
	}
	write("another's\n")
	f.remove()
	holds(t, name, "another's")

	for _, bad := range []string{dir, filepath.Join(dir, "nowhere", "ready")} {
		f, err := newReadyFile(bad)
		if err == nil {
			err = f.write("line", 0o600)
		}
		if s := (*settingError)(nil); !errors.As(err, &s) || s.Setting != "--ready-file" {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestOutcome(t *testing.T) {
	usage := &usageError{errors.New("no")}
	for _, tt := range []struct {
		err    error
		status int
		line   string
	}{
		{nil, 0, ""},
		{errors.New("no"), 1, "snapproxy: no"},
		{usage, 2, "snapproxy: no"},
		{noTunnel(usage), 2, "snapproxy: no"},
		{noTunnel(errors.New("no")), 125, "snapproxy: no"},
		{&statusError{7, nil}, 7, ""},
		{errors.New("one\ntwo\r\nthree\n"), 1, "snapproxy: one; two; three"},
	} {
		if status, line := outcome(tt.err); status != tt.status || line != tt.line {
			t.Errorf("outcome(%v) = %d, %q, want %d, %q", tt.err, status, line, tt.status, tt.line)
		}
	}
}

// What is below ends after what stands on it, and takes it along if it breaks.
func TestStackedEndsFromAbove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var upperEnded, lowerEnded time.Duration
		begin := time.Now()
		lower := func(ctx context.Context) error { <-ctx.Done(); lowerEnded = time.Since(begin); return nil }
		upper := func(ctx context.Context) error {
			<-ctx.Done()
			time.Sleep(time.Second) // says goodbye
			upperEnded = time.Since(begin)
			return nil
		}
		time.AfterFunc(time.Minute, cancel)
		if err := stacked(lower, upper)(ctx); err != nil {
			t.Error(err)
		}
		if want := time.Minute + time.Second; upperEnded != want || lowerEnded != want {
			t.Errorf("the upper ends after %v, the lower after %v, want %v", upperEnded, lowerEnded, want)
		}
		broken := errors.New("broken")
		if err := stacked(func(context.Context) error { return broken }, upper)(t.Context()); err != broken {
			t.Errorf("the lower breaks: %v", err)
		}
		if err := stacked(lower, func(context.Context) error { return broken })(t.Context()); err != broken {
			t.Errorf("the upper breaks: %v", err)
		}
	})
}
