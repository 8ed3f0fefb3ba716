package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func newExec() *cobra.Command {
	var o clientOptions
	cmd := &cobra.Command{
		Use:   "exec FLAGS -- CMD [ARG]...",
		Short: "Run a command with proxies of its own",
		Long: `Run a command with proxies of its own, and end as it does.

ALL_PROXY, HTTPS_PROXY and HTTP_PROXY, upper and lower case, are the http:// URL
of the proxy, SNAPPROXY_SOCKS is its socks5h:// URL, and NO_PROXY names loopback
only. Unless addresses to listen on are given, the URLs hold a password that
nobody else knows. The private key never reaches the command.

SIGTERM and SIGHUP are passed on to the command. So is SIGINT, unless snapproxy
is in the terminal's foreground: then the terminal has sent it to both. The
second signal that is passed on kills the command.

The status is the command's, 128 + n if signal n ended it, 125 if there was no
tunnel for it, 126 if it could not be run and 127 if it was not found.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return &usageError{errors.New("no command to run (want snapproxy exec FLAGS -- CMD)")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			logger := o.logger(cmd)
			cfg, err := o.config(logger)
			if err != nil {
				return err
			}
			if err := findCommand(args[0]); err != nil {
				return err
			}
			if cfg.PrivateKey, err = clientKey(cmd.Flags(), nil, logger); err != nil {
				return noTunnel(err)
			}
			p, err := o.openProxy(cfg, o.credential())
			if err != nil {
				return noTunnel(err)
			}
			return o.runCommand(args, p, p.role(), logger)
		},
	}
	fs := cmd.Flags()
	fs.SetInterspersed(false)
	o.lifecycle.add(fs, "30s", "warn")
	o.add(fs)
	addKey(fs, new(string), "file of the private key (default a fresh key)")
	o.proxyOptions.add(fs, "127.0.0.1:0")
	o.proxyOptions.addForwards(fs)
	return cmd
}

// credential is the user of a command's proxy URLs. A proxy on an address that
// the user gave has none, unless it asks for one.
func (o *proxyOptions) credential() *url.Userinfo {
	if o.addressed() && o.users == "" {
		return nil
	}
	return newCredential()
}

// noTunnel is the failure of a command that was not run for want of a tunnel.
func noTunnel(err error) error { return &statusError{statusNoTunnel, err} }

// findCommand refuses a command that cannot be run before a tunnel is made
// for it.
func findCommand(name string) error {
	_, err := exec.LookPath(name)
	return commandError(err)
}

// commandError is the failure to start a command; err may be nil.
func commandError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, os.ErrNotExist):
		return &statusError{statusNotFound, err}
	}
	return &statusError{statusCannotRun, err}
}

// runCommand runs a command while r, whose proxy is p, stands, and ends as it
// does.
func (o *lifecycle) runCommand(argv []string, p *proxy, r role, logger *slog.Logger) error {
	signals := make(chan os.Signal, 16)
	for _, s := range commandSignals {
		// What our caller ignores, as nohup does, we and the command ignore too.
		if !signal.Ignored(s) {
			signal.Notify(signals, s)
		}
	}
	defer signal.Stop(signals)
	file, err := newReadyFile(o.readyFile)
	if err != nil {
		p.close()
		return noTunnel(err)
	}
	defer file.remove()
	u := r.start()
	defer u.stop()
	if err := u.await(o.readyTimeout, signals, logger); err != nil {
		var sig signalError
		if errors.As(err, &sig) {
			return &statusError{signalStatus(sig.Signal), nil}
		}
		return noTunnel(err)
	}
	if err := file.write(r.line(), readyMode(p)); err != nil {
		return noTunnel(err)
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = p.environ(os.Environ())
	if err := cmd.Start(); err != nil {
		return commandError(err)
	}
	return waitCommand(cmd, u, signals, logger)
}

// readyMode keeps the password in the ready line of a command's proxy from
// others.
func readyMode(p *proxy) os.FileMode {
	if p.user != nil {
		return 0o600
	}
	return 0o666
}

// commandSignals are passed on to a command. The terminal sends the last two
// to the command as well.
var commandSignals = []os.Signal{syscall.SIGTERM, syscall.SIGHUP, os.Interrupt, syscall.SIGQUIT}

// waitCommand passes signals on until the command ends.
func waitCommand(cmd *exec.Cmd, u *running, signals <-chan os.Signal, logger *slog.Logger) error {
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	var failed error // of the tunnel
	down := u.done
	passed := 0
	for {
		select {
		case err := <-ended:
			if failed != nil {
				return noTunnel(failed)
			}
			return commandStatus(cmd, err)
		case <-down:
			down = nil
			failed = fmt.Errorf("tunnel ended while the command ran: %w", u.err)
			logger.Error("tunnel ended, ending the command", "error", u.err)
			terminate(cmd.Process)
		case sig := <-signals:
			if (sig == os.Interrupt || sig == syscall.SIGQUIT) && sentByTerminal() {
				continue
			}
			passed++
			if passed > 1 {
				cmd.Process.Kill()
			} else if err := cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
				terminate(cmd.Process)
			}
		}
	}
}

// terminate asks a process to end, or ends it where one cannot ask.
func terminate(p *os.Process) {
	if err := p.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.Kill()
	}
}

// commandStatus makes our exit status of how a command ended.
func commandStatus(cmd *exec.Cmd, err error) error {
	var exited *exec.ExitError
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &exited):
		return &statusError{statusCannotRun, err}
	}
	if ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return &statusError{signalStatus(ws.Signal()), nil}
	}
	return &statusError{exited.ExitCode(), nil}
}

// signalStatus is the status by which shells tell of a signal.
func signalStatus(s os.Signal) int {
	if n, ok := s.(syscall.Signal); ok {
		return statusSignalFirst + int(n)
	}
	return statusFailed
}
