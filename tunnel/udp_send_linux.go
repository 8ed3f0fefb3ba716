package tunnel

import (
	"fmt"
	"net/netip"
	"runtime"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	sendMessages = 64
	sendVectors  = 1024 // the system's limit for one message as well
	// maxSegments is what every kernel with UDP_SEGMENT takes in one message.
	maxSegments = 64
	// The segment size (24 bytes with its header) and our address (40).
	sendControl = 64
	// errorRetries is how often a message is tried again because an ICMP error
	// about another one was reported in its place.
	errorRetries = 3
)

// A sendBatch holds what one call of WritePackets hands to the kernel.
type sendBatch struct {
	s        *socket
	messages [sendMessages]unix.Mmsghdr
	iovecs   [sendVectors]unix.Iovec
	names    [sendMessages]sockaddr
	controls [sendMessages][sendControl / 8]uint64 // aligned for Cmsghdr

	nmessages, niovecs int

	// The last argument and results of send.
	begin int
	sent  int
	errno syscall.Errno
	send  func(fd uintptr)
}

// sendBatches are those that no socket has borrowed.
var sendBatches = sync.Pool{New: func() any { return newSendBatch() }}

// borrowSendBatch returns a batch for a socket, to be released.
func borrowSendBatch(s *socket) *sendBatch {
	b := sendBatches.Get().(*sendBatch)
	b.s = s
	return b
}

func newSendBatch() *sendBatch {
	b := new(sendBatch)
	b.send = func(fd uintptr) {
		b.sent, b.errno = b.s.sendmmsg(fd, b.messages[b.begin:b.nmessages])
	}
	return b
}

func sendmmsg(fd uintptr, messages []unix.Mmsghdr) (int, syscall.Errno) {
	n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&messages[0])), uintptr(len(messages)), unix.MSG_DONTWAIT, 0, 0)
	return int(n), errno
}

// WritePackets sends packets[i] to to[i]. Consecutive datagrams of one size to
// one address, the last of which may be smaller, leave as one burst where the
// kernel can segment it. It returns how many were sent; the others are dropped
// and counted. The error is net.ErrClosed, or says that the socket is unusable.
func (u *UDP) WritePackets(to []netip.AddrPort, packets [][]byte) (n int, err error) {
	b := borrowSendBatch(&u.socket)
	defer b.release()
	for len(packets) > 0 {
		taken := b.fill(u, to, packets)
		to, packets = to[taken:], packets[taken:]
		sent, err := b.flush(u)
		n += sent
		if err != nil {
			return n, fmt.Errorf("send from %s: %w", u.local, err)
		}
	}
	return n, nil
}

// release puts b back, without the packets it was lent.
func (b *sendBatch) release() {
	b.reset()
	b.s = nil
	sendBatches.Put(b)
}

func (b *sendBatch) reset() {
	clear(b.iovecs[:b.niovecs])
	for i := range b.messages[:b.nmessages] {
		b.messages[i].Hdr.Control = nil
	}
	b.nmessages, b.niovecs, b.begin = 0, 0, 0
}

// fill turns as many packets into messages as there is room for and returns how
// many it took.
func (b *sendBatch) fill(u *UDP, to []netip.AddrPort, packets [][]byte) (taken int) {
	b.reset()
	segment := b.s.segment.Load()
	limit := int(u.coalesce.Load())
	for taken < len(packets) && b.nmessages < sendMessages && b.niovecs < sendVectors {
		run := 1
		if segment {
			run = burst(to[taken:], packets[taken:], limit, min(maxSegments, sendVectors-b.niovecs))
		}
		if !b.add(to[taken], packets[taken:taken+run]) {
			u.counters.sendFamily.Add(uint64(run))
		}
		taken += run
	}
	return taken
}

// burst returns how many of the first packets may leave as one.
func burst(to []netip.AddrPort, packets [][]byte, bytes, segments int) int {
	size := len(packets[0])
	if size == 0 {
		return 1
	}
	total := size
	n := 1
	for n < len(packets) && n < segments {
		next := len(packets[n])
		if next == 0 || next > size || total+next > bytes || to[n] != to[0] {
			break
		}
		total += next
		n++
		if next < size {
			break
		}
	}
	return n
}

// add appends a message that carries packets, all to one address. It reports
// false if the socket's family cannot reach it.
func (b *sendBatch) add(to netip.AddrPort, packets [][]byte) bool {
	i := b.nmessages
	name := &b.names[i]
	namelen := putSockaddr(name, to, b.s.ipv6)
	if namelen == 0 || !to.Addr().IsValid() {
		return false
	}
	m := &b.messages[i]
	m.Len = 0
	h := &m.Hdr
	h.Name = (*byte)(unsafe.Pointer(name))
	h.Namelen = namelen
	h.Iov = &b.iovecs[b.niovecs]
	h.SetIovlen(len(packets))
	h.Flags = 0
	for _, p := range packets {
		v := &b.iovecs[b.niovecs]
		v.Base = unsafe.SliceData(p)
		v.SetLen(len(p))
		b.niovecs++
	}
	c := controlWriter{p: unsafe.Pointer(&b.controls[i])}
	if b.s.wildcard {
		c.putSource(b.s.asked.local(to), b.s.ipv6)
	}
	if len(packets) > 1 {
		c.putSegments(len(packets[0]))
	}
	h.SetControllen(c.n)
	h.Control = nil
	if c.n > 0 {
		h.Control = (*byte)(unsafe.Pointer(&b.controls[i]))
	}
	b.nmessages++
	return true
}

// A controlWriter appends control messages.
type controlWriter struct {
	p unsafe.Pointer
	n int
}

