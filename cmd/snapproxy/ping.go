package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/snapproxy/snapproxy"
	"github.com/snapproxy/snapproxy/scion"
)

const (
	// pingLookup bounds the lookup of a name, and of paths.
	pingLookup = 15 * time.Second
	// pingHeader is the length of the header of an SCMP echo message.
	pingHeader = 8
	// renewBefore is how long before the path expires another is looked up,
	// renewEvery how often that is tried.
	renewBefore = 30 * time.Second
	renewEvery  = 5 * time.Second
)

// pingOptions are the flags of ping.
type pingOptions struct {
	attachOptions
	hosts    []string
	bind     netip.AddrPort
	attach   time.Duration
	level    slog.Level
	count    int
	interval time.Duration
	timeout  time.Duration
	size     int
}

func (o *pingOptions) add(fs *pflag.FlagSet) {
	addValue(fs, &o.level, "log-level", "LEVEL", "warn", "debug, info, warn or error", parseLevel)
	addValue(fs, &o.attach, "ready-timeout", "DURATION", "30s", "give up if not attached by then (0: never)", parseTimeout)
	o.attachOptions.add(fs)
	addHosts(fs, &o.hosts)
	addValue(fs, &o.bind, "bind", "IP:PORT", "", "local UDP address (default any, with the port of ADDRESS)", parseAddrPort)
	addKey(fs, new(string), "file of the private key (-: standard input; default a fresh key)")
	addShort(fs, &o.count, "count", "c", "N", "", "echo requests to send (default: until interrupted)", parseCount)
	addShort(fs, &o.interval, "interval", "i", "TIME", "1s", "time between requests, in seconds or as 200ms", parseInterval)
	addShort(fs, &o.timeout, "timeout", "W", "TIME", "2s", "time to wait for an answer", parseWait)
	addShort(fs, &o.size, "size", "s", "BYTES", "56", "payload of a request", parseSize)
}

// addShort is addValue for a flag that has a letter, too.
func addShort[T any](fs *pflag.FlagSet, to *T, name, letter, kind, preset, usage string, parse func(string) (T, error)) {
	v := &value[T]{kind: kind, parse: parse, to: to}
	if preset != "" {
		if err := v.Set(preset); err != nil {
			panic(err)
		}
	}
	fs.VarP(v, name, letter, usage)
}

func newPing() *cobra.Command {
	var o pingOptions
	cmd := &cobra.Command{
		Use:   "ping FLAGS ADDRESS|NAME",
		Short: "Send SCMP echo requests to a SCION host",
		Long: `Attach to SCION, send SCMP echo requests to a host and print what comes back,
statistics at the end or when interrupted. The path is printed first; another is
chosen with --path-policy.

  snapproxy ping --endhost-api https://api.example.org -c 4 1-ff00:0:112,10.0.0.5
  snapproxy ping --underlay udp --topology topology.json exit.example.org

An echo request is for a host, not for a port. Border routers hand it to port
30041 of the host, where a SNAP answers for all that are attached to it. A SNAP
that gets one from its own tunnels, or from another SNAP, hands it to the tunnel
with the port that the request names as identifier, and the answer comes back by
the same number. So ADDRESS with a port, which asks a host behind a SNAP itself,
works from the same port number only: ping takes it, and a NAT must not change it.

The status is 0 if there was an answer, 1 if not.`,
		Args: oneArg("ADDRESS|NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			logger := newLogger(cmd, o.level)
			network, err := o.network()
			if err != nil {
				return err
			}
			key, err := clientKey(cmd.Flags(), cmd.InOrStdin(), logger)
			if err != nil {
				return err
			}
			return o.run(cmd, snapproxy.HostConfig{NetworkConfig: network, PrivateKey: key, Logger: logger}, args[0])
		},
	}
	o.add(cmd.Flags())
	return cmd
}

func (o *pingOptions) run(cmd *cobra.Command, cfg snapproxy.HostConfig, target string) error {
	names, err := newNames(o.hosts, cfg.Logger)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	lookup, cancel := context.WithTimeout(ctx, pingLookup)
	addrs, err := lookupHost(lookup, names, target)
	cancel()
	if err != nil {
		return err
	}
	host, err := o.attachHost(ctx, cfg, addrs[0].Port)
	if err != nil {
		return err
	}
	defer host.stop()
	if err := samePort(host.Addr(), addrs[0]); err != nil {
		return err
	}
	way, err := findWay(ctx, host.Host, cfg.NetworkConfig, addrs)
	if err != nil {
		return err
	}
	if err := way.fits(o.size); err != nil {
		return err
	}
	return o.ping(ctx, host, way, cmd.OutOrStdout(), cmd.ErrOrStderr())
}

