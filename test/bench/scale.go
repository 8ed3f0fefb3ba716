//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/net/ipv4"

	"github.com/snapproxy/snapproxy/scion"
	"github.com/snapproxy/snapproxy/tunnel/snaptun"
)

const (
	// swarmPacket is the size of SCION packets between tunnels.
	swarmPacket = 1244
	// swarmRate is how many of them are sent in a second to see what one costs.
	// The cost is of CPU time, so it is the same rate for all numbers of tunnels.
	swarmRate = 20000
	// floodPackets are sent as fast as they go, sealed before.
	floodPackets = 60000
	// snapExchanges is the X25519 operations of a SNAP for a handshake with a
	// stranger, one of them with the fixed point.
	snapExchanges = 5
)

// scale attaches many tunnels to a SNAP.
func (b *bench) scale() error {
	dh, base, err := exchangeFloor(b.plan.floor)
	if err != nil {
		return err
	}
	floor := 1 / ((snapExchanges-1)*dh + base)
	var few float64
	for i, n := range b.plan.tunnels {
		perPacket, err := b.scaleTo(n, floor)
		if err != nil {
			return fmt.Errorf("%d tunnels: %w", n, err)
		}
		if i == 0 {
			few = perPacket
		}
		b.report.add(tunnelScenario(n), fmt.Sprintf("CPU per packet to %d", b.plan.tunnels[0]), "x", "separate", perPacket/few)
		fmt.Fprint(os.Stderr, ".")
	}
	return nil
}

// scaleTo attaches n tunnels to a SNAP of their own. It returns the CPU seconds
// of a packet.
func (b *bench) scaleTo(n int, floor float64) (perPacket float64, err error) {
	swarm, keys, err := newSwarm(n)
	if err != nil {
		return 0, err
	}
	defer swarm.close()
	snap, addr, key, err := b.startSNAP(keys)
	if err != nil {
		return 0, err
	}
	defer snap.end()
	scenario := tunnelScenario(n)
	add := func(metric, unit string, v float64) { b.report.add(scenario, metric, unit, "separate", v) }

	pid := snap.pid()
	b.sleep(time.Second)
	empty, _, err := memory(pid)
	if err != nil {
		return 0, err
	}
	before := ranFor(pid)
	if err := swarm.connect(b.ctx, addr, key, keys); err != nil {
		return 0, errors.Join(err, snap.alive())
	}
	if err := swarm.live(b.ctx, 100*time.Millisecond); err != nil { // the last confirmations
		return 0, err
	}
	if n >= 1000 { // else the clock is too coarse, and the rest of the SNAP counts
		rate := float64(n) / (ranFor(pid) - before).Seconds()
		add("handshakes per core-second", "1/s", rate)
		add("handshakes to floor", "x", rate/floor)
		b.report.add("SNAP", "handshakes to floor", "x", "separate", rate/floor)
		full, _, err := memory(pid)
		if err != nil {
			return 0, err
		}
		add("memory per tunnel", "KB", float64(full-empty)/float64(n)/1000)
	}
	rng := rand.New(rand.NewPCG(1, uint64(n)))
	var costs []float64
	for range b.plan.packetRounds {
		cost, lost, err := b.packets(swarm, pid, rng)
		if err != nil {
			return 0, errors.Join(err, snap.alive())
		}
		costs = append(costs, cost)
		add("CPU per packet", "us", cost*1e6)
		add("packets lost", "%", 100*lost)
	}
	before = ranFor(pid)
	begin := time.Now()
	if err := swarm.live(b.ctx, b.plan.idle/2); err != nil {
		return 0, err
	}
	add("share of a core when idle", "%", 100*(ranFor(pid)-before).Seconds()/time.Since(begin).Seconds())
	if n == b.plan.tunnels[0] {
		for range b.plan.packetRounds {
			rate, cost, err := b.flood(swarm, pid, rng)
			if err != nil {
				return 0, errors.Join(err, snap.alive())
			}
			add("packets when flooded", "1/s", rate)
			add("CPU per packet when flooded", "us", cost*1e6)
		}
	}
	add("other messages", "", float64(swarm.counts.others))
	return quantile(costs, .5), snap.alive()
}

// startSNAP starts a SNAP that knows the keys.
func (b *bench) startSNAP(keys []snaptun.PrivateKey) (snap *child, addr netip.AddrPort, key snaptun.PublicKey, err error) {
	r, err := newRing(b, "snap")
	if err != nil {
		return nil, addr, key, err
	}
	var all bytes.Buffer
	for _, k := range keys {
		fmt.Fprintln(&all, k.PublicKey())
	}
	file := filepath.Join(r.dir, "tunnels")
	if err := os.WriteFile(file, all.Bytes(), 0o600); err != nil {
		return nil, addr, key, err
	}
	s := &system{name: "snap"}
	line, err := s.start(b, "snap", "--isd-as", isdAS, "--listen", "127.0.0.1:0", "--key", r.file("snap"),
		"--authorized-keys", file, "--handshake-limit", "1000000", "--log-level", "warn")
	if err != nil {
		return nil, addr, key, err
	}
	snap = s.all[0]
	defer func() {
		if err != nil {
			snap.end()
		}
	}()
	addr, key, err = attachment(line)
	return snap, addr, key, err
}

