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
	topology  string
	asHosts   []netip.Prefix
	underlay  netip.Addr
	flags     *pflag.FlagSet
}

func (o *snapOptions) add(fs *pflag.FlagSet) {
	o.flags = fs
	addIA(fs, &o.ia)
	addValue(fs, &o.listen, "listen", "IP:PORT", "", "UDP address of the SNAP", parseAddrPort)
	addValue(fs, &o.advertise, "advertise", "HOST:PORT", "", "where others reach the SNAP, for the ready line (default --listen)", parseHostPort)
}

// addTopology defines what connects a SNAP to the network of its AS.
func (o *snapOptions) addTopology(fs *pflag.FlagSet) {
	addValue(fs, &o.topology, "topology", "FILE", "", "topology.json of the AS: its routers and control service (default: the SNAP stands alone)", parseText)
	addValue(fs, &o.underlay, "underlay-address", "IP", "", "address that routers deliver to (default that of --listen)", parseIP)
	addASHosts(fs, &o.asHosts)
}

// check reads the topology, which names the AS as well.
func (o *snapOptions) check() (*scion.Topology, error) {
	t, err := readTopology(o.flags, o.topology)
	ia := o.flags.Lookup("isd-as")
	switch {
	case err != nil:
		return nil, err
	case t == nil && (o.underlay.IsValid() || len(o.asHosts) > 0):
		return nil, missing(o.flags.Lookup("topology"))
	case t == nil:
		return nil, require(o.flags, "isd-as", "listen")
	case ia.Changed && o.ia != t.IA:
		return nil, otherTopology(o.flags, o.ia, t.IA)
	}
	o.ia = t.IA
	return t, require(o.flags, "listen")
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
		api    apiOptions
	)
	cmd := &cobra.Command{
		Use:   "snap",
		Short: "Run a SNAP that clients and exits attach to",
		Long: `Run a SNAP that clients and exits attach to.

Keys are admitted that --authorized-keys lists, and with --api those that are
registered with a token: see snapproxy token. With --topology the SNAP exchanges
packets with the routers of its AS, and --api finds paths for its clients.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			logger := life.logger(cmd)
			topology, err := snap.check()
			if err != nil {
				return err
			}
			if err := api.check(server); err != nil {
				return err
			}
			key, err := requiredPrivateKey(cmd.Flags(), cmd.InOrStdin(), logger)
			if err != nil {
				return err
			}
			admission, err := newAdmission(server, api, logger)
			if err != nil {
				return err
			}
			cfg := snap.config(server, key, admission.authorized, logger)
			cfg.Topology = topology
			s, err := snap.open(cfg, logger)
			if err != nil {
				return err
			}
			served, err := api.open(s, snap, admission, logger)
			if err != nil {
				return err
			}
			return life.serve(cmd, role{
				run:   func(ctx context.Context) error { return together(ctx, s.Run, served.run, admission.run) },
				ready: alreadyReady(),
				line: func() string {
					if served.api != nil {
						return "--endhost-api " + served.url()
					}
					return snap.line(s)
				},
				silent: func() string { return "" },
				reload: admission.reload,
			}, logger)
		},
	}
	life.add(cmd.Flags(), "0", "info")
	snap.add(cmd.Flags())
	snap.addTopology(cmd.Flags())
	server.add(cmd.Flags())
	api.add(cmd.Flags())
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
		ASHosts: o.asHosts, UnderlayAddr: o.underlay,
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
