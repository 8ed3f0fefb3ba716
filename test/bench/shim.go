//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/snapproxy/snapproxy/tunnel"
)

// A shimConfig is the configuration of a shim.
type shimConfig struct {
	To       netip.AddrPort // the server
	Up, Down impairment     // towards it and from it
}

// A shim stands between clients and a server, as a NAT does: the server sees
// another port of the shim for each client. Both directions are queued in this
// process, whose CPU time is its own.
type shim struct {
	cfg   shimConfig
	front *tunnel.UDP
	begin time.Time
	up    *oneWay
	down  *oneWay

	mu    sync.Mutex // guards what follows
	flows map[netip.AddrPort]*tunnel.UDP
}

// maxShimFlows bounds the clients of a shim.
const maxShimFlows = 1024

// A way is where a datagram leaves.
type way struct {
	from *tunnel.UDP
	to   netip.AddrPort
}

func init() { parts["shim"] = runShim }

func runShim(config json.RawMessage, ready func(any), done <-chan struct{}) error {
	var cfg shimConfig
	if err := json.Unmarshal(config, &cfg); err != nil {
		return err
	}
	front, err := tunnel.ListenUDP(netip.AddrPortFrom(loopback, 0), tunnel.UDPConfig{})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	s := &shim{cfg: cfg, front: front, begin: time.Now(), flows: map[netip.AddrPort]*tunnel.UDP{}}
	s.up, s.down = newOneWay(s, cfg.Up), newOneWay(s, cfg.Down)
	for _, w := range []*oneWay{s.up, s.down} {
		go w.run()
	}
	go front.Run(ctx, func(from []netip.AddrPort, packets [][]byte) error {
		s.up.put(from, packets, func(client netip.AddrPort) (way, bool) {
			back := s.flow(ctx, client)
			return way{back, cfg.To}, back != nil
		})
		return nil
	})
	ready(listening{front.LocalAddr()})
	<-done
	fmt.Fprintf(os.Stderr, "up %+v, down %+v", s.up.counts(), s.down.counts())
	return nil
}

// flow is the socket that stands for a client towards the server, or nil.
func (s *shim) flow(ctx context.Context, client netip.AddrPort) *tunnel.UDP {
	s.mu.Lock()
	defer s.mu.Unlock()
	if back := s.flows[client]; back != nil || len(s.flows) >= maxShimFlows {
		return back
	}
	back, err := tunnel.ListenUDP(netip.AddrPortFrom(loopback, 0), tunnel.UDPConfig{})
	if err != nil {
		return nil
	}
	s.flows[client] = back
	go back.Run(ctx, func(from []netip.AddrPort, packets [][]byte) error {
		s.down.put(from, packets, func(server netip.AddrPort) (way, bool) {
			return way{s.front, client}, server == s.cfg.To
		})
		return nil
	})
	return back
}

// A oneWay is a direction: a line, and a thread that empties it in time.
type oneWay struct {
	shim *shim

	mu    sync.Mutex // guards what follows
	line  *delayLine[way]
	woken *sync.Cond // something is held
}

func newOneWay(s *shim, how impairment) *oneWay {
	w := &oneWay{shim: s, line: newDelayLine[way](how)}
	w.woken = sync.NewCond(&w.mu)
	return w
}

func (w *oneWay) counts() shimCounts {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.line.counts
}

// put takes a batch. A nil packet is a hint of the carrier and does not pass.
func (w *oneWay) put(from []netip.AddrPort, packets [][]byte, leave func(netip.AddrPort) (way, bool)) {
	now := time.Since(w.shim.begin)
	var last netip.AddrPort
	var to way
	var ok bool
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, b := range packets {
		if b == nil {
			continue
		}
		if from[i] != last {
			last = from[i]
			to, ok = leave(last)
		}
		if ok {
			w.line.put(now, to, b)
		}
	}
	w.woken.Signal()
}

// pause is how long the thread sleeps at least: what is due in it leaves in one
// batch.
const pause = 100 * time.Microsecond

// run empties the line. It has a thread of its own, because Go's timers are as
// coarse as a millisecond.
func (w *oneWay) run() {
	runtime.LockOSThread()
	var to []way
	var packets [][]byte
	var addrs []netip.AddrPort
	for {
		w.mu.Lock()
		w.line.free(packets)
		due, ok := w.line.next()
		for ; !ok; due, ok = w.line.next() {
			w.woken.Wait()
		}
		if wait := due - time.Since(w.shim.begin); wait > 0 {
			packets = packets[:0]
			w.mu.Unlock()
			ts := unix.NsecToTimespec(int64(max(wait, pause)))
			unix.ClockNanosleep(unix.CLOCK_MONOTONIC, 0, &ts, nil)
			continue
		}
		to, packets = w.line.take(time.Since(w.shim.begin), 128, to[:0], packets[:0])
		w.mu.Unlock()
		for i := 0; i < len(to); {
			addrs = addrs[:0]
			j := i
			for ; j < len(to) && to[j].from == to[i].from; j++ {
				addrs = append(addrs, to[j].to)
			}
			to[i].from.WritePackets(addrs, packets[i:j])
			i = j
		}
	}
}