func (c *controlWriter) put(level, typ int32, size int) unsafe.Pointer {
	h := (*unix.Cmsghdr)(unsafe.Add(c.p, c.n))
	h.Level, h.Type = level, typ
	h.SetLen(unix.CmsgLen(size))
	content := unsafe.Add(c.p, c.n+unix.CmsgLen(0))
	c.n += unix.CmsgSpace(size)
	return content
}

const segmentSize = 2 // bytes that its size takes

// putSegments makes a message a burst of segments.
func (c *controlWriter) putSegments(size int) {
	*(*uint16)(c.put(unix.IPPROTO_UDP, unix.UDP_SEGMENT, segmentSize)) = uint16(size)
}

// putSource makes a message leave from local, if that is known.
func (c *controlWriter) putSource(local netip.Addr, ipv6 bool) {
	switch {
	case !local.IsValid():
	case ipv6: // mapped IPv4 included
		*(*unix.Inet6Pktinfo)(c.put(unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, unix.SizeofInet6Pktinfo)) = unix.Inet6Pktinfo{Addr: local.As16()}
	case local.Is4():
		*(*unix.Inet4Pktinfo)(c.put(unix.IPPROTO_IP, unix.IP_PKTINFO, unix.SizeofInet4Pktinfo)) = unix.Inet4Pktinfo{Spec_dst: local.As4()}
	}
}

// flush hands the messages to the kernel and returns how many datagrams it took.
func (b *sendBatch) flush(u *UDP) (n int, err error) {
	c := &u.counters
	retries := 0
	for b.begin < b.nmessages {
		c.sendCalls.Add(1)
		if err := b.s.raw.Control(b.send); err != nil {
			return n, err
		}
		if b.errno == 0 {
			if b.sent <= 0 {
				break
			}
			for i := range b.messages[b.begin : b.begin+b.sent] {
				segments := int(b.messages[b.begin+i].Hdr.Iovlen)
				n += segments
				c.sent.Add(uint64(segments))
				if segments > 1 {
					c.sendBursts.Add(1)
				}
			}
			b.begin += b.sent
			retries = 0
			continue
		}
		m := &b.messages[b.begin]
		segments := uint64(m.Hdr.Iovlen)
		switch b.errno {
		case unix.EINTR:
			continue
		case unix.EBADF, unix.ENOTSOCK, unix.EFAULT:
			return n, b.errno
		case unix.EIO, unix.EINVAL:
			if b.withoutSource() {
				continue
			}
			if segments > 1 {
				sent, err := b.unsegmented(u)
				n += sent
				if err != nil {
					return n, err
				}
				b.begin++
				continue
			}
			c.sendErrors.Add(1)
		case unix.EAGAIN: // the rest would find the buffer as full
			c.sendBufferFull.Add(b.segmentsFrom(b.begin))
			return n, nil
		case unix.ENOBUFS, unix.ENOMEM:
			c.sendBufferFull.Add(segments)
		case unix.EMSGSIZE:
			c.sendTooLarge.Add(segments)
		case unix.EPERM, unix.EACCES:
			c.sendDenied.Add(segments)
		case unix.ECONNREFUSED, unix.EHOSTUNREACH, unix.ENETUNREACH, unix.EHOSTDOWN, unix.ENETDOWN, unix.EPROTO, unix.ENOPROTOOPT, unix.EADDRNOTAVAIL:
			// Most likely an ICMP error that waited to be reported to anybody.
			if retries < errorRetries {
				retries++
				continue
			}
			if b.withoutSource() {
				continue
			}
			c.sendUnreachable.Add(segments)
		default:
			c.sendErrors.Add(segments)
		}
		retries = 0
		b.begin++
	}
	runtime.KeepAlive(b)
	return n, nil
}

// withoutSource makes the next message leave from whatever address the kernel
// chooses, because the one that was asked may be ours no more. It reports false
// if the message was such already.
func (b *sendBatch) withoutSource() bool {
	h := &b.messages[b.begin].Hdr
	own := 0
	if h.Iovlen > 1 {
		own = unix.CmsgSpace(segmentSize)
	}
	if int(h.Controllen) <= own {
		return false
	}
	b.s.asked.forget(takeSockaddr(&b.names[b.begin], h.Namelen))
	c := controlWriter{p: unsafe.Pointer(&b.controls[b.begin])}
	if own > 0 {
		c.putSegments(int(h.Iov.Len))
	}
	h.SetControllen(c.n)
	return true
}

func (b *sendBatch) segmentsFrom(i int) (n uint64) {
	for ; i < b.nmessages; i++ {
		n += uint64(b.messages[i].Hdr.Iovlen)
	}
	return n
}

// unsegmented sends the datagrams of the next message one by one, after the
// kernel refused them as a burst. If that is no better than before, the burst was
// not the fault; else the socket sends none any more.
func (b *sendBatch) unsegmented(u *UDP) (n int, err error) {
	c := &u.counters
	c.segmentationRetries.Add(1)
	refused := b.errno
	m := &b.messages[b.begin].Hdr
	single := borrowSendBatch(b.s)
	defer single.release()
	packets := unsafe.Slice(m.Iov, int(m.Iovlen))
	to := takeSockaddr((*sockaddr)(unsafe.Pointer(m.Name)), m.Namelen)
	for len(packets) > 0 {
		single.reset()
		for len(packets) > 0 && single.nmessages < sendMessages {
			p := unsafe.Slice(packets[0].Base, int(packets[0].Len))
			single.add(to, [][]byte{p})
			packets = packets[1:]
		}
		sent, err := single.flush(u)
		n += sent
		if err != nil {
			return n, err
		}
	}
	if n > 0 && b.s.segment.CompareAndSwap(true, false) {
		u.logger.Info("kernel refused a segmented send, sending datagrams one by one", "local", u.local, "error", refused)
	}
	return n, nil
}
