package snapproxy

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"

	"golang.org/x/crypto/blake2s"

	"github.com/snapproxy/snapproxy/tunnel/snaptun"
)

// Inner addresses come from keys, so that nothing assigns them (DESIGN §4.3):
//
//	+----------------+-----------------------------------+------------+
//	| fd53:4e41 (32) | BLAKE2s-256(public key), first 80 | process 16 |
//	+----------------+-----------------------------------+------------+
//
// A key owns the /112; the server side of a tunnel has process 0.
const (
	innerPrefixBits = 112
	innerNet        = uint32(0xfd534e41)
)

// nat64Prefix carries IPv4 targets inside the tunnel (RFC 8215): the last 32
// bits are the address.
var nat64Prefix = netip.MustParsePrefix("64:ff9b:1::/96")

// innerPrefix returns the inner addresses that key owns.
func innerPrefix(key snaptun.PublicKey) netip.Prefix {
	return netip.PrefixFrom(innerAddr(key, 0), innerPrefixBits)
}

// innerAddr returns the inner address of one process that uses key.
func innerAddr(key snaptun.PublicKey, process uint16) netip.Addr {
	var a [16]byte
	hash := blake2s.Sum256(key[:])
	binary.BigEndian.PutUint32(a[0:], innerNet)
	copy(a[4:14], hash[:10])
	binary.BigEndian.PutUint16(a[14:], process)
	return netip.AddrFrom16(a)
}

// drawProcess draws the 16 bits that tell processes with one key apart. It is
// never the server's 0.
func drawProcess() uint16 { return uint16(1 + rand.N(0xffff)) }

// toInner returns the address that stands for ip inside the tunnel, where
// there is only IPv6.
func toInner(ip netip.Addr) netip.Addr {
	ip = ip.Unmap()
	if !ip.Is4() {
		return ip
	}
	a := nat64Prefix.Addr().As16()
	v4 := ip.As4()
	copy(a[12:], v4[:])
	return netip.AddrFrom16(a)
}

// fromInner is the inverse of toInner.
func fromInner(ip netip.Addr) netip.Addr {
	if !nat64Prefix.Contains(ip) {
		return ip.Unmap()
	}
	a := ip.As16()
	return netip.AddrFrom4([4]byte(a[12:]))
}
