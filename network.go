package snapproxy

import (
	"net/netip"
	"net/url"

	"github.com/snapproxy/snapproxy/scion"
	"github.com/snapproxy/snapproxy/tunnel/control"
	"github.com/snapproxy/snapproxy/tunnel/snaptun"
)

// NetworkConfig says how a role joins a SCION network, in one of four ways:
// through a SNAP that is named, through one that an endhost API names, directly
// through the routers of an AS, or inside a SNAP of the same process.
type NetworkConfig struct {
	// SNAP is the HOST:PORT of the SNAP to attach to, SNAPKey its public key,
	// and IA the ISD-AS it belongs to. With EndhostAPIs only IA may be set: it
	// chooses among the ASes that they offer.
	SNAP    string
	SNAPKey snaptun.PublicKey
	IA      scion.IA

	// EndhostAPIs are base URLs of endhost APIs, tried in order. They name the
	// SNAPs or routers, and look paths up.
	EndhostAPIs []string
	// Discovery are URLs of services that name endhost APIs. They are asked when
	// none of EndhostAPIs will do.
	Discovery []string
	// Token is the source of the token for endhost APIs and SNAPs. If nil, none
	// is sent.
	Token *control.TokenSource
	// SNAPHosts are hosts besides those of EndhostAPIs that may be sent a token.
	SNAPHosts []string
	// APIProxy is the proxy for requests to these APIs. If nil, none: the
	// environment is ignored, since it usually names this very program.
	APIProxy *url.URL

	// Direct attaches to the routers of the AS without a SNAP: those of Topology
	// or, if that is nil, those that EndhostAPIs name.
	Direct   bool
	Topology *scion.Topology
	// ASHosts are hosts of the AS with which Direct exchanges packets without a
	// router between. If nil, none.
	ASHosts []netip.Prefix

	// Within is a SNAP of this process, of which the role becomes a host without a
	// tunnel, the only one at a time. It should run until the role has ended, to
	// carry its goodbyes.
	Within *SNAP

	// Bind is the local UDP address; without a NAT before the SNAP, or with
	// Within or Direct, its port is the role's SCION port. If zero, any address and port.
	Bind netip.AddrPort

	// PathPolicy chooses among paths. If nil, the shortest is taken.
	PathPolicy *scion.Policy
}
