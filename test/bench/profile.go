//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"strings"
	"time"

	"github.com/snapproxy/snapproxy"
	"github.com/snapproxy/snapproxy/scion"
	"github.com/snapproxy/snapproxy/tunnel/snaptun"
)

// A roleConfig is a role of the product as a part of the bench, which can be
// profiled, as the product cannot.
type roleConfig struct {
	Role     string // snap, exit, client or serve
	Key      []byte
	SNAP     netip.AddrPort
	SNAPKey  []byte
	Exit     string
	ExitKey  []byte
	CPU      string // file for the profile of the CPU; none: nothing is profiled
	Allocs   string // file for that of the allocations
	Counters string // file for the counters of the role
}

// A roleReady is its ready line.
type roleReady struct {
	SNAP  netip.AddrPort
	Exit  string
	SOCKS netip.AddrPort
}

func init() { parts["role"] = runRole }

func runRole(config json.RawMessage, ready func(any), done <-chan struct{}) error {
	var cfg roleConfig
	if err := json.Unmarshal(config, &cfg); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan error, 3)
	say, count, err := startRole(ctx, cfg, ended)
	if err != nil {
		return err
	}
	if cfg.CPU == "" {
		ready(say)
		select {
		case <-done:
			return nil
		case err := <-ended:
			return errors.Join(err, errors.New("the role has ended"))
		}
	}
	runtime.MemProfileRate = 64 << 10
	cpu, err := os.Create(cfg.CPU)
	if err != nil {
		return err
	}
	defer cpu.Close()
	if err := pprof.StartCPUProfile(cpu); err != nil {
		return err
	}
	ready(say)
	select {
	case <-done:
	case err := <-ended:
		return errors.Join(err, errors.New("the role has ended"))
	}
	pprof.StopCPUProfile()
	allocs, err := os.Create(cfg.Allocs)
	if err != nil {
		return err
	}
	defer allocs.Close()
	counters, err := json.MarshalIndent(count(), "", "\t")
	if err != nil {
		return err
	}
	return errors.Join(pprof.Lookup("allocs").WriteTo(allocs, 0), os.WriteFile(cfg.Counters, counters, 0o644))
}

