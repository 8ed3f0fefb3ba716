package main

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/snapproxy/snapproxy"
	"github.com/snapproxy/snapproxy/scion"
	"github.com/snapproxy/snapproxy/tunnel/snaptun"
)

// clientOptions are the flags of a client.
type clientOptions struct {
	lifecycle
	attachOptions
	proxyOptions
	exit    string
	exitKey snaptun.PublicKey
	hosts   []string
	local   netip.AddrPort
}

func (o *clientOptions) add(fs *pflag.FlagSet) {
	o.attachOptions.add(fs)
	addValue(fs, &o.exit, "exit", "ADDRESS", "", "SCION address of the exit, ISD-AS,IP:PORT, or NAME:PORT", parseExit)
	addValue(fs, &o.exitKey, "exit-key", "KEY", "", "public key of the exit", parsePublicKey)
	addHosts(fs, &o.hosts)
	addValue(fs, &o.local, "bind", "IP:PORT", "", "local UDP address (default any)", parseAddrPort)
}

func addHosts(fs *pflag.FlagSet, to *[]string) {
	addList(fs, to, "hosts", "FILE", "file of names of SCION hosts, besides /etc/scion/hosts and DNS (repeatable)", parseText)
}

// config is the configuration that the flags make, but for key and users.
func (o *clientOptions) config(logger *slog.Logger) (snapproxy.ClientConfig, error) {
	network, err := o.network()
	if err != nil {
		return snapproxy.ClientConfig{}, err
	}
	if err := require(o.attachOptions.flags, "exit", "exit-key"); err != nil {
		return snapproxy.ClientConfig{}, err
	}
	network.Bind = o.local
	cfg := snapproxy.ClientConfig{NetworkConfig: network, ExitKey: o.exitKey, Logger: logger}
	if cfg.Names, err = snapproxy.NewNames(snapproxy.NamesConfig{HostsFiles: o.hosts}); err != nil {
		return cfg, &settingError{"--hosts", err}
	}
	if cfg.Exit, err = scion.ParseAddr(o.exit); err != nil {
		cfg.ExitName, err = o.exit, nil
	}
	return cfg, err
}

// parseExit takes a SCION address or a name, both with a port.
func parseExit(s string) (string, error) {
	if strings.Contains(s, ",") {
		_, err := parseAddr(s)
		return s, err
	}
	if _, err := parseHostPort(s); err != nil {
		return "", fmt.Errorf("%q is no address of an exit (want 1-ff00:0:110,10.0.0.1:8000 or exit.example.org:8000)", s)
	}
	host, _, _ := net.SplitHostPort(s)
	if _, err := netip.ParseAddr(host); err == nil {
		_, err := parseAddr(s)
		return s, err
	}
	return s, nil
}

func newClient() *cobra.Command {
	var o clientOptions
	cmd := &cobra.Command{
		Use:   "client",
		Short: "Run SOCKS5 and HTTP proxies that reach targets through an exit",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			logger := o.logger(cmd)
			cfg, err := o.config(logger)
			if err != nil {
				return err
			}
			if cfg.PrivateKey, err = clientKey(cmd.Flags(), cmd.InOrStdin(), logger); err != nil {
				return err
			}
			p, err := o.openProxy(cfg, nil)
			if err != nil {
				return err
			}
			return o.serve(cmd, p.role(), logger)
		},
	}
	fs := cmd.Flags()
	o.lifecycle.add(fs, "0", "info")
	o.add(fs)
	addKey(fs, new(string), "file of the private key (-: standard input; default a fresh key)")
	o.proxyOptions.add(fs, "127.0.0.1:1080")
	o.proxyOptions.addForwards(fs)
	return cmd
}
