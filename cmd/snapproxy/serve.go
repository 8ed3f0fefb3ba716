package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/snapproxy/snapproxy"
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
			s, err := snap.open(snap.config(server, key, keys.Authorized, logger.With("role", "snap")), logger)
			if err != nil {
				return err
			}
			e, err := snapproxy.NewExit(exit.config(snapproxy.NetworkConfig{Within: s}, server, key, keys.Authorized, logger.With("role", "exit")))
			if err != nil {
				return err
			}
			return life.serve(cmd, role{
				run:    func(ctx context.Context) error { return together(ctx, stacked(s.Run, runExit(e)), keys.Run) },
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

// stacked runs lower and, on it, upper. Lower ends after upper, whose goodbyes
// it carries.
func stacked(lower, upper func(ctx context.Context) error) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		below, end := context.WithCancel(context.WithoutCancel(ctx))
		defer end()
		return together(ctx,
			func(context.Context) error { return lower(below) },
			func(ctx context.Context) error {
				defer end()
				return upper(ctx)
			})
	}
}
