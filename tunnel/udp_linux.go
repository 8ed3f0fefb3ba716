package tunnel

import (
	"fmt"
	"net/netip"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A socket is what UDP needs on Linux: recvmmsg with UDP_GRO, sendmmsg with
// UDP_SEGMENT, and the address that a datagram came to.
type socket struct {
	raw      syscall.RawConn
	ipv6     bool // the socket's family; it may also carry mapped IPv4
	wildcard bool
	gro      bool
	segment  atomic.Bool // bursts are sent segmented
	asked    askedAddrs  // on a wildcard address
	overflow atomic.Uint64

	// sendmmsg is the system call, replaced in tests.
	sendmmsg func(fd uintptr, messages []unix.Mmsghdr) (int, syscall.Errno)
}

// control sets the options that must stand before the socket is bound.
func (u *UDP) control(network, _ string, c syscall.RawConn) error {
	return c.Control(func(fd uintptr) {
		s := options(fd)
		v6 := network == "udp6"
		u.socket.ipv6 = v6
		// Datagrams are never fragmented on the way: what is too large is told
		// at once by EMSGSIZE. ICMP errors are queued, with the destination they
		// are about. A dual-stack socket needs both families' options.
		s.set(unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE)
		s.set(unix.IPPROTO_IP, unix.IP_RECVERR, 1)
		if v6 {
			s.set(unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE)
			s.set(unix.IPPROTO_IPV6, unix.IPV6_DONTFRAG, 1)
			s.set(unix.IPPROTO_IPV6, unix.IPV6_RECVERR, 1)
		}
		u.socket.gro = s.set(unix.IPPROTO_UDP, unix.UDP_GRO, 1)
		_, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_SEGMENT)
		u.socket.segment.Store(err == nil)
		s.grow(unix.SO_RCVBUF, unix.SO_RCVBUFFORCE, u.cfg.ReceiveBuffer)
		s.grow(unix.SO_SNDBUF, unix.SO_SNDBUFFORCE, u.cfg.SendBuffer)
		u.report("receive", s.get(unix.SO_RCVBUF), u.cfg.ReceiveBuffer, "net.core.rmem_max")
		u.report("send", s.get(unix.SO_SNDBUF), u.cfg.SendBuffer, "net.core.wmem_max")
	})
}

// report tells of a socket buffer that is smaller than what was asked for.
func (u *UDP) report(which string, granted, asked int, sysctl string) {
	if granted < asked {
		u.logger.Info("socket buffer smaller than asked, bursts may be lost",
			"buffer", which, "granted", granted, "sysctl", fmt.Sprintf("%s=%d", sysctl, asked))
	}
}

// open prepares the bound socket.
func (u *UDP) open() error {
	s := &u.socket
	raw, err := u.conn.SyscallConn()
	if err != nil {
		return fmt.Errorf("reach the socket: %w", err)
	}
	s.raw = raw
	s.sendmmsg = sendmmsg
	if s.wildcard = u.local.Addr().IsUnspecified(); !s.wildcard {
		return nil
	}
	return raw.Control(func(fd uintptr) {
		o := options(fd)
		o.set(unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
		if s.ipv6 {
			o.set(unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
		}
	})
}

// overflow returns how many datagrams found no room in the receive buffer. Once
// the socket is closed it is the number of the last call.
func (u *UDP) overflow() uint64 {
	const drops, variables = 8, 9 // SK_MEMINFO_DROPS and SK_MEMINFO_VARS of sock_diag(7)
	_ = u.socket.raw.Control(func(fd uintptr) {
		var info [variables]uint32
		size := uint32(unsafe.Sizeof(info))
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_MEMINFO,
			uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
		if errno == 0 {
			u.socket.overflow.Store(uint64(info[drops]))
		}
	})
	return u.socket.overflow.Load()
}

// options are the options of a socket. What the kernel does not know is done
// without.
type options uintptr

func (fd options) set(level, name, value int) bool {
	return unix.SetsockoptInt(int(fd), level, name, value) == nil
}

func (fd options) get(name int) int {
	n, _ := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, name)
	return n / 2 // the kernel doubles what it is asked for
}

// grow asks for a larger buffer, beyond the system's limit if we are privileged,
// and never makes one smaller.
func (fd options) grow(name, force, size int) {
	if fd.get(name) >= size || fd.set(unix.SOL_SOCKET, force, size) {
		return
	}
	fd.set(unix.SOL_SOCKET, name, size)
}

// A sockaddr has room for an address of either family.
type sockaddr = unix.RawSockaddrInet6

// putSockaddr stores an address in the form of the socket's family and returns
// its length, 0 if the family cannot hold it.
func putSockaddr(dst *sockaddr, a netip.AddrPort, ipv6 bool) uint32 {
	port := (*[2]byte)(unsafe.Pointer(&dst.Port))
	port[0], port[1] = byte(a.Port()>>8), byte(a.Port())
	ip := a.Addr()
	if ipv6 {
		dst.Family = unix.AF_INET6
		dst.Flowinfo = 0
		dst.Addr = ip.As16()
		dst.Scope_id = zoneIndex(ip.Zone())
		return unix.SizeofSockaddrInet6
	}
	if !ip.Is4() && !ip.Is4In6() {
		return 0
	}
	dst4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(dst))
	dst4.Family = unix.AF_INET
	dst4.Addr = ip.As4()
	return unix.SizeofSockaddrInet4
}

// takeSockaddr is the inverse of putSockaddr. It returns the zero AddrPort for
// what is no address.
func takeSockaddr(src *sockaddr, n uint32) netip.AddrPort {
	b := (*[2]byte)(unsafe.Pointer(&src.Port))
	port := uint16(b[0])<<8 | uint16(b[1])
	switch {
	case src.Family == unix.AF_INET && n >= unix.SizeofSockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4((*unix.RawSockaddrInet4)(unsafe.Pointer(src)).Addr), port)
	case src.Family == unix.AF_INET6 && n >= unix.SizeofSockaddrInet6:
		ip := netip.AddrFrom16(src.Addr).Unmap()
		if src.Scope_id != 0 {
			ip = ip.WithZone(zoneName(src.Scope_id))
		}
		return netip.AddrPortFrom(ip, port)
	}
	return netip.AddrPort{}
}
