package main

import (
	"log/slog"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

const (
	// variablePrefix begins the name of every variable that is ours.
	variablePrefix = "SNAPPROXY_"
	// privateKeyVariable holds a private key itself, not the name of a file.
	privateKeyVariable = variablePrefix + "PRIVATE_KEY"
	// socksVariable is the twin of --socks, and also where exec puts the
	// socks5h:// URL of its proxy.
	socksVariable = variablePrefix + "SOCKS"
	// isAction annotates a flag that chooses what a command does. Its name may
	// be that of another command's setting.
	isAction = "snapproxy_is_action"
	// fromVariable annotates a flag that was set by its environment twin.
	fromVariable = "snapproxy_from_variable"
)

// variable is the name of the environment twin of a flag.
func variable(flag string) string {
	return variablePrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// hasTwin reports whether a flag is a setting. Help and version are actions.
func hasTwin(f *pflag.Flag) bool {
	return f.Name != "help" && f.Name != "version" && f.Annotations[isAction] == nil
}

// A repeatable is the value of a flag that may be given several times.
type repeatable interface{ repeatable() }

// applyEnvironment sets the flags that were not given from their environment
// twins. An empty variable counts as none.
func applyEnvironment(cmd *cobra.Command) (err error) {
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		text := os.Getenv(variable(f.Name))
		if err != nil || f.Changed || text == "" || !hasTwin(f) {
			return
		}
		// Inside of exec the variable is the proxy's URL, which is not meant
		// for the flag of another snapproxy.
		if variable(f.Name) == socksVariable && strings.HasPrefix(text, socksScheme+"://") {
			return
		}
		texts := []string{text}
		if _, ok := f.Value.(repeatable); ok {
			texts = strings.Fields(text)
		}
		for _, t := range texts {
			if e := f.Value.Set(t); e != nil {
				err = &usageError{&settingError{variable(f.Name), e}}
				return
			}
		}
		f.Changed = true
		cmd.Flags().SetAnnotation(f.Name, fromVariable, []string{variable(f.Name)})
	})
	return err
}

// given is a flag's name as the user gave it.
func given(f *pflag.Flag) string {
	if from := f.Annotations[fromVariable]; from != nil {
		return from[0]
	}
	return "--" + f.Name
}

// require returns an error for the first of the named flags that was not given.
func require(fs *pflag.FlagSet, names ...string) error {
	for _, name := range names {
		if f := fs.Lookup(name); !f.Changed {
			return missing(f)
		}
	}
	return nil
}

// warnUnknownVariables warns of variables with our prefix that no command
// knows. They are no errors: Kubernetes sets some for a service of our name.
func warnUnknownVariables(root *cobra.Command, environ []string, logger *slog.Logger) {
	known := []string{privateKeyVariable}
	for _, cmd := range root.Commands() {
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if hasTwin(f) {
				known = append(known, variable(f.Name))
			}
		})
	}
	for _, entry := range environ {
		name, _, _ := strings.Cut(entry, "=")
		if strings.HasPrefix(name, variablePrefix) && !slices.Contains(known, name) {
			logger.Warn("unknown environment variable", "name", name)
		}
	}
}
