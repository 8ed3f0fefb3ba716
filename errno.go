//go:build !windows

package snapproxy

// portable returns err such that errors.Is finds the error numbers that the
// packages here agree on. Outside Windows it does so anyway.
func portable(err error) error { return err }
