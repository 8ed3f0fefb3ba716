package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// run is the whole program; it returns the exit status.
func run(args []string) int {
	root := newRoot()
	root.SetArgs(args)
	status, line := outcome(root.Execute())
	if line != "" {
		root.PrintErrln(line)
	}
	return status
}

// newRoot makes the command line.
func newRoot() *cobra.Command {
	var asksVersion bool
	root := &cobra.Command{
		Use:   "snapproxy",
		Short: "SOCKS5 and HTTP proxies over a SCION network, without any privilege",
		Long: `snapproxy joins a SCION network through a SNAP and gives programs a SOCKS5 and an
HTTP proxy. It is also the SNAP, and the exit that reaches the proxies' targets.

Every flag has an environment twin: --snap-key is SNAPPROXY_SNAP_KEY. Flags win.
SNAPPROXY_PRIVATE_KEY is the private key itself.`,
		SilenceErrors:      true,
		SilenceUsage:       true,
		DisableSuggestions: true,
		CompletionOptions:  cobra.CompletionOptions{HiddenDefaultCmd: true},
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 && !asksVersion {
				return &usageError{fmt.Errorf("unknown command %q (see snapproxy --help)", args[0])}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			if asksVersion {
				fmt.Fprintln(cmd.OutOrStdout(), version())
				return nil
			}
			return cmd.Help()
		},
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if asksVersion {
				return nil
			}
			return applyEnvironment(cmd)
		},
	}
	// Not Version and a template of cobra's: text/template can call any method by
	// its name, so the linker would keep those of every type.
	root.Flags().BoolVarP(&asksVersion, "version", "v", false, "version for snapproxy")
	root.SetFlagErrorFunc(flagError)
	root.AddCommand(newClient(), newExec(), newSNAP(), newExit(), newServe(), newDemo(), newKeygen(), newPubkey(), newToken(), newPaths(), newPing(),
		&cobra.Command{
			Use:   "version",
			Short: "Print the version",
			Args:  noArgs,
			Run:   func(cmd *cobra.Command, _ []string) { fmt.Fprintln(cmd.OutOrStdout(), version()) },
		})
	return root
}

// noArgs is for commands that take flags only.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return &usageError{fmt.Errorf("unexpected argument %q (see %s --help)", args[0], cmd.CommandPath())}
	}
	return nil
}

// version is the line that says which build this is.
func version() string {
	v := "(devel)"
	if build, ok := debug.ReadBuildInfo(); ok && build.Main.Version != "" {
		v = build.Main.Version
	}
	return fmt.Sprintf("snapproxy %s %s %s/%s", v, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
