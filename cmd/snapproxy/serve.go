package main

import (
	"context"
	"net/netip"
	"time"

	"github.com/spf13/cobra"

	"github.com/snapproxy/snapproxy"
	"github.com/snapproxy/snapproxy/tunnel/snaptun"
)

func newServe() *cobra.Command {
	var (
		life   lifecycle
		snap   snapOptions
		exit   exitOptions
		server serverOptions
	)
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run a SNAP and an exit in one process",
		Long: `Run a SNAP and an exit in one process: the smallest server that somebody runs
for others. Both have the key of --key, and both admit the authorized keys.`,
		Args: noArgs,
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
			own := key.PublicKey()
			attaches := func(k snaptun.PublicKey, now time.Time) bool { return k == own || keys.Authorized(k, now) }
			s, err := snap.open(snap.config(server, key, attaches, logger.With("role", "snap")), logger)
			if err != nil {
				return err
			}
			near := snapproxy.NetworkConfig{SNAP: beside(s.Addr(), exit.bind).String(), SNAPKey: own, IA: snap.ia}
			e, err := snapproxy.NewExit(exit.config(near, server, key, keys.Authorized, logger.With("role", "exit")))
			if err != nil {
				return err
			}
			return life.serve(cmd, role{
				run:    func(ctx context.Context) error { return together(ctx, s.Run, runExit(e), keys.Run) },
				ready:  e.Ready(),
				line:   func() string { return snap.line(s) + " " + exitLine(e) },
				silent: e.Silent,
				reload: keys.Reload,
			}, logger)
		},
	}
	life.add(cmd.Flags(), "0", "info")
	snap.add(cmd.Flags())
	exit.add(cmd.Flags())
	server.add(cmd.Flags())
	return cmd
}

// beside is where an exit bound to bind reaches a SNAP of the same process.
func beside(snap, bind netip.AddrPort) netip.AddrPort {
	wildcard := snap.Addr().IsUnspecified()
	if wildcard && bind.IsValid() && !bind.Addr().IsUnspecified() && bind.Addr().Is4() == snap.Addr().Is4() {
		return netip.AddrPortFrom(bind.Addr(), snap.Port())
	}
	return reachable(snap)
}
