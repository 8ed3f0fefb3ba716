package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"strings"

	"github.com/spf13/pflag"

	"github.com/snapproxy/snapproxy"
)

// proxyOptions are the flags of a client's listeners.
type proxyOptions struct {
	socks, http  listenAddr
	forwards     []forward
	users        string
	insecureOpen bool
	flags        *pflag.FlagSet
}

func (o *proxyOptions) add(fs *pflag.FlagSet, preset string) {
	o.flags = fs
	addValue(fs, &o.socks, "socks", "ADDR", preset, "where SOCKS5 is served: PORT (of loopback), HOST:PORT or off", parseListenAddr)
	addValue(fs, &o.http, "http", "ADDR", preset, "where HTTP is served; the address of --socks is shared", parseListenAddr)
}

func (o *proxyOptions) addForwards(fs *pflag.FlagSet) {
	addList(fs, &o.forwards, "forward", "LISTEN=TARGET", "carry connections to LISTEN to TARGET (repeatable)", parseForward)
	addValue(fs, &o.users, "users", "FILE", "", "file of NAME:PASSWORD lines; turns authentication on", parseText)
	fs.BoolVar(&o.insecureOpen, "insecure-open", false, "let listeners without authentication be reached by others")
}

// addressed reports whether the user said where to listen.
func (o *proxyOptions) addressed() bool {
	return o.flags.Changed("socks") && o.socks != listenAddr{} || o.flags.Changed("http") && o.http != listenAddr{}
}

// A proxy is a client with its listeners.
type proxy struct {
	client      *snapproxy.Client
	listeners   []net.Listener // each once
	socks, http net.Listener   // nil: off
	forwards    []forwardListener
	user        *url.Userinfo // of the URLs; may be nil
}

type forwardListener struct {
	net.Listener
	target string
}

// openProxy binds the listeners and makes the client. user is a user to admit
// besides those of --users; nil: none.
func (o *proxyOptions) openProxy(cfg snapproxy.ClientConfig, user *url.Userinfo) (*proxy, error) {
	p, err := o.bind(cfg.Logger, user, &cfg)
	if err != nil {
		return nil, err
	}
	if p.client, err = snapproxy.NewClient(cfg); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// bind binds the listeners and sets the users of cfg.
func (o *proxyOptions) bind(logger *slog.Logger, user *url.Userinfo, cfg *snapproxy.ClientConfig) (*proxy, error) {
	if o.socks == (listenAddr{}) && o.http == (listenAddr{}) && len(o.forwards) == 0 {
		return nil, &usageError{errors.New("--socks and --http are off and there is no --forward: nothing to do")}
	}
	var err error
	if cfg.Users, err = o.admission(user, logger); err != nil {
		return nil, err
	}
	open, openForward := errOpen, errOpenForward
	if o.insecureOpen || cfg.Users != nil {
		open = nil
	}
	if o.insecureOpen {
		openForward = nil
	}
	p := &proxy{user: user}
	if err := o.bindAll(p, open, openForward); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

func (o *proxyOptions) bindAll(p *proxy, open, openForward error) error {
	for _, l := range []struct {
		flag string
		addr listenAddr
		to   *net.Listener
	}{{"socks", o.socks, &p.socks}, {"http", o.http, &p.http}} {
		switch {
		case l.addr == listenAddr{}:
		case l.addr == o.socks && p.socks != nil:
			*l.to = p.socks
		default:
			ln, err := l.addr.bind(given(o.flags.Lookup(l.flag)), open)
			if err != nil {
				return err
			}
			*l.to = ln
			p.listeners = append(p.listeners, ln)
		}
	}
	for _, f := range o.forwards {
		ln, err := f.listen.bind("--forward", openForward)
		if err != nil {
			return err
		}
		p.forwards = append(p.forwards, forwardListener{ln, f.target})
	}
	return nil
}

// admission is the check of users; nil: everybody.
func (o *proxyOptions) admission(user *url.Userinfo, logger *slog.Logger) (func(name, password string) bool, error) {
	var admit func(name, password string) bool
	if o.users != "" {
		users, err := loadUsers(o.users, logger)
		if err != nil {
			return nil, &settingError{"--users", err}
		}
		admit = users
	}
	if user == nil {
		return admit, nil
	}
	own, err := singleUser(user)
	if err != nil {
		return nil, err
	}
	return func(name, password string) bool {
		return own(name, password) || admit != nil && admit(name, password)
	}, nil
}

func loadUsers(name string, logger *slog.Logger) (func(name, password string) bool, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := checkMode(f, logger); err != nil {
		return nil, err
	}
	users, err := snapproxy.LoadUsers(name)
	if err != nil {
		return nil, err
	}
	return users.Valid, nil
}

func (p *proxy) close() {
	for _, ln := range p.listeners {
		ln.Close()
	}
	for _, ln := range p.forwards {
		ln.Close()
	}
}

// run serves until ctx ends; it closes the listeners.
func (p *proxy) run(ctx context.Context) error {
	runs := []func(context.Context) error{p.client.Run}
	for _, ln := range p.listeners {
		runs = append(runs, func(ctx context.Context) error { return p.client.ServeProxy(ctx, ln) })
	}
	for _, f := range p.forwards {
		runs = append(runs, func(ctx context.Context) error { return p.client.Forward(ctx, f, f.target) })
	}
	return together(ctx, runs...)
}

func (p *proxy) role() role {
	return role{run: p.run, ready: p.client.Ready(), line: p.line, silent: p.client.Silent}
}

const (
	// socksScheme leaves the resolution of names to the proxy.
	socksScheme = "socks5h"
	httpScheme  = "http"
)

// line is the ready line: the URLs of the listeners.
func (p *proxy) line() string {
	var urls []string
	if p.socks != nil {
		urls = append(urls, p.url(socksScheme, p.socks))
	}
	if p.http != nil {
		urls = append(urls, p.url(httpScheme, p.http))
	}
	for _, f := range p.forwards {
		urls = append(urls, fmt.Sprintf("tcp://%s", dialable(f)))
	}
	return strings.Join(urls, " ")
}

func (p *proxy) url(scheme string, ln net.Listener) string {
	return (&url.URL{Scheme: scheme, User: p.user, Host: dialable(ln)}).String()
}

// dialable is where a program of this machine reaches ln. A listener on both
// families is reached over IPv4 too.
func dialable(ln net.Listener) string {
	addr, ok := ln.Addr().(*net.TCPAddr)
	if ok && addr.IP.IsUnspecified() {
		return fmt.Sprintf("127.0.0.1:%d", addr.Port)
	}
	return ln.Addr().String()
}
