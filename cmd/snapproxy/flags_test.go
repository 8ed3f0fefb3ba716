package main

import (
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/snapproxy/snapproxy/tunnel/snaptun"
)

const sampleKey = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo="

// samples has a value for every flag, each another than its default.
var samples = map[string]string{
	"api":              "127.0.0.1:30042",
	"api-url":          "https://snap.example.org/",
	"api-proxy":        "socks5://proxy.example.org:1080",
	"as-hosts":         "10.0.0.0/8 fd00::/8",
	"discovery":        "https://discovery.example.org/ http://127.0.0.1:8081/",
	"endhost-api":      "https://api.example.org/ http://127.0.0.1:8080/",
	"hosts":            "hosts more.hosts",
	"insecure-api":     "true",
	"jwks":             "https://tokens.example.org/keys",
	"path-policy":      "latency",
	"revoked":          "revoked",
	"snap-host":        "snap.example.org 192.0.2.1",
	"tls-cert":         "cert.pem",
	"tls-key":          "key.pem",
	"token":            "some.token",
	"token-command":    "./token",
	"token-file":       "token",
	"token-key":        "token.pub other.pub",
	"topology":         "topology.json",
	"underlay":         "udp",
	"underlay-address": "127.0.0.2",
	"advertise":        "snap.example.org:30041",
	"allow":            "10.0.0.0/8 fd00::/8",
	"authorized-keys":  "authorized_keys",
	"bind":             "127.0.0.1:31000",
	"deny":             "192.0.2.0/24",
	"exit":             "1-ff00:0:110,127.0.0.1:31000",
	"exit-key":         sampleKey,
	"expires":          "90m",
	"forward":          "2222=host.example.org:22 tcp:127.0.0.1:0=[2001:db8::1]:80",
	"handshake-limit":  "17",
	"http":             "8080",
	"insecure-open":    "true",
	"isd-as":           "1-ff00:0:110",
	"key":              "some.key",
	"listen":           "127.0.0.1:30041",
	"log-level":        "error",
	"output":           "new.key",
	"ready-file":       "ready.line",
	"ready-timeout":    "17s",
	"signing-key":      "signing.key",
	"snap":             "127.0.0.1:30041",
	"snap-key":         sampleKey,
	"socks":            "[::1]:1081",
	"subject":          "alice",
	"users":            "users",
}

// eachSetting calls f for every flag of every command that is a setting.
func eachSetting(t *testing.T, f func(t *testing.T, command string, fl *pflag.Flag)) {
	for _, cmd := range newRoot().Commands() {
		cmd.Flags().VisitAll(func(fl *pflag.Flag) {
			if hasTwin(fl) {
				t.Run(cmd.Name()+"/"+fl.Name, func(t *testing.T) { f(t, cmd.Name(), fl) })
			}
		})
	}
}

func TestEveryFlagHasAnEnvironmentTwin(t *testing.T) {
	unused := map[string]bool{}
	for name := range samples {
		unused[name] = true
	}
	eachSetting(t, func(t *testing.T, command string, fl *pflag.Flag) {
		sample, ok := samples[fl.Name]
		if !ok {
			t.Fatalf("no sample for --%s", fl.Name)
		}
		delete(unused, fl.Name)
		if sample == fl.DefValue {
			t.Fatalf("the sample %q is the default", sample)
		}
		t.Setenv(variable(fl.Name), sample)
		cmd := findCmd(t, command)
		if err := applyEnvironment(cmd); err != nil {
			t.Fatal(err)
		}
		got := cmd.Flags().Lookup(fl.Name)
		if !got.Changed || got.Value.String() != sample {
			t.Errorf("%s=%s sets --%s to %q", variable(fl.Name), sample, fl.Name, got.Value)
		}
	})
	for name := range unused {
		t.Errorf("no command has the sample's flag --%s", name)
	}
}

func TestFlagsWinOverTheEnvironment(t *testing.T) {
	eachSetting(t, func(t *testing.T, command string, fl *pflag.Flag) {
		t.Setenv(variable(fl.Name), "!") // no flag takes it
		cmd := findCmd(t, command)
		if err := cmd.ParseFlags(sampleArgs(fl.Name)); err != nil {
			t.Fatal(err)
		}
		if err := applyEnvironment(cmd); err != nil {
			t.Fatal(err)
		}
		if got := cmd.Flags().Lookup(fl.Name).Value.String(); got != samples[fl.Name] {
			t.Errorf("--%s is %q, want the flag's %q", fl.Name, got, samples[fl.Name])
		}
	})
}

func TestNoFlagNameEndsInPort(t *testing.T) {
	eachSetting(t, func(t *testing.T, _ string, fl *pflag.Flag) {
		if strings.HasSuffix(fl.Name, "port") {
			t.Errorf("Kubernetes sets %s for a service called snapproxy", variable(fl.Name))
		}
	})
}

