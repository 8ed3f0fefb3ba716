package tunnel

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	receiveMessages = 32
	// A coalesced burst has up to 64 KiB; smaller buffers would truncate it.
	receiveSize = 64 << 10
	// Each message may bring the size of the segments (24 bytes with its header)
	// and the address it came to (32 or 40).
	receiveControl = 96
)

// A receiver holds the buffers of Run: 2 MiB, which a socket borrows only while
// datagrams come, so that one that waits costs nothing.
type receiver struct {
	u        *UDP
	messages [receiveMessages]unix.Mmsghdr
	iovecs   [receiveMessages]unix.Iovec
	names    [receiveMessages]sockaddr
	controls [receiveMessages][receiveControl / 8]uint64 // aligned for Cmsghdr
	buffers  []byte

	n     int           // messages received by tryReceive
	errno syscall.Errno // why not

	from    []netip.AddrPort
	packets [][]byte
}

// receivers are those that no socket has borrowed.
var receivers = sync.Pool{New: func() any { return newReceiver() }}

func newReceiver() *receiver {
	r := &receiver{buffers: make([]byte, receiveMessages*receiveSize)}
	for i := range r.messages {
		r.iovecs[i].Base = &r.buffers[i*receiveSize]
		r.iovecs[i].SetLen(receiveSize)
		h := &r.messages[i].Hdr
		h.Name = (*byte)(unsafe.Pointer(&r.names[i]))
		h.Iov = &r.iovecs[i]
		h.SetIovlen(1)
		h.Control = (*byte)(unsafe.Pointer(&r.controls[i]))
	}
	return r
}

// borrowReceiver returns a receiver for u, to be given back.
func borrowReceiver(u *UDP) *receiver {
	r := receivers.Get().(*receiver)
	r.u = u
	return r
}

func (r *receiver) giveBack() {
	clear(r.from)
	r.u, r.from, r.packets = nil, r.from[:0], r.packets[:0]
	receivers.Put(r)
}

func (u *UDP) receive(ctx context.Context, deliver func([]netip.AddrPort, [][]byte) error) error {
	var r *receiver
	defer func() {
		if r != nil {
			r.giveBack()
		}
	}()
	poll := func(fd uintptr) bool {
		if r == nil {
			r = borrowReceiver(u)
		}
		if r.tryReceive(fd) {
			return true
		}
		r.giveBack()
		r = nil
		return false
	}
	for ctx.Err() == nil {
		if r != nil {
			r.from, r.packets = r.from[:0], r.packets[:0]
		}
		if err := u.socket.raw.Read(poll); err != nil {
			return fmt.Errorf("receive on %s: %w", u.local, err)
		}
		switch r.errno {
		case 0:
			r.split()
		case unix.EBADF, unix.ENOTSOCK, unix.EFAULT:
			return fmt.Errorf("receive on %s: %w", u.local, r.errno)
		default: // an ICMP error that waited; its destination stands in the queue
			u.counters.receiveErrors.Add(1)
		}
		if len(r.packets) == 0 {
			continue
		}
		if err := deliver(r.from, r.packets); err != nil {
			return err
		}
	}
	return nil
}

// tryReceive receives what is there. It returns false, so that the poller waits,
// if that is nothing.
func (r *receiver) tryReceive(fd uintptr) bool {
	for i := range r.messages {
		h := &r.messages[i].Hdr
		h.Namelen = uint32(unsafe.Sizeof(r.names[i]))
		h.SetControllen(receiveControl)
	}
	r.u.counters.receiveCalls.Add(1)
	n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&r.messages)), receiveMessages, unix.MSG_DONTWAIT, 0, 0)
	r.n, r.errno = int(n), errno
	switch errno {
	case 0:
		return true
	case unix.EINTR:
		r.n, r.errno = 0, 0
		return true
	case unix.EAGAIN:
		// The wake-up may have been for an error that a send has taken since, so
		// look at the queue before going to sleep.
		r.n, r.errno = 0, 0
		return r.takeErrors(fd)
	}
	r.n = 0
	r.takeErrors(fd)
	return true
}