// An attachedHost is a host that runs.
type attachedHost struct {
	*snapproxy.Host
	*running
}

// attachHost attaches a host. If no local address was given, it has the port
// that is pinged, unless somebody else has that.
func (o *pingOptions) attachHost(ctx context.Context, cfg snapproxy.HostConfig, port uint16) (*attachedHost, error) {
	cfg.Bind = o.bind
	if port != 0 && o.bind.Port() == 0 {
		cfg.Bind = netip.AddrPortFrom(o.bind.Addr(), port)
		host, err := o.tryAttach(ctx, cfg)
		if !errors.Is(err, syscall.EADDRINUSE) {
			return host, err
		}
		cfg.Bind = o.bind
	}
	return o.tryAttach(ctx, cfg)
}

func (o *pingOptions) tryAttach(ctx context.Context, cfg snapproxy.HostConfig) (*attachedHost, error) {
	host, err := snapproxy.NewHost(cfg)
	if err != nil {
		return nil, err
	}
	u := role{run: host.Run, ready: host.Ready(), silent: host.Silent}.start()
	interrupted := make(chan os.Signal, 1)
	defer context.AfterFunc(ctx, func() { interrupted <- os.Interrupt })()
	if err := u.await(o.attach, interrupted, cfg.Logger); err != nil {
		u.stop()
		var sig signalError
		if errors.As(err, &sig) {
			return nil, &statusError{statusFailed, errors.New("interrupted before there was an attachment: " + host.Silent())}
		}
		if errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.EADDRINUSE) {
			err = bindError("--bind", err)
		}
		return nil, err
	}
	return &attachedHost{host, u}, nil
}

// samePort refuses a port that an echo request of ours cannot be for: it is
// delivered by its identifier, and so is the answer.
func samePort(local, to scion.Addr) error {
	if to.Port == 0 || to.Port == local.Port {
		return nil
	}
	return fmt.Errorf("ping %s: a SNAP delivers an echo request by the port number that the answer comes back to, so ours must be %d, too, but is %d (want --bind IP:%d and no NAT that changes it, or the address without a port)",
		to, to.Port, local.Port, to.Port)
}

// ping sends the requests and prints what comes of them.
func (o *pingOptions) ping(ctx context.Context, host *attachedHost, way *pingWay, out, hints io.Writer) error {
	echoes := make(chan echo, maxPingRequests)
	e := host.Echo(func(r scion.EchoReply) {
		in := echo{sequence: r.Sequence, at: time.Now(), size: r.Size, from: nameHost(r.From)}
		if r.Report != nil {
			in.problem = r.Report.String()
		}
		select {
		case echoes <- in:
		default: // the reader is stuck in a terminal
		}
	})
	defer e.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-host.done:
			cancel()
		case <-ctx.Done():
		}
	}()
	p := &pinging{
		count: o.count, interval: o.interval, timeout: o.timeout, echoes: echoes, out: out,
		send: func(sequence uint16) error { return e.Request(way.next(ctx, out), sequence, o.size) },
	}
	to := nameHost(way.to)
	fmt.Fprintf(out, "PING %s from %s: %d bytes, %d with headers\n", to, host.Addr(), o.size, way.packet(o.size))
	way.print(out)
	p.run(ctx)
	p.summary(to)
	select {
	case <-host.done:
		return host.err
	default:
	}
	if p.received > 0 {
		return nil
	}
	if p.errors == 0 && p.sent > 0 {
		hint := "a host behind a SNAP may answer only at its address with the port"
		if way.to.Port != 0 {
			hint = "behind border routers a SNAP answers for its hosts, at the address without the port"
		}
		fmt.Fprintf(hints, "snapproxy: no answer: %s (see snapproxy ping --help)\n", hint)
	}
	return &statusError{statusFailed, nil}
}

// nameHost writes an address without a port.
func nameHost(a scion.Addr) string {
	if a.Host.Is6() {
		return fmt.Sprintf("%s,[%s]", a.IA, a.Host)
	}
	return fmt.Sprintf("%s,%s", a.IA, a.Host)
}

func parseCount(s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 31)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%q is no number of requests (want 1 or more)", s)
	}
	return int(n), nil
}

// minInterval keeps ping from being a flood.
const minInterval = 10 * time.Millisecond

func parseInterval(s string) (time.Duration, error) {
	d, err := parseWait(s)
	if err == nil && d < minInterval {
		err = fmt.Errorf("%v is too short (want %v or more)", d, minInterval)
	}
	return d, err
}

func parseSize(s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil {
		return 0, fmt.Errorf("%q is no size (want 0 to 65535 bytes)", s)
	}
	return int(n), nil
}