func TestEmptyVariablesCountAsNone(t *testing.T) {
	for name := range samples {
		t.Setenv(variable(name), "")
	}
	cmd := findCmd(t, "client")
	if err := applyEnvironment(cmd); err != nil {
		t.Fatal(err)
	}
	cmd.Flags().Visit(func(f *pflag.Flag) { t.Errorf("--%s is set", f.Name) })
}

// TestSocksOfAnExecAround: a snapproxy inside of exec finds the URL of the
// proxy around it in the twin of --socks.
func TestSocksOfAnExecAround(t *testing.T) {
	t.Setenv("SNAPPROXY_SOCKS", "socks5h://snapproxy:secret@127.0.0.1:41000")
	cmd := findCmd(t, "client")
	if err := applyEnvironment(cmd); err != nil {
		t.Fatal(err)
	}
	if cmd.Flags().Changed("socks") {
		t.Error("the proxy's URL was taken for an address to listen on")
	}
}

// TestEveryConfigFieldIsReached holds that each field of the roles'
// configuration can be set by a flag.
func TestEveryConfigFieldIsReached(t *testing.T) {
	dir := t.TempDir()
	users := filepath.Join(dir, "users")
	if err := os.WriteFile(users, []byte("ann:secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	logger := slog.New(slog.DiscardHandler)
	key, err := snaptun.NewPrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	authorize := only(key.PublicKey())

	var client clientOptions
	fs := pflag.NewFlagSet("client", pflag.ContinueOnError)
	client.lifecycle.add(fs, "0", "info")
	client.add(fs)
	client.proxyOptions.add(fs, "127.0.0.1:0")
	client.proxyOptions.addForwards(fs)
	parse(t, fs, append(append([]string{}, notNamed...), "socks", "http", "users", "forward", "hosts")...)
	client.users = users
	cfg, err := client.config(logger)
	if err != nil {
		t.Fatal(err)
	}
	cfg.PrivateKey = key
	p, err := client.bind(logger, url.UserPassword("bob", "secret"), &cfg)
	if err != nil {
		t.Fatal(err)
	}
	p.close()
	allSet(t, cfg, "MaxConnections", "MaxPerUser", "ExitName")
	for _, user := range []string{"ann", "bob"} {
		if !cfg.Users(user, "secret") || cfg.Users(user, "other") {
			t.Errorf("user %s is not told by the password", user)
		}
	}

	var (
		snap   snapOptions
		exit   exitOptions
		attach attachOptions
		server serverOptions
	)
	fs = pflag.NewFlagSet("snap", pflag.ContinueOnError)
	snap.add(fs)
	server.add(fs)
	exit.add(fs)
	parse(t, fs)
	allSet(t, snap.config(server, key, authorize, logger), "Topology", "ASHosts", "UnderlayAddr")
	fs = pflag.NewFlagSet("exit", pflag.ContinueOnError)
	attach.add(fs)
	parse(t, fs, notNamed...)
	network, err := attach.network()
	if err != nil {
		t.Fatal(err)
	}
	allSet(t, exit.config(network, server, key, authorize, logger), "Resolver", "Page")
	allSet(t, cfg.NetworkConfig, "EndhostAPIs", "Discovery", "Token", "SNAPHosts", "APIProxy", "Direct", "Topology", "ASHosts", "Within")
}

// notNamed are the flags that do not go together with --snap.
var notNamed = []string{
	"endhost-api", "discovery", "token", "token-file", "token-command", "snap-host", "api-proxy", "underlay", "topology", "as-hosts",
}

// allSet checks that no exported field of a configuration is zero but those named.
func allSet(t *testing.T, cfg any, except ...string) {
	t.Helper()
	v := reflect.ValueOf(cfg)
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		if !v.Type().Field(i).IsExported() {
			continue
		}
		if v.Field(i).IsZero() != slices.Contains(except, name) {
			t.Errorf("%T.%s is %v", cfg, name, v.Field(i))
		}
	}
}

// parse gives a flag set the samples of all its flags but those named.
func parse(t *testing.T, fs *pflag.FlagSet, except ...string) {
	t.Helper()
	var args []string
	fs.VisitAll(func(f *pflag.Flag) {
		if !slices.Contains(except, f.Name) {
			args = append(args, sampleArgs(f.Name)...)
		}
	})
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
}

// sampleArgs is the sample of a flag as on a command line.
func sampleArgs(name string) []string {
	var args []string
	for _, v := range strings.Fields(samples[name]) {
		args = append(args, "--"+name+"="+v)
	}
	return args
}

func findCmd(t *testing.T, name string) *cobra.Command {
	t.Helper()
	cmd, _, err := newRoot().Find([]string{name})
	if err != nil {
		t.Fatal(err)
	}
	return cmd
}
