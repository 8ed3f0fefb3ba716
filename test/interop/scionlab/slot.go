//go:build linux

package scionlab

import (
	"errors"
	"net"
	"net/netip"
	"os"
)

// Networks take 127.N.0.0/16 with N in this range.
const (
	firstNetwork = 64
	lastNetwork  = 223
)

// slotPort is held on 127.N.255.1 by whoever uses 127.N.0.0/16.
const slotPort = 30000

// takeSlot finds a network of loopback that nobody uses. It belongs to the
// caller until the socket is closed.
func takeSlot() (byte, *net.UDPConn, error) {
	const count = lastNetwork - firstNetwork + 1
	for i := range count {
		network := byte(firstNetwork + (os.Getpid()+i)%count)
		claim, err := listen(netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, network, 255, 1}), slotPort))
		if err != nil {
			continue
		}
		if unused(plan("", network)) {
			return network, claim, nil
		}
		claim.Close()
	}
	return 0, nil, errors.New("no network of loopback is free")
}

// unused reports whether nothing is left of a former network on these
// addresses.
func unused(all []*AS) bool {
	var addrs []netip.AddrPort
	for _, as := range all {
		addrs = append(addrs, as.ControlService(), netip.AddrPortFrom(as.Host(echoHost), echoPort))
		for _, r := range as.routers {
			addrs = append(addrs, netip.AddrPortFrom(as.Host(r.host), routerPort))
			for _, i := range r.interfaces {
				addrs = append(addrs, i.local)
			}
		}
	}
	for _, addr := range addrs {
		c, err := listen(addr)
		if err != nil {
			return false
		}
		c.Close()
	}
	return true
}

func listen(addr netip.AddrPort) (*net.UDPConn, error) {
	return net.ListenUDP("udp4", net.UDPAddrFromAddrPort(addr))
}
