package main

import (
	"errors"
	"fmt"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Exit statuses besides that of a command that was run.
const (
	statusFailed      = 1
	statusUsage       = 2
	statusNoTunnel    = 125
	statusCannotRun   = 126
	statusNotFound    = 127
	statusSignalFirst = 128 // + the signal's number
)

// A settingError is what is wrong with one setting: a flag, as the user wrote
// it, or its environment twin.
type settingError struct {
	Setting string
	Err     error
}

func (e *settingError) Error() string { return e.Setting + ": " + e.Err.Error() }
func (e *settingError) Unwrap() error { return e.Err }

// A usageError is a call that no run could satisfy.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// A statusError ends the process with a status of its own. Without err there
// is nothing to say.
type statusError struct {
	status int
	err    error
}

func (e *statusError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("status %d", e.status)
	}
	return e.err.Error()
}
func (e *statusError) Unwrap() error { return e.err }

// outcome is the exit status of a run that returned err and the line to say
// about it, or "".
func outcome(err error) (status int, line string) {
	if err == nil {
		return 0, ""
	}
	var s *statusError
	var u *usageError
	switch {
	case errors.As(err, &u):
		status = statusUsage
	case errors.As(err, &s):
		status = s.status
		if s.err == nil {
			return status, ""
		}
	default:
		status = statusFailed
	}
	// One line, whatever a library put into its message.
	return status, "snapproxy: " + strings.Join(strings.FieldsFunc(err.Error(), isLineBreak), "; ")
}

func isLineBreak(r rune) bool { return r == '\n' || r == '\r' }

// flagError words what pflag found.
func flagError(cmd *cobra.Command, err error) error {
	var value *pflag.InvalidValueError
	if errors.As(err, &value) {
		return &usageError{&settingError{"--" + value.GetFlag().Name, value.Unwrap()}}
	}
	return &usageError{fmt.Errorf("%w (see %s --help)", err, cmd.CommandPath())}
}

// missing is a required flag that was not given.
func missing(f *pflag.Flag) error {
	err := fmt.Errorf("missing (want %s, or %s in the environment)", f.Value.Type(), variable(f.Name))
	return &usageError{&settingError{"--" + f.Name, err}}
}

// bindError says how to mend an address that cannot be bound.
func bindError(setting string, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		err = fmt.Errorf("%w (end the program that has it, or choose another port; 0 takes a free one)", err)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		err = fmt.Errorf("%w (want an address of this machine)", err)
	case errors.Is(err, syscall.EACCES):
		err = fmt.Errorf("%w (ports below 1024 are privileged: choose another)", err)
	}
	return &settingError{setting, err}
}
