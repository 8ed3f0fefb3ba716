package main

import (
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"github.com/spf13/cobra"

	"github.com/snapproxy/snapproxy"
	"github.com/snapproxy/snapproxy/scion"
	"github.com/snapproxy/snapproxy/tunnel/snaptun"
)

// demoOptions are the flags of the demo.
type demoOptions struct {
	lifecycle
	proxyOptions
	allow []netip.Prefix
}

func newDemo() *cobra.Command {
	var o demoOptions
	cmd := &cobra.Command{
		Use:   "demo [FLAGS] [-- CMD [ARG]...]",
		Short: "Run SNAP, exit and client in one process, to try it out",
		Long: `Run a SNAP, an exit and a client in one process on loopback, with keys that are
thrown away, and a page at http://demo.snapproxy.internal/ that only the exit
can reach. With a command, run it as exec does; without, serve until ended.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 && !o.flags.Changed("log-level") {
				o.level = slog.LevelWarn
			}
			logger := o.logger(cmd)
			if len(args) > 0 {
				if err := findCommand(args[0]); err != nil {
					return err
				}
			}
			d, err := o.open(logger)
			if err != nil {
				if len(args) > 0 {
					err = noTunnel(err)
				}
				return err
			}
			if len(args) > 0 {
				return o.runCommand(args, d.proxy, d.role(), logger)
			}
			return o.serve(cmd, d.role(), logger)
		},
	}
	fs := cmd.Flags()
	fs.SetInterspersed(false)
	o.lifecycle.add(fs, "0", "")
	o.proxyOptions.add(fs, "127.0.0.1:0")
	addAllow(fs, &o.allow)
	return cmd
}

// A demo is the three roles in one process. The client is made when the exit's
// address is known.
type demo struct {
	snap   *snapproxy.SNAP
	exit   *snapproxy.Exit
	proxy  *proxy
	client snapproxy.ClientConfig
	ready  chan struct{}
}

// open binds the listeners and makes SNAP and exit.
func (o *demoOptions) open(logger *slog.Logger) (*demo, error) {
	var keys [3]snaptun.PrivateKey
	for i := range keys {
		var err error
		if keys[i], err = snaptun.NewPrivateKey(); err != nil {
			return nil, err
		}
	}
	snapKey, exitKey, clientKey := keys[0], keys[1], keys[2]
	ia, err := scion.ParseIA("1-ff00:0:110")
	if err != nil {
		return nil, err
	}
	d := &demo{ready: make(chan struct{})}
	loopback := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 0)
	d.snap, err = snapproxy.NewSNAP(snapproxy.SNAPConfig{
		IA: ia, Listen: loopback, PrivateKey: snapKey,
		Authorize: only(clientKey.PublicKey()), Logger: logger.With("role", "snap"),
	})
	if err != nil {
		return nil, err
	}
	d.exit, err = snapproxy.NewExit(snapproxy.ExitConfig{
		NetworkConfig: snapproxy.NetworkConfig{Within: d.snap},
		PrivateKey:    exitKey, Authorize: only(clientKey.PublicKey()), Allow: o.allow, Page: http.HandlerFunc(demoPage),
		Logger: logger.With("role", "exit"),
	})
	if err != nil {
		return nil, err
	}
	d.client = snapproxy.ClientConfig{
		NetworkConfig: snapproxy.NetworkConfig{SNAP: d.snap.Addr().String(), SNAPKey: d.snap.PublicKey(), IA: ia},
		PrivateKey:    clientKey, ExitKey: exitKey.PublicKey(), Logger: logger.With("role", "client"),
	}
	d.proxy, err = o.bind(logger, o.credential(), &d.client)
	return d, err
}

// only admits the given keys.
func only(keys ...snaptun.PublicKey) func(snaptun.PublicKey, time.Time) bool {
	return func(k snaptun.PublicKey, _ time.Time) bool {
		for _, known := range keys {
			if k == known {
				return true
			}
		}
		return false
	}
}

func (d *demo) role() role {
	return role{run: d.run, ready: d.ready, line: d.proxy.line, silent: d.silent}
}

func (d *demo) silent() string {
	select {
	case <-d.exit.Ready():
		return "the client does not reach the exit"
	default:
		return d.exit.Silent()
	}
}

func (d *demo) run(ctx context.Context) error {
	return stacked(d.snap.Run, stacked(d.exit.Run, d.runClient))(ctx)
}

func (d *demo) runClient(ctx context.Context) error {
	select {
	case <-ctx.Done():
		d.proxy.close()
		return nil
	case <-d.exit.Ready():
	}
	d.client.Exit = d.exit.Addr()
	var err error
	if d.proxy.client, err = snapproxy.NewClient(d.client); err != nil {
		d.proxy.close()
		return err
	}
	return together(ctx, d.proxy.run, func(ctx context.Context) error {
		select {
		case <-ctx.Done():
		case <-d.proxy.client.Ready():
			close(d.ready)
		}
		return nil
	})
}

func demoPage(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/" {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Write([]byte(`<!DOCTYPE html>
<title>snapproxy</title>
<h1>It works</h1>
<p>This page came out of an exit, through a SNAP, over SCION, without any privilege.</p>
`))
}
