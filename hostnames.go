package snapproxy

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"

	"github.com/snapproxy/snapproxy/scion"
)

// defaultHostsFile is where SCION hosts keep names, as /etc/hosts.
const defaultHostsFile = "/etc/scion/hosts"

// NamesConfig configures Names.
type NamesConfig struct {
	// HostsFiles are files of names, a line each: ISD-AS,IP NAME [ALIAS]…
	// The last that has a name wins.
	HostsFiles []string
	// SystemHosts is the file that is asked after HostsFiles and need not be
	// there. If empty, it is /etc/scion/hosts.
	SystemHosts string
	// Servers are the HOST:PORTs of DNS servers, asked in this order. If empty,
	// they are the host's.
	Servers []string
	// Logger is told which lines and records are left out. If nil, nothing is
	// logged.
	Logger *slog.Logger

	clock func() time.Time // for tests; nil: time.Now
	waits []time.Duration  // for tests; nil: nameWaits
}

// Names finds the SCION addresses of hosts: of exits and of what ping and paths
// look at. Never is it asked for the name of a proxy's target, which only the
// exit may see. It may be used by several goroutines.
type Names struct {
	cfg    NamesConfig
	logger *slog.Logger

	mu    sync.Mutex // guards what follows; never held while calling out
	known map[string]knownName
}

// NewNames makes Names. It returns an error if a file of the configuration
// cannot be read or has a line that is none; what is in them is read again with
// each lookup.
func NewNames(cfg NamesConfig) (*Names, error) {
	cfg.SystemHosts = cmp.Or(cfg.SystemHosts, defaultHostsFile)
	if cfg.clock == nil {
		cfg.clock = time.Now
	}
	if cfg.waits == nil {
		cfg.waits = nameWaits
	}
	n := &Names{cfg: cfg, logger: orDiscard(cfg.Logger), known: make(map[string]knownName)}
	for _, name := range cfg.HostsFiles {
		if _, err := readHosts(name, "", nil); err != nil {
			return nil, err
		}
	}
	return n, nil
}

// Lookup returns the addresses of a host, with neither port nor path. Host is an
// address, in one of these forms, or a name:
//
//	1-ff00:0:110,10.0.0.1
//	1-ff00:0:110,fd00::1
//	1-ff00:0:110,[fd00::1]
//	[1-ff00:0:110,fd00::1]
//
// A name is looked for in the hosts files and then in the TXT records of DNS,
// without a search list. There is at least one address if there is no error.
// The error is a *net.AddrError or a *net.DNSError, IsNotFound if the name has
// no SCION address.
func (n *Names) Lookup(ctx context.Context, host string) ([]scion.Addr, error) {
	if strings.Contains(host, ",") {
		a, err := parseSCIONHost(host)
		if err != nil {
			return nil, &net.AddrError{Err: err.Error() + " (want one like 1-ff00:0:110,10.0.0.1)", Addr: host}
		}
		return []scion.Addr{a}, nil
	}
	if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return nil, &net.AddrError{Err: "missing ISD-AS (want one like 1-ff00:0:110,10.0.0.1)", Addr: host}
	}
	if labels, ok := dns.IsDomainName(host); !ok || labels == 0 {
		return nil, &net.DNSError{Err: "no name of a host", Name: host, IsNotFound: true}
	}
	addrs, err := n.lookupFiles(host)
	if err != nil || len(addrs) > 0 {
		return addrs, err
	}
	return n.lookupTXT(ctx, host)
}

// LookupPort is Lookup for a host with a port, NAME:PORT or an address as
// scion.ParseAddr reads it. The port is that of the addresses.
func (n *Names) LookupPort(ctx context.Context, hostPort string) ([]scion.Addr, error) {
	if strings.Contains(hostPort, ",") {
		a, err := scion.ParseAddr(hostPort)
		if err != nil {
			return nil, err
		}
		return []scion.Addr{a}, nil
	}
	host, portText, err := net.SplitHostPort(hostPort)
	if err != nil {
		return nil, err
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil || port == 0 {
		return nil, &net.AddrError{Err: "port is not a number from 1 to 65535", Addr: hostPort}
	}
	addrs, err := n.Lookup(ctx, host)
	if err != nil {
		return nil, err
	}
	for i := range addrs {
		addrs[i].Port = uint16(port)
	}
	return addrs, nil
}

var (
	errNoHostComma    = errors.New("no comma between ISD-AS and host")
	errNoIA           = errors.New("ISD-AS is none like 1-ff00:0:110")
	errNobodyIA       = errors.New("ISD-AS is a wildcard")
	errNoIP           = errors.New("host is not an IP address")
	errNobodyIP       = errors.New("host is unspecified or has a zone")
	errHostBrackets   = errors.New("misplaced brackets")
	errAddressesFound = errors.New("too many addresses")
)

// parseSCIONHost reads an address without a port, in the forms that Lookup
// describes.
func parseSCIONHost(s string) (scion.Addr, error) {
	if strings.HasPrefix(s, "[") {
		inner, ok := strings.CutSuffix(s[1:], "]")
		if !ok || strings.ContainsAny(inner, "[]") {
			return scion.Addr{}, errHostBrackets
		}
		s = inner
	}
	iaText, hostText, ok := strings.Cut(s, ",")
	if !ok {
		return scion.Addr{}, errNoHostComma
	}
	if strings.HasPrefix(hostText, "[") {
		if hostText, ok = strings.CutSuffix(hostText[1:], "]"); !ok || !strings.Contains(hostText, ":") {
			return scion.Addr{}, errHostBrackets
		}
	}
	return scionHost(iaText, hostText)
}

// scionHost makes an address of its parts, if it addresses somebody.
func scionHost(iaText, hostText string) (scion.Addr, error) {
	ia, err := scion.ParseIA(iaText)
	if err != nil {
		return scion.Addr{}, errNoIA
	}
	host, err := netip.ParseAddr(hostText)
	switch {
	case err != nil:
		return scion.Addr{}, errNoIP
	case ia.IsWildcard():
		return scion.Addr{}, errNobodyIA
	case host.Zone() != "" || host.Unmap().IsUnspecified():
		return scion.Addr{}, errNobodyIP
	}
	return scion.Addr{IA: ia, Host: host.Unmap()}, nil
}
