package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"runtime"

	"github.com/spf13/pflag"

	"github.com/snapproxy/snapproxy/tunnel/snaptun"
)

const (
	// standardInput is the --key that reads standard input.
	standardInput = "-"
	// maxKeyFile bounds what is read of a key: 44 characters and some space.
	maxKeyFile = 4096
)

func addKey(fs *pflag.FlagSet, to *string, usage string) {
	addValue(fs, to, "key", "FILE", "", usage, parseText)
}

func parseText(s string) (string, error) {
	if s == "" {
		return "", errors.New("empty")
	}
	return s, nil
}

// privateKey reads the key that --key or SNAPPROXY_PRIVATE_KEY gives. Without
// either it returns the zero key. stdin is what --key - reads; if it is nil,
// standard input belongs to somebody else.
func privateKey(fs *pflag.FlagSet, stdin io.Reader, logger *slog.Logger) (snaptun.PrivateKey, error) {
	var none snaptun.PrivateKey
	f := fs.Lookup("key")
	name := f.Value.String()
	text := os.Getenv(privateKeyVariable)
	switch {
	case text != "" && f.Annotations[fromVariable] != nil:
		return none, &usageError{&settingError{privateKeyVariable, errors.New("set together with " + given(f) + " (want one of them)")}}
	case text != "" && !f.Changed:
		return parsePrivateKey(privateKeyVariable, []byte(text))
	case !f.Changed:
		return none, nil
	case name == standardInput && stdin == nil:
		return none, &usageError{&settingError{given(f), errors.New("standard input belongs to the command that is run (want a file, or " + privateKeyVariable + ")")}}
	case name == standardInput:
		b, err := io.ReadAll(io.LimitReader(stdin, maxKeyFile))
		if err != nil {
			return none, &settingError{given(f), err}
		}
		return parsePrivateKey("standard input", b)
	}
	b, err := readSecret(name, logger)
	if err != nil {
		return none, &settingError{given(f), err}
	}
	return parsePrivateKey(name, b)
}

// clientKey is privateKey, or a fresh key for this run.
func clientKey(fs *pflag.FlagSet, stdin io.Reader, logger *slog.Logger) (snaptun.PrivateKey, error) {
	k, err := privateKey(fs, stdin, logger)
	if err != nil || k != (snaptun.PrivateKey{}) {
		return k, err
	}
	if k, err = snaptun.NewPrivateKey(); err == nil {
		logger.Info("no --key: made one for this run", "public_key", k.PublicKey())
	}
	return k, err
}

// requiredPrivateKey is privateKey for roles that others know by their key.
func requiredPrivateKey(fs *pflag.FlagSet, stdin io.Reader, logger *slog.Logger) (snaptun.PrivateKey, error) {
	k, err := privateKey(fs, stdin, logger)
	if err == nil && k == (snaptun.PrivateKey{}) {
		err = &usageError{&settingError{"--key", errors.New("missing (make one with: snapproxy keygen -o FILE)")}}
	}
	return k, err
}

// parsePrivateKey never repeats its input: it may be a key with one letter
// too many.
func parsePrivateKey(origin string, b []byte) (snaptun.PrivateKey, error) {
	k, err := snaptun.ParsePrivateKey(string(b))
	if err != nil {
		err = &settingError{origin, errors.New("no private key (want 44 characters of base64, as snapproxy keygen and wg genkey make them)")}
	}
	return k, err
}

// readSecret reads a short file that only its owner should read.
func readSecret(name string, logger *slog.Logger) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := checkMode(f, logger); err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, maxKeyFile))
	return b, err
}

// checkMode refuses a file that others can write and warns of one that they
// can read: Kubernetes mounts secrets so.
func checkMode(f *os.File, logger *slog.Logger) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.IsDir() {
		return &fs.PathError{Op: "read", Path: f.Name(), Err: errors.New("is a directory")}
	}
	if runtime.GOOS == "windows" || !info.Mode().IsRegular() {
		return nil
	}
	mode := info.Mode().Perm()
	if mode&0o022 != 0 {
		return fmt.Errorf("%s: others can write it, mode %04o (mend with: chmod 600 %s)", f.Name(), mode, f.Name())
	}
	if mode&0o044 != 0 {
		logger.Warn("file with a secret is readable by others", "file", f.Name(), "mode", fmt.Sprintf("%04o", mode), "mend", "chmod 600 "+f.Name())
	}
	return nil
}