// startRole starts what a command of the product does. count returns the
// counters.
func startRole(ctx context.Context, cfg roleConfig, ended chan error) (say roleReady, count func() map[string]uint64, err error) {
	ia, err := scion.ParseIA(isdAS)
	if err != nil {
		return say, nil, err
	}
	key := snaptun.PrivateKey(cfg.Key)
	all := func(snaptun.PublicKey, time.Time) bool { return true }
	wait := func(up <-chan struct{}) error {
		select {
		case <-up:
			return nil
		case err := <-ended:
			return errors.Join(err, errors.New("the role has ended"))
		case <-time.After(readyPatience):
			return errors.New("the role is not ready")
		}
	}
	network := snapproxy.NetworkConfig{SNAP: cfg.SNAP.String(), IA: ia}
	copy(network.SNAPKey[:], cfg.SNAPKey)
	if cfg.Role == "snap" || cfg.Role == "serve" {
		snap, err := snapproxy.NewSNAP(snapproxy.SNAPConfig{IA: ia, Listen: netip.AddrPortFrom(loopback, 0), PrivateKey: key, Authorize: all})
		if err != nil {
			return say, nil, err
		}
		go func() { ended <- snap.Run(ctx) }()
		say.SNAP, count = snap.Addr(), snap.Counters
		if cfg.Role == "serve" {
			network = snapproxy.NetworkConfig{Within: snap}
		}
	}
	if cfg.Role == "exit" || cfg.Role == "serve" {
		exit, err := snapproxy.NewExit(snapproxy.ExitConfig{NetworkConfig: network, PrivateKey: key, Authorize: all,
			Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
		if err != nil {
			return say, nil, err
		}
		go func() { ended <- exit.Run(ctx) }()
		if err := wait(exit.Ready()); err != nil {
			return say, nil, err
		}
		say.Exit, count = exit.Addr().String(), exit.Counters
	}
	if cfg.Role == "client" {
		client := snapproxy.ClientConfig{NetworkConfig: network, PrivateKey: key}
		copy(client.ExitKey[:], cfg.ExitKey)
		if client.Exit, err = scion.ParseAddr(cfg.Exit); err != nil {
			return say, nil, err
		}
		c, err := snapproxy.NewClient(client)
		if err != nil {
			return say, nil, err
		}
		go func() { ended <- c.Run(ctx) }()
		if err := wait(c.Ready()); err != nil {
			return say, nil, err
		}
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			return say, nil, err
		}
		go func() { ended <- c.ServeProxy(ctx, l) }()
		count = c.Counters
		say.SOCKS = l.Addr().(*net.TCPAddr).AddrPort()
	}
	return say, count, nil
}

// profiled are the systems that are profiled: SNAP and exit as processes of their
// own, or as one.
var profiled = []struct {
	name  string
	roles []string
}{
	{"", []string{"client", "snap", "exit"}},
	{"serve-", []string{"client", "serve"}},
}

// newProfiled starts SNAP and exit, in one process or two, and a client, each
// with a profile in dir that is written when it ends, unless dir is "".
func newProfiled(b *bench, dir, prefix string, within bool) (s *system, err error) {
	s = &system{name: "profiled", target: loopback}
	defer s.closeIf(&err)
	var keys [3]snaptun.PrivateKey
	var public [3][]byte
	for i := range keys {
		if keys[i], err = snaptun.NewPrivateKey(); err != nil {
			return nil, err
		}
		k := keys[i].PublicKey()
		public[i] = k[:]
	}
	config := func(role string, key snaptun.PrivateKey) roleConfig {
		cfg := roleConfig{Role: role, Key: key[:], SNAPKey: public[0], ExitKey: public[1]}
		if dir != "" {
			cfg.CPU, cfg.Allocs = filepath.Join(dir, prefix+role+".cpu"), filepath.Join(dir, prefix+role+".allocs")
			cfg.Counters = filepath.Join(dir, prefix+role+".json")
		}
		return cfg
	}
	var snap, exit, client roleReady
	if within {
		if err := s.startPart("serve", "role", config("serve", keys[0]), &snap); err != nil {
			return nil, err
		}
		exit, public[1] = snap, public[0]
	} else {
		if err := s.startPart("snap", "role", config("snap", keys[0]), &snap); err != nil {
			return nil, err
		}
		cfg := config("exit", keys[1])
		cfg.SNAP = snap.SNAP
		if err := s.startPart("exit", "role", cfg, &exit); err != nil {
			return nil, err
		}
	}
	cfg := config("client", keys[2])
	cfg.SNAP, cfg.Exit = snap.SNAP, exit.Exit
	if err := s.startPart("client", "role", cfg, &client); err != nil {
		return nil, err
	}
	s.socks = client.SOCKS.String()
	return s, s.warm(b)
}

// profile writes profiles of the roles while one stream goes each way, and while
// connections are made, and prints what costs most.
func (b *bench) profile(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, load := range []struct {
		name string
		run  func(*system) error
	}{
		{"download", func(s *system) error { return b.profileStream(s, download) }},
		{"upload", func(s *system) error { return b.profileStream(s, upload) }},
		{"connect", func(s *system) error {
			took, err := b.latencies(s, b.plan.slowStream)
			ms := milliseconds(took)
			fmt.Printf("connect: %d connections, first byte p50 %s ms, p99 %s ms\n", len(took), number(quantile(ms, .5)), number(quantile(ms, .99)))
			return err
		}},
	} {
		for _, p := range profiled {
			prefix := p.name + load.name + "-"
			fmt.Printf("\n%s\n", strings.TrimSuffix(prefix, "-"))
			s, err := newProfiled(b, dir, prefix, p.name != "")
			if err != nil {
				return err
			}
			err = load.run(s)
			s.close()
			if err != nil {
				return err
			}
			for _, role := range p.roles {
				file := filepath.Join(dir, prefix+role+".cpu")
				out, err := exec.CommandContext(b.ctx, "go", "tool", "pprof", "-top", "-nodecount", "25", file).Output()
				if err != nil {
					return fmt.Errorf("go tool pprof %s: %w", file, err)
				}
				fmt.Printf("\n%s\n%s", file, out)
			}
		}
	}
	return nil
}

func (b *bench) profileStream(s *system, dir request) error {
	f, err := b.stream(s, dir, 1, b.plan.warmup, 2*b.plan.slowStream)
	if err != nil {
		return err
	}
	fmt.Printf("%c: %s Gbit/s, %s CPU-s/GB\n", dir, number(f.gbit()), number(f.whole()))
	for _, c := range s.roles() {
		fmt.Printf("  %s %s CPU-s/GB\n", c.name, number(f.perGB(c.name)))
	}
	return nil
}
