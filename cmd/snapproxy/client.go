package main

import (
	"log/slog"

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
	exit    scion.Addr
	exitKey snaptun.PublicKey
}

func (o *clientOptions) add(fs *pflag.FlagSet) {
	o.attachOptions.add(fs)
	addValue(fs, &o.exit, "exit", "ISD-AS,IP:PORT", "", "SCION address of the exit", parseAddr)
	addValue(fs, &o.exitKey, "exit-key", "KEY", "", "public key of the exit", parsePublicKey)
}

// config is the configuration that the flags make, but for the users.
func (o *clientOptions) config(key snaptun.PrivateKey, logger *slog.Logger) snapproxy.ClientConfig {
	return snapproxy.ClientConfig{
		SNAP: o.snap, SNAPKey: o.snapKey, IA: o.ia, PrivateKey: key,
		Exit: o.exit, ExitKey: o.exitKey, Logger: logger,
	}
}

func newClient() *cobra.Command {
	var o clientOptions
	cmd := &cobra.Command{
		Use:   "client",
		Short: "Run SOCKS5 and HTTP proxies that reach targets through an exit",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			logger := o.logger(cmd)
			if err := require(cmd.Flags(), append(attachFlags, "exit", "exit-key")...); err != nil {
				return err
			}
			key, err := clientKey(cmd.Flags(), cmd.InOrStdin(), logger)
			if err != nil {
				return err
			}
			p, err := o.openProxy(o.config(key, logger), nil)
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
