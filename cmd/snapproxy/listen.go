package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
)

// A listenAddr is where a listener of the client is bound. The zero one is off.
type listenAddr struct {
	hostPort string
}

const off = "off"

// parseListenAddr reads PORT, which means loopback, HOST:PORT, or off.
func parseListenAddr(s string) (listenAddr, error) {
	if s == off {
		return listenAddr{}, nil
	}
	host, port := "127.0.0.1", s
	if strings.Contains(s, ":") {
		var err error
		if host, port, err = net.SplitHostPort(s); err != nil {
			return listenAddr{}, errListenAddr(s)
		}
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return listenAddr{}, errListenAddr(s)
	}
	return listenAddr{net.JoinHostPort(host, strconv.FormatUint(n, 10))}, nil
}

func errListenAddr(s string) error {
	return fmt.Errorf("%q is no address to listen on (want 1080, 127.0.0.1:1080 or off)", s)
}

// A forward is a listener whose connections go to one target.
type forward struct {
	listen listenAddr
	target string // HOST:PORT, resolved by the exit
}

// parseForward reads [tcp:]LISTEN=TARGET.
func parseForward(s string) (forward, error) {
	wrong := func(what string) (forward, error) {
		return forward{}, fmt.Errorf("%s in %q (want 2222=host.example.org:22, or 127.0.0.1:2222=…)", what, s)
	}
	if strings.HasPrefix(s, "udp:") {
		return wrong("only tcp can be forwarded, not udp,")
	}
	listen, target, ok := strings.Cut(strings.TrimPrefix(s, "tcp:"), "=")
	if !ok {
		return wrong("no =")
	}
	at, err := parseListenAddr(listen)
	if err != nil || at == (listenAddr{}) {
		return wrong("no address to listen on")
	}
	if target, err = parseHostPort(target); err != nil {
		return wrong("no target")
	}
	return forward{at, target}, nil
}

// errOpen refuses a listener that anybody in reach could use.
var errOpen = errors.New("everybody in reach could use it: not a loopback address, and no authentication " +
	"(give --users, a loopback address, or --insecure-open if that is meant)")

// errOpenForward is errOpen for a forward, which cannot ask for a user.
var errOpenForward = errors.New("everybody in reach could use it: not a loopback address, and --users does not guard a forward " +
	"(give a loopback address, or --insecure-open if that is meant)")

// bind opens the listener. Unless open is nil, it is the refusal of an address
// that is not loopback.
func (a listenAddr) bind(setting string, open error) (net.Listener, error) {
	addr, err := net.ResolveTCPAddr("tcp", a.hostPort)
	if err != nil {
		return nil, &settingError{setting, err}
	}
	if open != nil && !addr.IP.IsLoopback() {
		return nil, &settingError{setting, fmt.Errorf("%s: %w", a.hostPort, open)}
	}
	// A dead client is noticed after a few minutes of silence.
	cfg := net.ListenConfig{KeepAliveConfig: net.KeepAliveConfig{
		Enable: true, Idle: 60 * time.Second, Interval: 15 * time.Second, Count: -1,
	}}
	ln, err := cfg.Listen(context.Background(), "tcp", addr.String())
	if err != nil {
		return nil, bindError(setting, err)
	}
	return ln, nil
}