// split finds the datagrams in what was received.
func (r *receiver) split() {
	c := &r.u.counters
	for i := range r.messages[:r.n] {
		m := &r.messages[i]
		from := takeSockaddr(&r.names[i], m.Hdr.Namelen)
		burst := r.buffers[i*receiveSize:][:m.Len]
		size, local := r.control(i)
		if m.Hdr.Flags&unix.MSG_TRUNC != 0 {
			c.receiveTruncated.Add(1)
			continue
		}
		if local.IsValid() {
			r.u.socket.asked.note(from, local)
		}
		if size <= 0 {
			size = len(burst)
		}
		for {
			n := min(size, len(burst))
			r.from = append(r.from, from)
			r.packets = append(r.packets, burst[:n:n])
			if burst = burst[n:]; len(burst) == 0 {
				break
			}
		}
	}
	c.received.Add(uint64(len(r.packets)))
}

// control returns what stands beside message i: the size of the segments it was
// coalesced from, and on a wildcard address which of ours it came to.
func (r *receiver) control(i int) (size int, local netip.Addr) {
	eachControl(&r.messages[i].Hdr, func(h *unix.Cmsghdr, p unsafe.Pointer, n int) {
		switch {
		case h.Level == unix.IPPROTO_UDP && h.Type == unix.UDP_GRO && n >= 4:
			size = int(*(*int32)(p))
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_PKTINFO && n >= unix.SizeofInet4Pktinfo:
			local = netip.AddrFrom4((*unix.Inet4Pktinfo)(p).Spec_dst)
		case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_PKTINFO && n >= unix.SizeofInet6Pktinfo && !local.IsValid():
			local = netip.AddrFrom16((*unix.Inet6Pktinfo)(p).Addr).Unmap()
		}
	})
	return size, local
}

// takeErrors empties the error queue and reports whether that gave hints.
func (r *receiver) takeErrors(fd uintptr) bool {
	var (
		name    = &r.names[0]
		h       = &r.messages[0].Hdr
		limit   = 64 // so that a flood of errors does not keep us from receiving
		unheard = len(r.packets)
	)
	for ; limit > 0; limit-- {
		h.Namelen = uint32(unsafe.Sizeof(*name))
		h.SetControllen(receiveControl)
		_, _, errno := unix.Syscall(unix.SYS_RECVMSG, fd, uintptr(unsafe.Pointer(h)), unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
		if errno != 0 {
			break
		}
		if to := takeSockaddr(name, h.Namelen); to.IsValid() && unreachable(h) {
			r.from = append(r.from, to)
			r.packets = append(r.packets, nil)
		}
	}
	r.u.counters.hints.Add(uint64(len(r.packets) - unheard))
	return len(r.packets) > unheard
}

// unreachable reports whether an entry of the error queue is an ICMP message
// that says that nobody is there.
func unreachable(h *unix.Msghdr) (found bool) {
	eachControl(h, func(c *unix.Cmsghdr, p unsafe.Pointer, n int) {
		isError := c.Level == unix.IPPROTO_IP && c.Type == unix.IP_RECVERR || c.Level == unix.IPPROTO_IPV6 && c.Type == unix.IPV6_RECVERR
		if !isError || n < int(unsafe.Sizeof(unix.SockExtendedErr{})) {
			return
		}
		e := (*unix.SockExtendedErr)(p)
		if e.Origin != unix.SO_EE_ORIGIN_ICMP && e.Origin != unix.SO_EE_ORIGIN_ICMP6 {
			return
		}
		switch syscall.Errno(e.Errno) {
		case unix.ECONNREFUSED, unix.EHOSTUNREACH, unix.ENETUNREACH, unix.EHOSTDOWN, unix.EACCES, unix.ENOPROTOOPT:
			found = true
		}
	})
	return found
}

// eachControl calls f with each control message and its n bytes of content.
func eachControl(h *unix.Msghdr, f func(c *unix.Cmsghdr, p unsafe.Pointer, n int)) {
	header := unix.CmsgLen(0)
	left := int(h.Controllen)
	if left == 0 {
		return
	}
	p := unsafe.Pointer(h.Control)
	for left >= header {
		c := (*unix.Cmsghdr)(p)
		n := int(c.Len)
		if n < header || n > left {
			return
		}
		f(c, unsafe.Add(p, header), n-header)
		space := unix.CmsgSpace(n - header)
		if space >= left {
			return
		}
		p = unsafe.Add(p, space)
		left -= space
	}
}
