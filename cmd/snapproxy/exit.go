package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/snapproxy/snapproxy"
	"github.com/snapproxy/snapproxy/tunnel/snaptun"
)

// exitOptions are the flags that make an exit.
type exitOptions struct {
	bind  netip.AddrPort
	allow []netip.Prefix
	deny  []netip.Prefix
}

func (o *exitOptions) add(fs *pflag.FlagSet) {
	addValue(fs, &o.bind, "bind", "IP:PORT", "", "local UDP address; a fixed port keeps the exit's address over restarts", parseAddrPort)
	addAllow(fs, &o.allow)
	addList(fs, &o.deny, "deny", "CIDR", "range of targets that is closed (repeatable; the longest prefix wins)", parsePrefix)
}

func addAllow(fs *pflag.FlagSet, to *[]netip.Prefix) {
	addList(fs, to, "allow", "CIDR", "range of targets that is open besides the globally reachable ones (repeatable)", parsePrefix)
}

// config is the configuration that the flags make.
func (o *exitOptions) config(network snapproxy.NetworkConfig, server serverOptions, key snaptun.PrivateKey, authorize authorization, logger *slog.Logger) snapproxy.ExitConfig {
	if o.bind.Port() == 0 {
		logger.Warn("the exit's address changes when it is restarted: give --bind IP:PORT to keep it")
	}
	network.Bind = o.bind
	return snapproxy.ExitConfig{
		NetworkConfig: network, PrivateKey: key, Authorize: authorize, Allow: o.allow, Deny: o.deny,
		HandshakeLimit: server.handshakeLimit, Logger: logger,
	}
}

func newExit() *cobra.Command {
	var (
		life   lifecycle
		attach attachOptions
		exit   exitOptions
		server serverOptions
	)
	cmd := &cobra.Command{
		Use:   "exit",
		Short: "Run an exit that reaches the clients' targets",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			logger := life.logger(cmd)
			network, err := attach.network()
			if err != nil {
				return err
			}
			if err := require(cmd.Flags(), "authorized-keys"); err != nil {
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
			e, err := snapproxy.NewExit(exit.config(network, server, key, keys.Authorized, logger))
			if err != nil {
				return err
			}
			return life.serve(cmd, role{
				run:    func(ctx context.Context) error { return together(ctx, runExit(e), keys.Run) },
				ready:  e.Ready(),
				line:   func() string { return exitLine(e) },
				silent: e.Silent,
				reload: keys.Reload,
			}, logger)
		},
	}
	life.add(cmd.Flags(), "0", "info")
	attach.add(cmd.Flags())
	exit.add(cmd.Flags())
	server.add(cmd.Flags())
	return cmd
}

// runExit runs an exit. It binds its socket only then.
func runExit(e *snapproxy.Exit) func(context.Context) error {
	return func(ctx context.Context) error {
		err := e.Run(ctx)
		if errors.Is(err, syscall.EADDRINUSE) || errors.Is(err, syscall.EADDRNOTAVAIL) {
			return bindError("--bind", err)
		}
		return err
	}
}

// exitLine is the ready line: the flags that reach the exit.
func exitLine(e *snapproxy.Exit) string {
	return fmt.Sprintf("--exit %s --exit-key %s", e.Addr(), e.PublicKey())
}
