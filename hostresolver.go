package snapproxy

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
)

// A hostResolver looks names up as the host does, in its files and by DNS, but
// without search list and multicast DNS.
type hostResolver struct{ files, dns *net.Resolver }

func newHostResolver() hostResolver {
	noServer := errors.New("files only")
	return hostResolver{
		files: &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) { return nil, noServer }},
		dns:   &net.Resolver{PreferGo: true},
	}
}

// LookupNetIP returns what the files say of host, if they name it, else what
// DNS does. The standard library finds no name with a final dot in the files,
// and applies the search list to one without.
func (r hostResolver) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	addrs, err := r.files.LookupNetIP(ctx, "ip", strings.TrimSuffix(host, "."))
	if err != nil {
		return r.dns.LookupNetIP(ctx, network, host)
	}
	var family []netip.Addr
	for _, a := range addrs {
		if a = a.Unmap(); a.Is4() == (network == "ip4") {
			family = append(family, a)
		}
	}
	return family, nil
}
