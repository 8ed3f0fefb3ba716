//go:build linux

package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/snapproxy/snapproxy/tunnel/snaptun"
)

// gatewayBuild builds the peer of the SNAP.
const gatewayBuild = "test/interop/pocketscion/build"

// gatewayRates are how many packets are sent in a second; 0 is as many as go.
var gatewayRates = []int{20000, 60000, 100000, 200000, 0}

// gateway compares the SNAP with the gateway of the SDK in Rust: packets from
// one of two tunnels to the other.
func (b *bench) gateway() error {
	program, err := b.gatewayProgram()
	if err != nil {
		b.report.skip("Rust gateway", err.Error())
	}
	couriers := map[*system]*courier{}
	var all []*system
	defer func() {
		for _, s := range all {
			if c := couriers[s]; c != nil {
				c.close()
			}
			s.close()
		}
	}()
	starts := []func([]snaptun.PrivateKey) (*system, netip.AddrPort, snaptun.PublicKey, error){b.newSNAP}
	if program != "" {
		starts = append(starts, func([]snaptun.PrivateKey) (*system, netip.AddrPort, snaptun.PublicKey, error) {
			return b.newGateway(program)
		})
	}
	for _, start := range starts {
		var keys [2]snaptun.PrivateKey
		for i := range keys {
			if keys[i], err = snaptun.NewPrivateKey(); err != nil {
				return err
			}
		}
		s, addr, key, err := start(keys[:])
		if err != nil {
			return err
		}
		all = append(all, s)
		if couriers[s], err = newCourier(b.ctx, addr, key, keys[:], s.all[0].pid()); err != nil {
			return fmt.Errorf("%s: %w", s.name, errors.Join(err, s.alive()))
		}
	}
	for _, rate := range gatewayRates {
		n := b.plan.gatewayFlood
		if rate > 0 {
			n = int(float64(rate) * b.plan.gateway.Seconds())
		}
		err := b.turns(b.plan.rounds, all, func(s *system) error {
			return b.carry(couriers[s], s, gatewayScenario(rate), n, rate, false)
		})
		if err != nil {
			return err
		}
	}
	// The gateway cannot take bursts: its buffers are too small for them.
	return b.turns(b.plan.slowRounds, all[:1], func(s *system) error {
		return b.carry(couriers[s], s, gatewayScenario(0)+" in bursts", b.plan.gatewayFlood, 0, true)
	})
}

// carry has packets carried and notes what became of them.
func (b *bench) carry(c *courier, s *system, scenario string, n, rate int, bursts bool) error {
	d, err := c.carry(b.ctx, n, rate, bursts)
	if err != nil {
		return fmt.Errorf("%s, %s: %w", scenario, s.name, errors.Join(err, s.alive()))
	}
	b.report.add(scenario, "offered", "packets/s", s.name, d.offered)
	b.report.add(scenario, "delivered", "packets/s", s.name, d.delivered)
	b.report.add(scenario, "lost", "%", s.name, 100*(1-float64(d.arrived)/float64(d.sent)))
	b.report.add(scenario, "CPU per packet", "us", s.name, d.perPacket*1e6)
	return nil
}

// newSNAP starts a SNAP of ours.
func (b *bench) newSNAP(keys []snaptun.PrivateKey) (*system, netip.AddrPort, snaptun.PublicKey, error) {
	snap, addr, key, err := b.startSNAP(keys)
	if err != nil {
		return nil, addr, key, err
	}
	return &system{name: "SNAP", all: []*child{snap}}, addr, key, nil
}

// newGateway starts the gateway, which lets everybody in.
func (b *bench) newGateway(program string) (*system, netip.AddrPort, snaptun.PublicKey, error) {
	c, err := launch("gateway", nil, program, "gateway", "--isd-as", isdAS)
	if err != nil {
		return nil, netip.AddrPort{}, snaptun.PublicKey{}, err
	}
	addr, key, err := attachment(strings.Fields(c.line))
	if err != nil {
		c.end()
		return nil, addr, key, err
	}
	return &system{name: rustGateway, all: []*child{c}}, addr, key, nil
}

// gatewayProgram is the program of the Rust peers, if it has been built.
func (b *bench) gatewayProgram() (string, error) {
	missing := errors.New("not built; " + gatewayBuild + " does it, in ten minutes")
	out, err := exec.CommandContext(b.ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/snapproxy/snapproxy").Output()
	if err != nil {
		return "", missing
	}
	// As the script that builds it names it.
	lock, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(out)), filepath.Dir(gatewayBuild), "Cargo.lock"))
	if err != nil {
		return "", missing
	}
	cache := os.Getenv("XDG_CACHE_HOME")
	if cache == "" {
		cache = filepath.Join(os.Getenv("HOME"), ".cache")
	}
	name := filepath.Join(cache, "snapproxy", fmt.Sprintf("interop-pocketscion-%.6x", sha256.Sum256(lock)), "release", "interop")
	if _, err := os.Stat(name); err != nil {
		return "", missing
	}
	return name, nil
}
