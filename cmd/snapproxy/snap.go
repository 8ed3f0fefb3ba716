package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/snapproxy/snapproxy"
	"github.com/snapproxy/snapproxy/scion"
	"github.com/snapproxy/snapproxy/tunnel/snaptun"
)

// snapOptions are the flags that make a SNAP.
type snapOptions struct {
	ia        scion.IA
	listen    netip.AddrPort
	advertise string
}

func (o *snapOptions) add(fs *pflag.FlagSet) {
	addIA(fs, &o.ia)
	addValue(fs, &o.listen, "listen", "IP:PORT", "", "UDP address of the SNAP", parseAddrPort)
	addValue(fs, &o.advertise, "advertise", "HOST:PORT", "", "where others reach the SNAP, for the ready line (default --listen)", parseHostPort)
}

func addIA(fs *pflag.FlagSet, to *scion.IA) {
	addValue(fs, to, "isd-as", "ISD-AS", "", "the SNAP's ISD-AS, such as 1-ff00:0:110", parseIA)
}

// serverOptions are the flags of every role that others authenticate to.
type serverOptions struct {
	authorizedKeys string
	handshakeLimit int
}

func (o *serverOptions) add(fs *pflag.FlagSet) {
	addKey(fs, new(string), "file of the private key (-: standard input)")
	addValue(fs, &o.authorizedKeys, "authorized-keys", "FILE", "", "file of public keys that may attach, a line each: KEY [NAME]", parseText)
	addValue(fs, &o.handshakeLimit, "handshake-limit", "N", "", "handshakes a second answered without a cookie (default 2000 a core)", parseLimit)
}

func newSNAP() *cobra.Command {
	var (
		life   lifecycle
		snap   snapOptions
		server serverOptions
	)
	cmd := &cobra.Command{
		Use:   "snap",
		Short: "Run a SNAP that clients and exits attach to",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			logger := life.logger(cmd)
			if err := require(cmd.Flags(), "isd-as", "listen", "authorized-keys"); err != nil {
				return err
			}
			key, err := requiredPrivateKey(cmd.Flags(), cmd.InOrStdin(), logger)
			if err != nil {
				return err
			}
			keys, err := loadKeys(server.authorizedKeys, logger)
			if err != nil {
				return err
			}
			s, err := snap.open(snap.config(server, key, keys.Authorized, logger), logger)
			if err != nil {
				return err
			}
			return life.serve(cmd, role{
				run:    func(ctx context.Context) error { return together(ctx, s.Run, keys.Run) },
				ready:  alreadyReady(),
				line:   func() string { return snap.line(s) },
				silent: func() string { return "" },
				reload: keys.Reload,
			}, logger)
		},
	}
	life.add(cmd.Flags(), "0", "info")
	snap.add(cmd.Flags())
	server.add(cmd.Flags())
	return cmd
}

func alreadyReady() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

func loadKeys(name string, logger *slog.Logger) (*snapproxy.KeySet, error) {
	keys, err := snapproxy.LoadKeySet(name, logger)
	if err != nil {
		return nil, &settingError{"--authorized-keys", err}
	}
	return keys, nil
}

// An authorization says which keys may attach.
type authorization func(key snaptun.PublicKey, now time.Time) bool

// config is the configuration that the flags make.
func (o *snapOptions) config(server serverOptions, key snaptun.PrivateKey, authorize authorization, logger *slog.Logger) snapproxy.SNAPConfig {
	return snapproxy.SNAPConfig{
		IA: o.ia, Listen: o.listen, PrivateKey: key, Authorize: authorize,
		HandshakeLimit: server.handshakeLimit, Logger: logger,
	}
}

// open binds the SNAP's socket.
func (o *snapOptions) open(cfg snapproxy.SNAPConfig, logger *slog.Logger) (*snapproxy.SNAP, error) {
	s, err := snapproxy.NewSNAP(cfg)
	if err != nil {
		return nil, bindError("--listen", err)
	}
	if o.advertise == "" && s.Addr().Addr().IsUnspecified() {
		logger.Warn("the ready line names the loopback address: say with --advertise HOST:PORT where others reach the SNAP")
	}
	return s, nil
}

// line is the ready line: the flags that attach to the SNAP.
func (o *snapOptions) line(s *snapproxy.SNAP) string {
	return fmt.Sprintf("--snap %s --snap-key %s --isd-as %s", o.advertised(s.Addr()), s.PublicKey(), o.ia)
}

// advertised is where others reach a SNAP bound to addr.
func (o *snapOptions) advertised(addr netip.AddrPort) string {
	if o.advertise == "" {
		return reachable(addr).String()
	}
	host, port, _ := net.SplitHostPort(o.advertise)
	if n, _ := strconv.Atoi(port); n == 0 {
		port = strconv.Itoa(int(addr.Port()))
	}
	return net.JoinHostPort(host, port)
}

// reachable replaces a wildcard address by the loopback address of its family.
func reachable(a netip.AddrPort) netip.AddrPort {
	switch a.Addr() {
	case netip.IPv4Unspecified():
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), a.Port())
	case netip.IPv6Unspecified():
		return netip.AddrPortFrom(netip.IPv6Loopback(), a.Port())
	}
	return a
}
