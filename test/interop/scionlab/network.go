//go:build linux

package scionlab

import (
	"fmt"
	"net/netip"
	"path/filepath"
)

// The leaves of the network, between which there are three ways.
const (
	Leaf1 = "1-ff00:0:111"
	Leaf2 = "1-ff00:0:112"
)

// Ports of the reference programs.
const (
	routerPort  = 30001
	controlPort = 30252
	metricsPort = 30442 // of routers, over TCP
	linkPort    = 50000
	echoPort    = 30041 // where routers deliver echo requests
)

// Hosts of an AS: the last byte of an address in its network.
const (
	controlHost = 2
	echoHost    = 10
	// FirstHost is the first that belongs to nobody. The rest of an AS's
	// network up to 254 belongs to tests.
	FirstHost = 20
)

// mtu is that of every AS and of every link, in bytes of a SCION packet.
const mtu = 1472

// An AS is an AS of a network.
type AS struct {
	IA   string
	Core bool
	// Dir holds topology.json, keys and certificates, as a host's
	// configuration directory does.
	Dir string

	number  int
	network byte // second byte of its addresses
	routers []router
}

// A router owns some of the interfaces of its AS.
type router struct {
	name       string
	host       byte
	interfaces []iface
}

// An iface is one end of a link.
type iface struct {
	id, remoteID  int
	neighbor      string
	linkTo        string
	local, remote netip.AddrPort
}

// Topology is the path of the topology.json of the AS.
func (as *AS) Topology() string { return filepath.Join(as.Dir, "topology.json") }

// Host is an address inside the AS: 127.N.AS.n.
func (as *AS) Host(n byte) netip.Addr {
	return netip.AddrFrom4([4]byte{127, as.network, byte(as.number), n})
}

// Prefix contains all hosts of the AS.
func (as *AS) Prefix() netip.Prefix { return netip.PrefixFrom(as.Host(0), 24) }

// Echo is the SCION address of a host that answers SCMP echo requests.
func (as *AS) Echo() string { return fmt.Sprintf("%s,%s", as.IA, as.Host(echoHost)) }

// ControlService is the address of the AS's control service, which speaks
// Connect over TCP.
func (as *AS) ControlService() netip.AddrPort {
	return netip.AddrPortFrom(as.Host(controlHost), controlPort)
}

// metrics is where a router of the AS serves its counters.
func (as *AS) metrics(r router) netip.AddrPort {
	return netip.AddrPortFrom(as.Host(r.host), metricsPort)
}

// A link joins two routers: AS number, router of the AS, interface id.
type link struct {
	a, b   [3]int
	linkTo [2]string // what b is to a, what a is to b
}

var links = []link{
	{[3]int{110, 1, 1}, [3]int{111, 1, 41}, [2]string{"child", "parent"}},
	{[3]int{110, 1, 2}, [3]int{112, 1, 1}, [2]string{"child", "parent"}},
	{[3]int{110, 1, 3}, [3]int{120, 1, 3}, [2]string{"core", "core"}},
	{[3]int{120, 1, 5}, [3]int{112, 1, 5}, [2]string{"child", "parent"}},
	{[3]int{111, 2, 100}, [3]int{112, 2, 100}, [2]string{"peer", "peer"}},
}

// plan lays the network out below dir, at 127.network.0.0/16.
func plan(dir string, network byte) []*AS {
	var all []*AS
	for _, n := range []int{110, 120, 111, 112} {
		as := &AS{IA: isdAS(n), Core: n == 110 || n == 120, Dir: filepath.Join(dir, fmt.Sprintf("AS%d", n)), number: n, network: network}
		for r := 1; r <= 2 && (r == 1 || !as.Core); r++ {
			as.routers = append(as.routers, router{name: fmt.Sprintf("br-%d-%d", n, r), host: [...]byte{1, 4}[r-1]})
		}
		all = append(all, as)
	}
	find := func(end [3]int) *router {
		for _, as := range all {
			if as.number == end[0] {
				return &as.routers[end[1]-1]
			}
		}
		panic("no such AS")
	}
	for i, l := range links {
		end := func(host byte) netip.AddrPort {
			return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, network, byte(200 + i), host}), linkPort)
		}
		a, b := find(l.a), find(l.b)
		a.interfaces = append(a.interfaces, iface{l.a[2], l.b[2], isdAS(l.b[0]), l.linkTo[0], end(1), end(2)})
		b.interfaces = append(b.interfaces, iface{l.b[2], l.a[2], isdAS(l.a[0]), l.linkTo[1], end(2), end(1)})
	}
	return all
}

func isdAS(number int) string { return fmt.Sprintf("1-ff00:0:%d", number) }
