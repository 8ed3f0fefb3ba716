package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/snapproxy/snapproxy"
	"github.com/snapproxy/snapproxy/scion"
)

// pathsOptions are the flags of paths.
type pathsOptions struct {
	attachOptions
	hosts   []string
	timeout time.Duration
	json    bool
	level   slog.Level
}

func (o *pathsOptions) add(fs *pflag.FlagSet) {
	addValue(fs, &o.level, "log-level", "LEVEL", "warn", "debug, info, warn or error", parseLevel)
	o.attachOptions.add(fs)
	addHosts(fs, &o.hosts)
	addValue(fs, &o.timeout, "timeout", "DURATION", "10s", "how long names and paths may be looked up", parseWait)
	fs.BoolVar(&o.json, "json", false, "print JSON, one object for each AS")
}

func newPaths() *cobra.Command {
	var o pathsOptions
	cmd := &cobra.Command{
		Use:   "paths FLAGS ISD-AS|NAME|ADDRESS",
		Short: "Print the paths to an AS",
		Long: `Print the paths to an AS, or to that of a host: the hops with the interfaces
that they leave and enter ASes by, the largest SCION packet in bytes, how long
routers take the path, and the latency that the ASes announce. The first is the
one that new flows take; after the usable ones come those that --path-policy
refuses.

It takes an endhost API, or a topology with a control service. No tunnel is made
and no packet sent: whether a path works, ping says.

  snapproxy paths --endhost-api https://api.example.org 1-ff00:0:112
  snapproxy paths --topology /etc/scion/topology.json exit.example.org

The sequence in the JSON output chooses its path: --path-policy 'sequence=…'.
The status is 0 if there is a usable path and 1 if there is none.`,
		Args: oneArg("ISD-AS|NAME|ADDRESS"),
		RunE: func(cmd *cobra.Command, args []string) error {
			logger := newLogger(cmd, o.level)
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			ctx, cancel := context.WithTimeout(ctx, o.timeout)
			defer cancel()
			err := o.run(ctx, cmd, args[0], logger)
			if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
				err = fmt.Errorf("%w (given up after %v, see --timeout)", err, o.timeout)
			}
			return err
		},
	}
	o.add(cmd.Flags())
	return cmd
}

func (o *pathsOptions) run(ctx context.Context, cmd *cobra.Command, to string, logger *slog.Logger) error {
	network, err := o.lookupNetwork()
	if err != nil {
		return err
	}
	ases, err := o.resolve(ctx, to, logger)
	if err != nil {
		return err
	}
	usable := false
	for _, dst := range ases {
		routes, err := snapproxy.LookupPaths(ctx, network, network.IA, dst)
		if err != nil {
			return err
		}
		list := newPathList(dst, routes, o.policy)
		print := list.print
		if o.json {
			print = list.printJSON
		}
		if err := print(cmd.OutOrStdout(), time.Now()); err != nil {
			return err
		}
		usable = usable || list.usable > 0
	}
	if !usable {
		return &statusError{statusFailed, nil}
	}
	return nil
}

// resolve returns the ASes of what the user names.
func (o *pathsOptions) resolve(ctx context.Context, to string, logger *slog.Logger) ([]scion.IA, error) {
	if !strings.Contains(to, ",") {
		if ia, err := parseIA(to); err == nil {
			return []scion.IA{ia}, nil
		} else if strings.Contains(to, ":") || ia != 0 {
			return nil, &usageError{err} // cannot be a name
		}
	}
	names, err := newNames(o.hosts, logger)
	if err != nil {
		return nil, err
	}
	addrs, err := lookupHost(ctx, names, to)
	if err != nil {
		return nil, err
	}
	var ases []scion.IA
	for _, a := range addrs {
		if !slices.Contains(ases, a.IA) {
			ases = append(ases, a.IA)
		}
	}
	return ases, nil
}

// lookupNetwork is the configuration to look paths up with, for which no SNAP
// and no router are needed. All paths are looked up: the policy only sorts.
func (o *attachOptions) lookupNetwork() (snapproxy.NetworkConfig, error) {
	none := snapproxy.NetworkConfig{}
	fs := o.flags
	switch {
	case len(o.apis)+len(o.discovery) > 0 && o.topology != "":
		return none, contradiction(fs, "topology", "endhost-api")
	case len(o.apis)+len(o.discovery) == 0 && o.topology == "":
		err := errors.New("missing (want --endhost-api URL, or --topology FILE of an AS with a control service: a SNAP alone knows no paths)")
		return none, &usageError{&settingError{"--endhost-api", err}}
	}
	topology, err := readTopology(fs, o.topology)
	if err != nil {
		return none, err
	}
	if topology != nil && fs.Changed("isd-as") && o.ia != topology.IA {
		return none, otherTopology(fs, o.ia, topology.IA)
	}
	token, err := o.tokenSource()
	return snapproxy.NetworkConfig{
		IA: o.ia, EndhostAPIs: o.apis, Discovery: o.discovery, Token: token, SNAPHosts: o.snapHosts, APIProxy: o.apiProxy, Topology: topology,
	}, err
}

// newNames makes the names of hosts that the flags give.
func newNames(hosts []string, logger *slog.Logger) (*snapproxy.Names, error) {
	names, err := snapproxy.NewNames(snapproxy.NamesConfig{HostsFiles: hosts, Logger: logger})
	if err != nil {
		return nil, &settingError{"--hosts", err}
	}
	return names, nil
}

// lookupHost looks a host up that the user gave with or without a port.
func lookupHost(ctx context.Context, names *snapproxy.Names, host string) ([]scion.Addr, error) {
	lookup := names.Lookup
	if _, err := scion.ParseAddr(host); err == nil || !strings.Contains(host, ",") && strings.Contains(host, ":") {
		lookup = names.LookupPort
	}
	return lookup(ctx, host)
}

// oneArg is for commands that take one argument.
func oneArg(kind string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch len(args) {
		case 0:
			return &usageError{fmt.Errorf("missing argument (want %s %s)", cmd.CommandPath(), kind)}
		case 1:
			return nil
		}
		return noArgs(cmd, args[1:])
	}
}

// newLogger makes a logger that writes to standard error.
func newLogger(cmd *cobra.Command, level slog.Level) *slog.Logger {
	l := lifecycle{level: level}
	return l.logger(cmd)
}

// parseWait reads how long to wait: a duration, or seconds as ping takes them.
func parseWait(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil {
		d, err = time.ParseDuration(s + "s")
	}
	if err != nil || d <= 0 {
		return 0, fmt.Errorf("%q is no time (want 2s, 200ms or 0.2)", s)
	}
	return d, nil
}
