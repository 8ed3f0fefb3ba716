package scion

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// A Topology is what the topology.json of an AS says that hosts need: the file
// that SCION's own services are configured with.
type Topology struct {
	IA   IA
	Core bool
	// MTU is the size in bytes of the largest SCION packet inside the AS. If
	// zero, the file does not say.
	MTU int
	// MinPort and MaxPort bound the UDP ports at which routers deliver packets to
	// programs; what is for others goes to port 30041 of the host. If zero, any.
	MinPort, MaxPort uint16
	// Routers are the border routers in the order of their names.
	Routers []Router
	// ControlServices are the addresses of the AS's control services: UDP for
	// SCION, TCP for RPCs.
	ControlServices []netip.AddrPort
}

// A Router is a border router of an AS.
type Router struct {
	Name string
	// Internal is where hosts of the AS send packets to, and what theirs come
	// from.
	Internal netip.AddrPort
	// Interfaces are those that the router owns, by rising ID.
	Interfaces []RouterInterface
}

// A RouterInterface is the end of a link to another AS.
type RouterInterface struct {
	ID       uint16
	Neighbor IA
	// LinkTo is what the neighbour is: core, parent, child or peer.
	LinkTo string
	// MTU is that of the link, in bytes. If zero, the file does not say.
	MTU int
}

// Limits on what is believed of a topology; the largest ASes have a few hundred
// interfaces.
const (
	maxTopologyBytes   = 4 << 20
	maxTopologyRouters = 4096
)

// The parts of a topology.json that are read (private/topology/json of the
// reference implementation).
type (
	topologyFile struct {
		IA              string                   `json:"isd_as"`
		MTU             int                      `json:"mtu"`
		Ports           string                   `json:"dispatched_ports"`
		Attributes      []string                 `json:"attributes"`
		BorderRouters   map[string]*routerEntry  `json:"border_routers"`
		ControlServices map[string]*serviceEntry `json:"control_service"`
	}
	routerEntry struct {
		Internal   string                     `json:"internal_addr"`
		Interfaces map[string]*interfaceEntry `json:"interfaces"`
	}
	interfaceEntry struct {
		IA     string `json:"isd_as"`
		LinkTo string `json:"link_to"`
		MTU    int    `json:"mtu"`
	}
	serviceEntry struct {
		Addr string `json:"addr"`
	}
)

var linkKinds = []string{"core", "parent", "child", "peer"}

// ParseTopology reads a topology.json. Addresses must be literal. The error is
// one line that says which part is wrong; what hosts do not need is not looked
// at.
func ParseTopology(b []byte) (*Topology, error) {
	t, err := parseTopology(b)
	if err != nil {
		return nil, fmt.Errorf("read topology: %w", err)
	}
	return t, nil
}

func parseTopology(b []byte) (*Topology, error) {
	if len(b) > maxTopologyBytes {
		return nil, fmt.Errorf("it is larger than %d bytes", maxTopologyBytes)
	}
	var file topologyFile
	if err := json.Unmarshal(b, &file); err != nil {
		return nil, jsonFault(b, err)
	}
	if file.IA == "" {
		return nil, errors.New("isd_as: there is none (is it a topology.json?)")
	}
	ia, err := parseTopologyIA(file.IA)
	if err != nil {
		return nil, fmt.Errorf("isd_as: %w", err)
	}
	if err := checkMTU(file.MTU); err != nil {
		return nil, err
	}
	t := &Topology{IA: ia, MTU: file.MTU, Core: slices.Contains(file.Attributes, "core")}
	if t.MinPort, t.MaxPort, err = parsePortRange(file.Ports); err != nil {
		return nil, fmt.Errorf("dispatched_ports: %w", err)
	}
	if err := t.addRouters(file.BorderRouters); err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(file.ControlServices)) {
		entry := file.ControlServices[name]
		if entry == nil || entry.Addr == "" {
			return nil, fmt.Errorf("control service %s: it has no addr", quoted(name))
		}
		addr, err := parseTopologyAddr(entry.Addr)
		if err != nil {
			return nil, fmt.Errorf("control service %s: addr: %w", quoted(name), err)
		}
		t.ControlServices = append(t.ControlServices, addr)
	}
	return t, nil
}

func (t *Topology) addRouters(entries map[string]*routerEntry) error {
	if len(entries) > maxTopologyRouters {
		return fmt.Errorf("it has more than %d border routers", maxTopologyRouters)
	}
	owner := make(map[uint16]string)
	for _, name := range slices.Sorted(maps.Keys(entries)) {
		r, err := t.parseRouter(name, entries[name])
		if err != nil {
			return fmt.Errorf("border router %s: %w", quoted(name), err)
		}
		for _, i := range r.Interfaces {
			if other, ok := owner[i.ID]; ok {
				return fmt.Errorf("border router %s: interface %d is also one of border router %s", quoted(name), i.ID, quoted(other))
			}
			owner[i.ID] = name
		}
		t.Routers = append(t.Routers, r)
	}
	return nil
}

