package endhost

import (
	"net/netip"
	"net/url"

	"github.com/snapproxy/snapproxy/scion"
)

// Underlays are the ways by which the hosts of an AS reach their SCION network.
type Underlays struct {
	SNAPs   []SNAP
	Routers []Router
	// Scope is where the API lives that named them, so far as the client saw
	// it. A SNAP given by name must be held against it again when it is
	// dialled. Handlers ignore it.
	Scope Scope
}

// A SNAP is the control plane of a SNAP.
type SNAP struct {
	URL *url.URL   // http or https, without user, query and fragment
	IAs []scion.IA // the ASes whose hosts it serves
}

// A Router is a border router that hosts of its AS may send SCION packets to.
type Router struct {
	IA         scion.IA
	Addr       netip.AddrPort // its internal address
	Interfaces []uint16       // the interfaces it owns
}

// serves reports whether one of ias is meant by want, in which 0 of an ISD or
// AS stands for any.
func serves(ias []scion.IA, want scion.IA) bool {
	for _, ia := range ias {
		if meant(ia, want) {
			return true
		}
	}
	return false
}

func meant(ia, want scion.IA) bool {
	return (want.ISD() == 0 || ia.ISD() == want.ISD()) && (want.AS() == 0 || ia.AS() == want.AS())
}
