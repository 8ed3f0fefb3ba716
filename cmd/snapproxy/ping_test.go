package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/snapproxy/snapproxy"
	"github.com/snapproxy/snapproxy/scion"
	"github.com/snapproxy/snapproxy/tunnel/snaptun"
)

// TestPingThroughASNAP pings a host on the same SNAP, which is reached from its
// own port number alone.
func TestPingThroughASNAP(t *testing.T) {
	snap, target := pingNetwork(t)
	port := target.Port
	hosts := filepath.Join(t.TempDir(), "hosts")
	if err := os.WriteFile(hosts, fmt.Appendf(nil, "%s,%s far\n", target.IA, target.Host), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		args   []string
		out    string // in standard output
		errors string // in what is said of the failure
	}{
		{name: "same port", args: []string{"-c", "3", "-i", "10ms", target.String()}, out: "3 packets transmitted, 3 received, 0% packet loss"},
		{name: "by name", args: []string{"-c", "1", "--hosts", hosts, fmt.Sprintf("far:%d", port)}, out: "100 bytes from 1-ff00:0:110,127.0.0.1: seq=1 time="},
		{name: "given port", args: []string{"-c", "1", "--bind", fmt.Sprintf("127.0.0.2:%d", port), target.String()}, out: ", 1 received"},
		{name: "size", args: []string{"-c", "1", "-s", "1300", target.String()}, out: "1344 bytes from"},
		{name: "other port", args: []string{"-c", "1", "--bind", fmt.Sprintf("127.0.0.2:%d", port), "1-ff00:0:110,127.0.0.1:1"}, errors: "a SNAP delivers an echo request by the port number"},
		{name: "too large", args: []string{"-s", "1397", target.String()}, errors: "--size: 1397 bytes make a packet of 1441, and the path takes 1440 (want at most 1396)"},
		{name: "nobody", args: []string{"-c", "1", "-W", "10ms", "--bind", "127.0.0.2:0", "1-ff00:0:110,127.0.0.9"}, out: "seq=1 destination unreachable: no host", errors: "status 1"},
		{name: "other AS", args: []string{"-c", "1", "1-ff00:0:112,127.0.0.9"}, errors: "no path to 1-ff00:0:112"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			args := append([]string{"ping", "--bind", "127.0.0.2:0"}, strings.Fields(snap)...)
			out, errs, err := execute(append(args, tt.args...)...)
			if !strings.Contains(out, tt.out) || (err == nil) != (tt.errors == "") || err != nil && !strings.Contains(err.Error(), tt.errors) {
				t.Errorf("%v, want %q\n%s%s\nwant %q", err, tt.errors, out, errs, tt.out)
			}
		})
	}
}

// execute runs a command line in this process.
func execute(args ...string) (out, errs string, err error) {
	var stdout, stderr bytes.Buffer
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(&stdout)
	root.SetErr(&stderr)
	err = root.Execute()
	return stdout.String(), stderr.String(), err
}

// pingNetwork runs a SNAP with a host on it. It returns the SNAP's ready line
// and the address of the host.
func pingNetwork(t *testing.T) (line string, target scion.Addr) {
	t.Helper()
	loopback := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 0)
	key, err := snaptun.NewPrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	snap, err := snapproxy.NewSNAP(snapproxy.SNAPConfig{
		IA: mustIA(t, "1-ff00:0:110"), Listen: loopback, PrivateKey: key,
		Authorize: func(snaptun.PublicKey, time.Time) bool { return true },
	})
	if err != nil {
		t.Fatal(err)
	}
	runUntilCleanup(t, snap.Run)
	host, err := snapproxy.NewHost(snapproxy.HostConfig{NetworkConfig: snapproxy.NetworkConfig{
		SNAP: snap.Addr().String(), SNAPKey: snap.PublicKey(), IA: mustIA(t, "1-ff00:0:110"), Bind: loopback,
	}})
	if err != nil {
		t.Fatal(err)
	}
	runUntilCleanup(t, host.Run)
	<-host.Ready()
	target = host.Addr()
	// ping takes the same port of another loopback address; not every system has one.
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 2), Port: int(target.Port)})
	if err != nil {
		t.Skip(err)
	}
	c.Close()
	return fmt.Sprintf("--snap %s --snap-key %s --isd-as 1-ff00:0:110", snap.Addr(), snap.PublicKey()), target
}

func runUntilCleanup(t *testing.T, run func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
