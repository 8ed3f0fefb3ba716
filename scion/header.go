package scion

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
)

const udpLen = 8

var (
	errNoHost     = errors.New("no host address")
	errLongPath   = errors.New("path does not fit a header")
	errLongPacket = errors.New("payload exceeds 65535 bytes")
)

// headerSize is the length of the SCION header of a packet between two hosts.
func headerSize(from, to netip.Addr, path *Path) int {
	return hostOffset + ipLen(from) + ipLen(to) + path.Len()
}

func ipLen(ip netip.Addr) int {
	if ip.Unmap().Is6() {
		return 16
	}
	return 4
}

// appendHeader appends the SCION header of a packet from one address to another
// on the path of the latter, with a payload of so many bytes.
func appendHeader(b []byte, from, to Addr, next Protocol, payload int) ([]byte, error) {
	src, dst := from.Host.Unmap(), to.Host.Unmap()
	size := headerSize(src, dst, to.Path)
	switch {
	case !src.IsValid() || !dst.IsValid():
		return b, errNoHost
	case size > maxHeaderLen:
		return b, errLongPath
	case payload > maxPayload:
		return b, errLongPacket
	}
	b = append(b, 0, 0, 0, 0, byte(next), byte(size/4))
	b = binary.BigEndian.AppendUint16(b, uint16(payload))
	b = append(b, byte(to.Path.Type()), hostKind(dst)<<4|hostKind(src), 0, 0)
	b = binary.BigEndian.AppendUint64(b, uint64(to.IA))
	b = binary.BigEndian.AppendUint64(b, uint64(from.IA))
	b = appendIP(b, dst)
	b = appendIP(b, src)
	return to.Path.Append(b), nil
}

func hostKind(ip netip.Addr) byte {
	if ip.Is4() {
		return hostIPv4
	}
	return hostIPv6
}

func appendIP(b []byte, ip netip.Addr) []byte {
	if ip.Is4() {
		a := ip.As4()
		return append(b, a[:]...)
	}
	a := ip.As16()
	return append(b, a[:]...)
}

// AppendUDP appends a SCION packet with a UDP datagram from one address to
// another, on the path of the latter.
func AppendUDP(b []byte, from, to Addr, payload []byte) ([]byte, error) {
	start := len(b)
	length := udpLen + len(payload)
	b, err := appendHeader(b, from, to, ProtocolUDP, length)
	if err != nil {
		return b[:start], fmt.Errorf("append UDP datagram: %w", err)
	}
	udp := len(b)
	b = binary.BigEndian.AppendUint16(b, from.Port)
	b = binary.BigEndian.AppendUint16(b, to.Port)
	b = binary.BigEndian.AppendUint16(b, uint16(length))
	b = append(b, 0, 0)
	b = append(b, payload...)
	addresses := b[start+addrOffset : udp-to.Path.Len()]
	sum := addSum(pseudoSum(addresses, uint8(ProtocolUDP), length), b[udp:])
	binary.BigEndian.PutUint16(b[udp+6:], udpChecksum(sum))
	return b, nil
}
