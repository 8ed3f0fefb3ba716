//go:build linux

package scionlab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"

	"github.com/scionproto/scion/pkg/addr"
	"github.com/scionproto/scion/pkg/snet"
)

// A referenceEcho is a host on the reference's own library, behind the routers
// of its AS, that returns every datagram by the way it came.
type referenceEcho struct {
	addr     string // ISD-AS,IP:PORT
	received atomic.Int64
}

func serveEcho(t *testing.T, as *AS) *referenceEcho {
	t.Helper()
	ia, err := addr.ParseIA(as.IA)
	if err != nil {
		t.Fatal(err)
	}
	network := &snet.SCIONNetwork{Topology: snet.Topology{
		LocalIA:   ia,
		PortRange: snet.TopologyPortRange{Start: 1024, End: 65535},
		Interface: as.routerOf,
	}}
	conn, err := network.Listen(context.Background(), "udp", &net.UDPAddr{IP: as.Host(nextHost(as)).AsSlice()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	local := conn.LocalAddr().(*snet.UDPAddr)
	e := &referenceEcho{addr: fmt.Sprintf("%s,%s", as.IA, local.Host)}
	go func() {
		buf := make([]byte, 64<<10)
		for {
			n, from, err := conn.ReadFrom(buf)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil {
				continue // a packet that is no datagram to us, or an SCMP error
			}
			e.received.Add(1)
			conn.WriteTo(buf[:n], from)
		}
	}()
	return e
}

// routerOf is the internal address of the router that owns an interface.
func (as *AS) routerOf(id uint16) (netip.AddrPort, bool) {
	for _, r := range as.routers {
		for _, i := range r.interfaces {
			if i.id == int(id) {
				return netip.AddrPortFrom(as.Host(r.host), routerPort), true
			}
		}
	}
	return netip.AddrPort{}, false
}
