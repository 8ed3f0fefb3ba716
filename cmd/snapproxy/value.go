package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/snapproxy/snapproxy/scion"
	"github.com/snapproxy/snapproxy/tunnel/snaptun"
)

// A value is a flag that parse reads into to.
type value[T any] struct {
	kind  string // what the help and the complaint of a missing flag call it
	parse func(string) (T, error)
	to    *T
	text  string
}

func (v *value[T]) Type() string   { return v.kind }
func (v *value[T]) String() string { return v.text }

// Set is called by pflag for each time the flag is given.
func (v *value[T]) Set(text string) error {
	t, err := v.parse(text)
	if err != nil {
		return err
	}
	*v.to, v.text = t, text
	return nil
}

// A list is a flag that may be given several times.
type list[T any] struct {
	kind  string
	parse func(string) (T, error)
	to    *[]T
	texts []string
}

func (l *list[T]) Type() string   { return l.kind }
func (l *list[T]) String() string { return strings.Join(l.texts, " ") }
func (l *list[T]) repeatable()    {}

// Set is called by pflag for each time the flag is given.
func (l *list[T]) Set(text string) error {
	t, err := l.parse(text)
	if err != nil {
		return err
	}
	*l.to, l.texts = append(*l.to, t), append(l.texts, text)
	return nil
}

// addValue defines a flag. It panics if preset, its default, does not parse.
func addValue[T any](fs *pflag.FlagSet, to *T, name, kind, preset, usage string, parse func(string) (T, error)) {
	v := &value[T]{kind: kind, parse: parse, to: to}
	if preset != "" {
		if err := v.Set(preset); err != nil {
			panic(err)
		}
	}
	fs.Var(v, name, usage)
}

// addList defines a flag that may be given several times.
func addList[T any](fs *pflag.FlagSet, to *[]T, name, kind, usage string, parse func(string) (T, error)) {
	fs.Var(&list[T]{kind: kind, parse: parse, to: to}, name, usage)
}

func parseAddr(s string) (scion.Addr, error) {
	if !strings.Contains(s, ",") {
		return scion.Addr{}, errors.New("missing ISD-AS (want 1-ff00:0:110,10.0.0.1:8000)")
	}
	return scion.ParseAddr(s)
}

func parseIA(s string) (scion.IA, error) {
	ia, err := scion.ParseIA(s)
	if err == nil && ia.IsWildcard() {
		err = fmt.Errorf("%v is a wildcard (want one like 1-ff00:0:110)", ia)
	}
	return ia, err
}

func parsePublicKey(s string) (snaptun.PublicKey, error) {
	k, err := snaptun.ParsePublicKey(s)
	if err != nil {
		return k, fmt.Errorf("%w (want 44 characters of base64, as snapproxy pubkey prints them)", err)
	}
	return k, nil
}

func parseLevel(s string) (slog.Level, error) {
	switch strings.ToLower(s) {
	case "debug":
		return slog.LevelDebug, nil
	case "info":
		return slog.LevelInfo, nil
	case "warn":
		return slog.LevelWarn, nil
	case "error":
		return slog.LevelError, nil
	}
	return 0, fmt.Errorf("unknown level %q (want debug, info, warn or error)", s)
}

func parsePrefix(s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		return p, fmt.Errorf("%q is no range (want 192.0.2.0/24 or 2001:db8::/32)", s)
	case p != p.Masked():
		return p, fmt.Errorf("%v has host bits (want %v)", p, p.Masked())
	}
	return p, nil
}

func parseAddrPort(s string) (netip.AddrPort, error) {
	a, err := netip.ParseAddrPort(s)
	if err != nil {
		return a, fmt.Errorf("%q is no address with a port (want 192.0.2.1:31000 or [2001:db8::1]:31000)", s)
	}
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()), nil
}

func parseIP(s string) (netip.Addr, error) {
	ip, err := netip.ParseAddr(s)
	if err != nil || ip.Zone() != "" {
		return ip, fmt.Errorf("%q is no address (want 192.0.2.1 or 2001:db8::1)", s)
	}
	return ip.Unmap(), nil
}

func parseURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, errors.New("no URL (want https://HOST/PATH)")
	}
	return u, nil
}

// parseHostPort reads HOST:PORT, where host may be a name.
func parseHostPort(s string) (string, error) {
	host, port, err := net.SplitHostPort(s)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil || host == "" {
		return "", fmt.Errorf("%q is no host with a port (want snap.example.org:30041)", s)
	}
	return s, nil
}

func parseLimit(s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 31)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%q is no limit (want a number of handshakes a second)", s)
	}
	return int(n), nil
}
