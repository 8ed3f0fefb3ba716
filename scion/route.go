package scion

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// An Interface is a border of an AS: where a link to a neighbour begins.
type Interface struct {
	IA IA
	ID uint16
}

// String returns the form 1-ff00:0:110#41.
func (i Interface) String() string { return fmt.Sprintf("%s#%d", i.IA, i.ID) }

// A Route is a path to an AS with what is known of it. It does not change once
// it is made, and neither do the Interfaces. Inside an AS there is one without
// interfaces and with the nil Path.
type Route struct {
	Path     *Path
	Src, Dst IA
	// Interfaces are the borders in the order of travel: the egress of Src is
	// the first, the ingress of Dst the last, and the ASes between have two each.
	Interfaces []Interface
	// MTU is the size in bytes of the largest SCION packet that the ASes on the
	// way announce to carry.
	MTU int
	// Expiry is when routers begin to refuse the path. If zero, that of Path.
	Expiry time.Time
	// Latency is the sum of what the ASes announce, one way. If zero, a part of
	// it is not known.
	Latency time.Duration
}

// Hops returns the number of links between ASes.
func (r *Route) Hops() int { return len(r.Interfaces) / 2 }

// String returns the hops as scion showpaths writes them:
//
//	1-ff00:0:111 41>1 1-ff00:0:110 2>1 1-ff00:0:112
func (r *Route) String() string {
	var b strings.Builder
	b.WriteString(r.Src.String())
	for i := 0; i+1 < len(r.Interfaces); i += 2 {
		out, in := r.Interfaces[i], r.Interfaces[i+1]
		b.WriteByte(' ')
		b.WriteString(strconv.Itoa(int(out.ID)))
		b.WriteByte('>')
		b.WriteString(strconv.Itoa(int(in.ID)))
		b.WriteByte(' ')
		b.WriteString(in.IA.String())
	}
	return b.String()
}
