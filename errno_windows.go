package snapproxy

import (
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/windows"
)

// winsock names the Winsock errors by the error numbers that the packages here
// agree on.
var winsock = map[error]syscall.Errno{
	windows.WSAECONNREFUSED: syscall.ECONNREFUSED,
	windows.WSAEHOSTUNREACH: syscall.EHOSTUNREACH,
	windows.WSAENETUNREACH:  syscall.ENETUNREACH,
	windows.WSAETIMEDOUT:    syscall.ETIMEDOUT,
	windows.WSAEACCES:       syscall.EACCES,
}

// portable returns err such that errors.Is finds the error numbers that the
// packages here agree on.
func portable(err error) error {
	for from, to := range winsock {
		if errors.Is(err, from) {
			return fmt.Errorf("%w: %w", err, to)
		}
	}
	return err
}
