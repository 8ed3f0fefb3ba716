package netstack

import (
	"math/rand/v2"
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/tcpip"
)

const (
	firstPort = 16000 // of those that connections are dialled from, as with gVisor
	portCount = 1<<16 - firstPort
	// portTries is after how many ports that are taken gVisor chooses one, which
	// may serve another destination too.
	portTries = 64
)

// ports gives out the local ports of dials, each again only after all others
// (RFC 6056 section 3.3.3 for all destinations at once).
//
// gVisor draws them, so that now and then a connection gets the port of one
// that was reset a moment ago. Its SYN then comes out of the far side's link
// together with that RST, before the far side has forgotten the old connection,
// and is refused in the name of the target.
type ports struct{ last atomic.Uint32 }

func (p *ports) init() { p.last.Store(rand.Uint32()) }

// bind gives ep a port, or leaves it to gVisor.
func (p *ports) bind(ep tcpip.Endpoint, own [16]byte) {
	for range portTries {
		port := uint16(firstPort + p.last.Add(1)%portCount)
		if ep.Bind(tcpip.FullAddress{Addr: tcpip.AddrFrom16(own), Port: port}) == nil {
			return
		}
	}
}
