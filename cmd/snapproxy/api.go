package main

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"time"

	"github.com/spf13/pflag"

	"github.com/snapproxy/snapproxy"
	"github.com/snapproxy/snapproxy/tunnel/control"
	"github.com/snapproxy/snapproxy/tunnel/snaptun"
)

// apiOptions are the flags of a SNAP's API.
type apiOptions struct {
	listen   netip.AddrPort
	url      *url.URL
	tlsCert  string
	tlsKey   string
	insecure bool
	keys     []string
	jwks     *url.URL
	revoked  string
	flags    *pflag.FlagSet
}

func (o *apiOptions) add(fs *pflag.FlagSet) {
	o.flags = fs
	addValue(fs, &o.listen, "api", "IP:PORT", "", "TCP address of the SNAP's API and endhost API (default none)", parseAddrPort)
	addValue(fs, &o.url, "api-url", "URL", "", "where clients reach the API, if a proxy is in front of it", parseURL)
	addValue(fs, &o.tlsCert, "tls-cert", "FILE", "", "certificate chain of the API, PEM", parseText)
	addValue(fs, &o.tlsKey, "tls-key", "FILE", "", "private key of the certificate, PEM", parseText)
	fs.BoolVar(&o.insecure, "insecure-api", false, "let the API be reached from other machines without TLS")
	addList(fs, &o.keys, "token-key", "FILE", "public key that verifies tokens, PEM (repeatable)", parseText)
	addValue(fs, &o.jwks, "jwks", "URL", "", "key set (JWKS) that verifies tokens", parseURL)
	addValue(fs, &o.revoked, "revoked", "FILE", "", "file of the IDs of tokens that are taken back, a line each", parseText)
}

// on reports whether there is to be an API.
func (o *apiOptions) on() bool { return o.listen.IsValid() }

// check refuses settings that contradict each other or leave something out.
func (o *apiOptions) check(server serverOptions) error {
	fs := o.flags
	if !o.on() {
		for _, name := range []string{"api-url", "tls-cert", "tls-key", "insecure-api", "token-key", "jwks", "revoked"} {
			if fs.Changed(name) {
				return missing(fs.Lookup("api"))
			}
		}
		if server.authorizedKeys == "" {
			return missing(fs.Lookup("authorized-keys"))
		}
		return nil
	}
	switch {
	case (o.tlsCert == "") != (o.tlsKey == ""):
		return &usageError{&settingError{"--tls-cert", errors.New("only together with --tls-key")}}
	case o.tlsCert == "" && !o.insecure && !o.listen.Addr().IsLoopback():
		return &usageError{&settingError{given(fs.Lookup("api")), errors.New("tokens would cross the network readable (want --tls-cert and --tls-key, or --insecure-api behind a proxy that has TLS)")}}
	case len(o.keys) == 0 && o.jwks == nil:
		return &usageError{&settingError{given(fs.Lookup("api")), errors.New("nothing verifies tokens (want --token-key FILE, as snapproxy keygen --token makes it, or --jwks URL)")}}
	}
	return nil
}

// An admission says which keys may attach to a SNAP: those of the file and
// those that are registered with a token.
type admission struct {
	keys     *snapproxy.KeySet // nil: no file
	registry *control.Registry // nil: no API
	verifier *control.Verifier
}

func newAdmission(server serverOptions, api apiOptions, logger *slog.Logger) (*admission, error) {
	a := new(admission)
	var err error
	if server.authorizedKeys != "" {
		if a.keys, err = loadKeys(server.authorizedKeys, logger); err != nil {
			return nil, err
		}
	}
	if !api.on() {
		return a, nil
	}
	var keys []ed25519.PublicKey
	for _, name := range api.keys {
		key, err := readVerifyKey(name)
		if err != nil {
			return nil, &settingError{given(api.flags.Lookup("token-key")), err}
		}
		keys = append(keys, key)
	}
	a.verifier, err = control.NewVerifier(control.VerifierConfig{
		Keys: keys, JWKS: api.jwks, Revoked: api.revoked, Logger: logger,
	})
	if err != nil {
		name := "jwks"
		if errors.As(err, new(*fs.PathError)) || api.jwks == nil {
			name = "revoked"
		}
		return nil, &settingError{given(api.flags.Lookup(name)), err}
	}
	a.registry = control.NewRegistry(control.RegistryConfig{Verifier: a.verifier, Logger: logger})
	return a, nil
}

func (a *admission) authorized(key snaptun.PublicKey, now time.Time) bool {
	return a.keys != nil && a.keys.Authorized(key, now) || a.registry != nil && a.registry.Authorized(key, now)
}

func (a *admission) run(ctx context.Context) error {
	var runs []func(context.Context) error
	if a.keys != nil {
		runs = append(runs, a.keys.Run)
	}
	if a.registry != nil {
		runs = append(runs, a.registry.Run, a.verifier.Run)
	}
	return together(ctx, runs...)
}

func (a *admission) reload() {
	if a.keys != nil {
		a.keys.Reload()
	}
	if a.verifier != nil {
		a.verifier.Reload()
	}
}

// A servedAPI is the API of a SNAP, if it has one.
type servedAPI struct {
	api    *snapproxy.SNAPAPI // nil: none
	host   string             // to advertise
	public *url.URL           // the same, if it is known
}

// open binds the API's listener.
func (o *apiOptions) open(s *snapproxy.SNAP, snap snapOptions, a *admission, logger *slog.Logger) (*servedAPI, error) {
	served := &servedAPI{public: o.url}
	if !o.on() {
		return served, nil
	}
	cfg := snapproxy.SNAPAPIConfig{
		SNAP: s, Listen: o.listen, URL: o.url, CertFile: o.tlsCert, KeyFile: o.tlsKey, Insecure: o.insecure,
		Verifier: a.verifier, Registry: a.registry, Logger: logger,
	}
	if host, port, err := net.SplitHostPort(snap.advertised(s.Addr())); err == nil && snap.advertise != "" {
		served.host = host
		if plane, err := netip.ParseAddrPort(net.JoinHostPort(host, port)); err == nil {
			cfg.DataPlane = plane
		}
	}
	var err error
	if served.api, err = snapproxy.NewSNAPAPI(cfg); err != nil {
		if o.tlsCert != "" && !errors.As(err, new(*net.OpError)) {
			return nil, &settingError{given(o.flags.Lookup("tls-cert")), err}
		}
		return nil, bindError("--api", err)
	}
	return served, nil
}

func (s *servedAPI) run(ctx context.Context) error {
	if s.api == nil {
		return nil
	}
	return s.api.Run(ctx)
}

// url is where others reach the API.
func (s *servedAPI) url() string {
	if s.public != nil {
		return s.public.String()
	}
	at := reachable(s.api.Addr())
	host := at.String()
	if s.host != "" {
		host = net.JoinHostPort(s.host, strconv.Itoa(int(at.Port())))
	}
	return s.api.URL(host).String()
}

func readVerifyKey(name string) (ed25519.PublicKey, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	key, err := control.ParseVerifyKey(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return key, nil
}