func (t *Topology) parseRouter(name string, entry *routerEntry) (Router, error) {
	if entry == nil || entry.Internal == "" {
		return Router{}, errors.New("it has no internal_addr")
	}
	internal, err := parseTopologyAddr(entry.Internal)
	if err != nil {
		return Router{}, fmt.Errorf("internal_addr: %w", err)
	}
	r := Router{Name: name, Internal: internal}
	for _, text := range slices.Sorted(maps.Keys(entry.Interfaces)) {
		id, ok := parseDecimal(text, 16)
		if !ok || id == 0 {
			return Router{}, fmt.Errorf("interface %s: it is not a number from 1 to 65535", quoted(text))
		}
		i, err := t.parseInterface(uint16(id), entry.Interfaces[text])
		if err != nil {
			return Router{}, fmt.Errorf("interface %d: %w", id, err)
		}
		r.Interfaces = append(r.Interfaces, i)
	}
	slices.SortFunc(r.Interfaces, func(a, b RouterInterface) int { return int(a.ID) - int(b.ID) })
	return r, nil
}

func (t *Topology) parseInterface(id uint16, entry *interfaceEntry) (RouterInterface, error) {
	if entry == nil || entry.IA == "" {
		return RouterInterface{}, errors.New("it has no isd_as")
	}
	neighbor, err := parseTopologyIA(entry.IA)
	if err != nil {
		return RouterInterface{}, fmt.Errorf("isd_as: %w", err)
	}
	if neighbor == t.IA {
		return RouterInterface{}, errors.New("isd_as: it is the AS itself")
	}
	link := strings.ToLower(entry.LinkTo)
	if !slices.Contains(linkKinds, link) {
		return RouterInterface{}, fmt.Errorf("link_to: %s is none of core, parent, child, peer", quoted(entry.LinkTo))
	}
	if err := checkMTU(entry.MTU); err != nil {
		return RouterInterface{}, err
	}
	return RouterInterface{ID: id, Neighbor: neighbor, LinkTo: link, MTU: entry.MTU}, nil
}

// RouterTable returns which router owns which interface.
func (t *Topology) RouterTable() *Routers {
	owners := make(map[uint16]netip.AddrPort)
	for _, r := range t.Routers {
		for _, i := range r.Interfaces {
			owners[i.ID] = r.Internal
		}
	}
	return newRouters(owners)
}

// jsonFault says where JSON is wrong, without the parser's own prefixes.
func jsonFault(b []byte, err error) error {
	var syntax *json.SyntaxError
	var typ *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		line := 1 + strings.Count(string(b[:min(int(syntax.Offset), len(b))]), "\n")
		return fmt.Errorf("line %d: not JSON: %w", line, err)
	case errors.As(err, &typ):
		line := 1 + strings.Count(string(b[:min(int(typ.Offset), len(b))]), "\n")
		if typ.Field == "" {
			return fmt.Errorf("line %d: a JSON %s where an object belongs", line, typ.Value)
		}
		return fmt.Errorf("line %d: %s: a JSON %s has no place there", line, quoted(typ.Field), typ.Value)
	}
	return err
}

func parseTopologyIA(s string) (IA, error) {
	ia, err := parseIA(s)
	switch {
	case err != nil:
		return 0, fmt.Errorf("%s: %w", quoted(s), err)
	case ia.IsWildcard():
		return 0, fmt.Errorf("%s: %w", quoted(s), errWildcard)
	}
	return ia, nil
}

// parseTopologyAddr parses a literal address that datagrams can be sent to.
func parseTopologyAddr(s string) (netip.AddrPort, error) {
	a, err := netip.ParseAddrPort(s)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("%s is not IP:PORT", quoted(s))
	}
	a = netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
	if err := checkRouter(a); err != nil {
		return netip.AddrPort{}, fmt.Errorf("%s: %w", quoted(s), err)
	}
	return a, nil
}

// parsePortRange reads 31000-32767; nothing, a hyphen and all are no bounds. (A
// hyphen means no ports, which is a network before there was such a range: there
// all packets go to 30041 of the host, and neither a SNAP nor we could be.)
func parsePortRange(s string) (first, last uint16, err error) {
	if s == "" || s == "-" || s == "all" {
		return 0, 0, nil
	}
	low, high, _ := strings.Cut(s, "-")
	a, okA := parseDecimal(low, 16)
	b, okB := parseDecimal(high, 16)
	if !okA || !okB || a == 0 || a > b {
		return 0, 0, fmt.Errorf("%s is not a range of ports like 31000-32767", quoted(s))
	}
	return uint16(a), uint16(b), nil
}

func checkMTU(n int) error {
	if n < 0 || n > maxPayload {
		return fmt.Errorf("mtu: %d is not a number of bytes up to %d", n, maxPayload)
	}
	return nil
}

// quoted quotes a text of the file for an error of one line.
func quoted(s string) string { return strconv.Quote(quotable(s)) }

// quotable shortens a text for an error.
func quotable(s string) string {
	const enough = 80
	if len(s) > enough {
		return s[:enough] + "…"
	}
	return s
}
