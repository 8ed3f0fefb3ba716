//go:build linux

package main

import (
	"context"
	"net/netip"
	"sync/atomic"

	"golang.zx2c4.com/wireguard/tun"

	"github.com/snapproxy/snapproxy/tunnel"
)

// A bridge carries packets between a TUN device and a UDP socket, many at a
// time.
type bridge struct {
	dev tun.Device
	udp *tunnel.UDP
	far atomic.Pointer[netip.AddrPort] // where packets go; nil: nobody has been heard
}

// headroom is what the device needs in front of a packet.
const headroom = 16

func newBridge(dev tun.Device, udp *tunnel.UDP, far netip.AddrPort) *bridge {
	b := &bridge{dev: dev, udp: udp}
	if far.IsValid() {
		b.far.Store(&far)
	}
	return b
}

// send carries what comes out of the device.
func (b *bridge) send() error {
	n := b.dev.BatchSize()
	bufs, sizes := make([][]byte, n), make([]int, n)
	for i := range bufs {
		bufs[i] = make([]byte, headroom+64<<10)
	}
	var to []netip.AddrPort
	var packets [][]byte
	for {
		n, err := b.dev.Read(bufs, sizes, headroom)
		if err != nil {
			return err
		}
		far := b.far.Load()
		if far == nil {
			continue
		}
		to, packets = to[:0], packets[:0]
		for i := range n {
			to, packets = append(to, *far), append(packets, bufs[i][headroom:headroom+sizes[i]])
		}
		if _, err := b.udp.WritePackets(to, packets); err != nil {
			return err
		}
	}
}

// receive carries what comes out of the socket.
func (b *bridge) receive() error {
	var bufs [][]byte
	return b.udp.Run(context.Background(), func(from []netip.AddrPort, packets [][]byte) error {
		n := 0
		for i, p := range packets {
			if len(p) == 0 {
				continue
			}
			if far := b.far.Load(); far == nil || *far != from[i] {
				heard := from[i]
				b.far.Store(&heard)
			}
			if n == len(bufs) {
				// The device merges segments in the first of them.
				bufs = append(bufs, make([]byte, 0, headroom+64<<10))
			}
			bufs[n] = append(bufs[n][:headroom], p...)
			n++
		}
		if n > 0 {
			b.dev.Write(bufs[:n], headroom) // what it does not take is lost
		}
		return nil
	})
}