// attachment is where a ready line says that a SNAP is, and its key.
func attachment(line []string) (addr netip.AddrPort, key snaptun.PublicKey, err error) {
	at, of := slices.Index(line, "--snap")+1, slices.Index(line, "--snap-key")+1
	if at == 0 || of == 0 || max(at, of) == len(line) {
		return addr, key, fmt.Errorf("ready line of a SNAP: %q", line)
	}
	if addr, err = netip.ParseAddrPort(line[at]); err != nil {
		return addr, key, err
	}
	key, err = snaptun.ParsePublicKey(line[of])
	return addr, key, err
}

// sealed is a packet from one tunnel to another, drawn by rng.
func (s *swarm) sealed(rng *rand.Rand, payload []byte) (*swarmTunnel, []byte, error) {
	from, to := s.tunnels[rng.IntN(len(s.tunnels))], s.tunnels[rng.IntN(len(s.tunnels))]
	packet, err := scion.AppendUDP(nil, from.addr, to.addr, payload)
	if err != nil {
		return nil, nil, err
	}
	b, err := from.session.Seal(make([]byte, 0, len(packet)+32), packet, time.Now())
	if err == nil && len(b) == 0 {
		err = errors.New("a tunnel has no session any more")
	}
	return from, b, err
}

// payloadOf is what makes a packet as large as is wanted.
func payloadOf(size int) []byte {
	empty, err := scion.AppendUDP(nil, scion.Addr{Host: loopback}, scion.Addr{Host: loopback}, nil)
	if err != nil {
		panic(err)
	}
	return make([]byte, size-len(empty))
}

// count takes a datagram of the SNAP.
func (s *swarm) count(t *swarmTunnel, b []byte) error {
	if len(b) > swarmPacket {
		s.counts.packets++
	} else {
		s.counts.others++
	}
	return s.answer(t, b)
}

// countOnly is count without time for anything else.
func (s *swarm) countOnly(_ *swarmTunnel, b []byte) error {
	if len(b) > swarmPacket {
		s.counts.packets++
	}
	return nil
}

// packets sends packets at a rate and returns the CPU seconds that each took
// that arrived, and the part that did not.
func (b *bench) packets(s *swarm, pid int, rng *rand.Rand) (perPacket, lost float64, err error) {
	payload := payloadOf(swarmPacket)
	n := int(swarmRate * b.plan.packets.Seconds())
	s.counts.packets = 0
	before := ranFor(pid)
	begin := time.Now()
	for sent := 0; sent < n && b.ctx.Err() == nil; {
		// What should have been sent by now; it takes little to catch up.
		for due := min(n, int(swarmRate*time.Since(begin).Seconds())); sent < due; sent++ {
			from, sealed, err := s.sealed(rng, payload)
			if err != nil {
				return 0, 0, err
			}
			if err := s.send(from, sealed); err != nil {
				return 0, 0, err
			}
		}
		if err := s.flush(); err != nil {
			return 0, 0, err
		}
		if err := s.receive(time.Now().Add(time.Millisecond), s.count); err != nil {
			return 0, 0, err
		}
	}
	if err := s.rest(n); err != nil {
		return 0, 0, err
	}
	if s.counts.packets == 0 {
		return 0, 0, errors.New("no packet arrives")
	}
	return (ranFor(pid) - before).Seconds() / float64(s.counts.packets), 1 - float64(s.counts.packets)/float64(n), b.ctx.Err()
}

// rest takes what is still under way of n packets.
func (s *swarm) rest(n int) error {
	for last, seen := time.Now(), -1; s.counts.packets < n && time.Since(last) < 200*time.Millisecond; {
		if s.counts.packets != seen {
			last, seen = time.Now(), s.counts.packets
		}
		if err := s.receive(time.Now().Add(20*time.Millisecond), s.count); err != nil {
			return err
		}
	}
	return nil
}

// flood sends packets as fast as they go. It returns how many arrived in a
// second, and the CPU seconds of each.
func (b *bench) flood(s *swarm, pid int, rng *rand.Rand) (perSecond, perPacket float64, err error) {
	payload := payloadOf(swarmPacket)
	messages := make([]ipv4.Message, 0, floodPackets)
	for range floodPackets {
		from, sealed, err := s.sealed(rng, payload)
		if err != nil {
			return 0, 0, err
		}
		if err := s.send(from, sealed); err != nil {
			return 0, 0, err
		}
		messages = append(messages, s.out...)
		s.out = s.out[:0]
	}
	s.counts.packets = 0
	before := ranFor(pid)
	begin := time.Now()
	sent := make(chan error, 1)
	go func() {
		for i := 0; i < len(messages); i += swarmBatch {
			if err := s.write(messages[i:min(i+swarmBatch, len(messages))]); err != nil {
				sent <- err
				return
			}
		}
		sent <- nil
	}()
	var end time.Time
	for done, quiet := false, time.Now(); !done || time.Since(quiet) < 100*time.Millisecond; {
		seen := s.counts.packets
		if err := s.receive(time.Now().Add(20*time.Millisecond), s.countOnly); err != nil {
			return 0, 0, err
		}
		if s.counts.packets > seen {
			end = time.Now()
			quiet = end
		}
		if !done {
			select {
			case err := <-sent:
				if err != nil {
					return 0, 0, err
				}
				done, quiet = true, time.Now()
			default:
			}
		}
	}
	if s.counts.packets == 0 {
		return 0, 0, errors.New("no packet arrives")
	}
	arrived := float64(s.counts.packets)
	return arrived / end.Sub(begin).Seconds(), (ranFor(pid) - before).Seconds() / arrived, b.ctx.Err()
}
