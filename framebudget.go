package snapproxy

import (
	"github.com/snapproxy/snapproxy/scion"
	"github.com/snapproxy/snapproxy/tunnel/snaptun"
)

// A frameBudget says how much fits one frame of the inner tunnel (DESIGN
// §4.6): what the path and the outer tunnel carry less the SCION header, UDP
// (8), the data message (32) and, for packets, the frame header (16).
type frameBudget struct {
	host *scion.Host
	att  *attachment
	mtu  func(*scion.Path) int // of a path that is not empty
}

const (
	udpHeader   = 8
	frameHeader = 16
)

// overhead returns how much of a SCION packet to an address is no frame.
func (b frameBudget) overhead(to scion.Addr) int {
	return b.host.HeaderSize(to) + udpHeader + snaptun.Overhead
}

// frame returns the size of a frame, its header included.
func (b frameBudget) frame(to scion.Addr) int {
	mtu := b.att.mtu()
	if to.Path != nil {
		mtu = min(mtu, b.mtu(to.Path))
	}
	return mtu - b.overhead(to)
}

// packet returns the size of a packet that fits one frame.
func (b frameBudget) packet(to scion.Addr) int { return b.frame(to) - frameHeader }
