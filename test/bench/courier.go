//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/snapproxy/snapproxy/scion"
	"github.com/snapproxy/snapproxy/tunnel/snaptun"
)

// A courier has two tunnels to a SNAP and carries packets from the first to the
// second. It takes as little of the machine as it can: packets are sealed and
// messages laid out before the clock starts, and what arrives is counted unread.
type courier struct {
	ends     [2]courierEnd
	pid      int          // of the SNAP
	arena    []byte       // sealed datagrams, one after the other
	messages []mmsghdr    // of a datagram, or of a burst, each
	iovecs   []unix.Iovec // one for each message
}

// A courierEnd is one of the tunnels, on a socket that is connected to the SNAP.
type courierEnd struct {
	fd      int
	session *snaptun.Session
	addr    scion.Addr // in SCION; a SNAP that stands alone takes the UDP address
}

// mmsghdr is struct mmsghdr of sendmmsg(2) and recvmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	n   uint32
	_   [4]byte
}

const (
	// courierBatch is how many messages a call of the system sends or receives.
	courierBatch = 64
	// courierBurst is how many datagrams leave as one where bursts are asked for.
	courierBurst = 45
	// courierStep is how many datagrams are sent at a time at a rate.
	courierStep = 32
	// courierOverhead is what a tunnel adds to a packet: message header and tag.
	courierOverhead = 32
	courierDatagram = swarmPacket + courierOverhead
)

// newCourier makes two tunnels with the keys to a SNAP, which is process pid.
func newCourier(ctx context.Context, addr netip.AddrPort, key snaptun.PublicKey, keys []snaptun.PrivateKey, pid int) (*courier, error) {
	ia, err := scion.ParseIA(isdAS)
	if err != nil {
		return nil, err
	}
	c := &courier{pid: pid, ends: [2]courierEnd{{fd: -1}, {fd: -1}}}
	for i := range c.ends {
		if err := c.ends[i].open(addr, key, keys[i], ia); err != nil {
			c.close()
			return nil, err
		}
	}
	if err := c.connect(ctx); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

func (e *courierEnd) open(snap netip.AddrPort, key snaptun.PublicKey, own snaptun.PrivateKey, ia scion.IA) (err error) {
	if e.session, err = snaptun.NewSession(snaptun.SessionConfig{PrivateKey: own, PeerKey: key}, time.Now()); err != nil {
		return err
	}
	if e.fd, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
		return os.NewSyscallError("socket", err)
	}
	if err := unix.Bind(e.fd, &unix.SockaddrInet4{Addr: loopback.As4()}); err != nil {
		return os.NewSyscallError("bind", err)
	}
	if err := unix.Connect(e.fd, &unix.SockaddrInet4{Addr: snap.Addr().As4(), Port: int(snap.Port())}); err != nil {
		return os.NewSyscallError("connect", err)
	}
	// As much as the system allows everybody, and beyond that if it may be.
	unix.SetsockoptInt(e.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 16<<20)
	unix.SetsockoptInt(e.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20)
	// What the SNAP sends as a burst is taken as one.
	if err := unix.SetsockoptInt(e.fd, unix.IPPROTO_UDP, unix.UDP_GRO, 1); err != nil {
		return os.NewSyscallError("setsockopt", err)
	}
	local, err := unix.Getsockname(e.fd)
	if err != nil {
		return os.NewSyscallError("getsockname", err)
	}
	e.addr = scion.Addr{IA: ia, Host: loopback, Port: uint16(local.(*unix.SockaddrInet4).Port)}
	return e.patience(handshakePatience)
}

// patience is how long the socket waits for a datagram.
func (e *courierEnd) patience(d time.Duration) error {
	tv := unix.NsecToTimeval(d.Nanoseconds())
	return os.NewSyscallError("setsockopt", unix.SetsockoptTimeval(e.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv))
}

func (c *courier) close() {
	for _, e := range c.ends {
		if e.fd >= 0 {
			unix.Close(e.fd)
		}
	}
}

// connect gives both tunnels new keys, so that none grows old while packets are
// counted, and sees a packet through.
func (c *courier) connect(ctx context.Context) error {
	for i := range c.ends {
		if err := c.ends[i].shake(ctx); err != nil {
			return fmt.Errorf("tunnel %d: %w", i, err)
		}
	}
	want := []byte("a packet that arrives whole")
	packet, err := scion.AppendUDP(nil, c.ends[0].addr, c.ends[1].addr, want)
	if err != nil {
		return err
	}
	var buf [2048]byte
	for range 10 {
		sealed, err := c.ends[0].session.Seal(nil, packet, time.Now())
		if err != nil {
			return err
		}
		if _, err := unix.Write(c.ends[0].fd, sealed); err != nil {
			return os.NewSyscallError("write", err)
		}
		got, err := c.ends[1].receive(buf[:])
		if err != nil {
			return err
		}
		if bytes.HasSuffix(got, want) {
			return nil
		}
	}
	return errors.New("no packet goes from tunnel to tunnel")
}

// shake shakes hands with the SNAP.
func (e *courierEnd) shake(ctx context.Context) error {
	var buf [2048]byte
	for range 10 {
		if err := e.session.Initiate(time.Now()); err != nil {
			return err
		}
		if err := e.transmit(); err != nil {
			return err
		}
		for begin := time.Now(); time.Since(begin) < handshakePatience && ctx.Err() == nil; {
			if _, err := e.receive(buf[:]); err != nil {
				return err
			}
			for event, ok := e.session.NextEvent(); ok; event, ok = e.session.NextEvent() {
				if _, ok := event.(snaptun.Established); ok {
					return nil
				}
			}
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return errors.New("the SNAP does not answer")
}

// receive takes a datagram, if one comes, and returns what the session finds in
// it.
func (e *courierEnd) receive(buf []byte) (payload []byte, err error) {
	n, err := unix.Read(e.fd, buf)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
		return nil, nil
	}
	if err != nil {
		return nil, os.NewSyscallError("read", err)
	}
	payload, _ = e.session.HandleDatagram(buf[:n], time.Now()) // what is of no use does no harm
	return payload, e.transmit()
}

func (e *courierEnd) transmit() error {
	for b := e.session.NextTransmit(); b != nil; b = e.session.NextTransmit() {
		if _, err := unix.Write(e.fd, b); err != nil {
			return os.NewSyscallError("write", err)
		}
	}
	return nil
}

// seal lays out n packets, in bursts or one by one.
func (c *courier) seal(n int, bursts bool) error {
	packet, err := scion.AppendUDP(nil, c.ends[0].addr, c.ends[1].addr, payloadOf(swarmPacket))
	if err != nil {
		return err
	}
	if cap(c.arena) < n*courierDatagram {
		c.arena = make([]byte, 0, n*courierDatagram)
	}
	c.arena = c.arena[:0]
	now := time.Now()
	for range n {
		if c.arena, err = c.ends[0].session.Seal(c.arena, packet, now); err != nil {
			return err
		}
	}
	if len(c.arena) != n*courierDatagram {
		return errors.New("a tunnel has no session any more")
	}
	size, segment := courierDatagram, 0
	if bursts {
		size, segment = courierBurst*courierDatagram, courierDatagram
	}
	// With a segment size, what is longer leaves as a burst.
	if err := unix.SetsockoptInt(c.ends[0].fd, unix.IPPROTO_UDP, unix.UDP_SEGMENT, segment); err != nil {
		return os.NewSyscallError("setsockopt", err)
	}
	count := (len(c.arena) + size - 1) / size
	c.messages, c.iovecs = make([]mmsghdr, count), make([]unix.Iovec, count)
	for i := range count {
		b := c.arena[i*size : min((i+1)*size, len(c.arena))]
		c.iovecs[i].Base = &b[0]
		c.iovecs[i].SetLen(len(b))
		c.messages[i].hdr.Iov = &c.iovecs[i]
		c.messages[i].hdr.SetIovlen(1)
	}
	return nil
}

// A delivery is what became of packets.
type delivery struct {
	sent, arrived int
	offered       float64 // packets sent in a second
	delivered     float64 // that arrived in a second
	perPacket     float64 // CPU seconds of the SNAP for each that arrived
}

// carry sends n packets at a rate, 0 for as fast as they go.
func (c *courier) carry(ctx context.Context, n, rate int, bursts bool) (d delivery, err error) {
	if err := c.connect(ctx); err != nil {
		return d, err
	}
	if err := c.seal(n, bursts); err != nil {
		return d, err
	}
	if err := c.ends[1].patience(50 * time.Millisecond); err != nil {
		return d, err
	}
	defer c.ends[1].patience(handshakePatience)
	missed, err := c.ends[1].missed()
	if err != nil {
		return d, err
	}
	before := ranFor(c.pid)
	begin := time.Now()
	var took time.Duration
	sent := make(chan error, 1)
	go func() {
		err := c.send(rate)
		took = time.Since(begin)
		sent <- err
	}()
	arrived, end, err := c.count(n, sent)
	if err != nil {
		return d, err
	}
	if arrived == 0 {
		return d, errors.New("no packet arrives")
	}
	used := ranFor(c.pid) - before
	now, err := c.ends[1].missed()
	if err == nil && now != missed {
		err = fmt.Errorf("the generator itself lost %d packets", now-missed)
	}
	if err == nil {
		err = ctx.Err()
	}
	return delivery{sent: n, arrived: arrived, offered: float64(n) / took.Seconds(),
		delivered: float64(arrived) / end.Sub(begin).Seconds(), perPacket: used.Seconds() / float64(arrived)}, err
}

// send sends the messages, some of them at a time.
func (c *courier) send(rate int) error {
	runtime.LockOSThread() // and leaves it so: the thread's clock is finer than that of others
	unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
	step := courierBatch
	if rate > 0 {
		step = courierStep
	}
	begin := time.Now()
	for i := 0; i < len(c.messages); i += step {
		if rate > 0 {
			due := begin.Add(time.Duration(i) * time.Second / time.Duration(rate))
			if wait := time.Until(due); wait > 0 {
				ts := unix.NsecToTimespec(wait.Nanoseconds())
				unix.Nanosleep(&ts, nil)
			}
		}
		for batch := c.messages[i:min(i+step, len(c.messages))]; len(batch) > 0; {
			k, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(c.ends[0].fd), uintptr(unsafe.Pointer(&batch[0])), uintptr(len(batch)), 0, 0, 0)
			switch errno {
			case 0:
				batch = batch[k:]
			case unix.EINTR, unix.EAGAIN, unix.ENOBUFS:
			default:
				return os.NewSyscallError("sendmmsg", errno)
			}
		}
	}
	return nil
}

// count counts what arrives of n packets until all have been sent and no more
// come. end is when the last one came.
func (c *courier) count(n int, sent <-chan error) (arrived int, end time.Time, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var messages [courierBatch]mmsghdr
	var iovecs [courierBatch]unix.Iovec
	var heads [courierBatch][16]byte
	var controls [courierBatch][unix.SizeofCmsghdr + 8]byte
	for i := range messages {
		iovecs[i].Base = &heads[i][0]
		iovecs[i].SetLen(len(heads[i]))
		messages[i].hdr.Iov = &iovecs[i]
		messages[i].hdr.SetIovlen(1)
		messages[i].hdr.Control = &controls[i][0]
	}
	end = time.Now()
	done := false
	for arrived < n {
		for i := range messages {
			messages[i].hdr.SetControllen(len(controls[i]))
		}
		// The rest of each is thrown away, but its length is told.
		k, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(c.ends[1].fd), uintptr(unsafe.Pointer(&messages[0])), courierBatch, unix.MSG_WAITFORONE|unix.MSG_TRUNC, 0, 0)
		switch errno {
		case 0:
			for i := range messages[:k] {
				arrived += datagrams(int(messages[i].n), controls[i][:messages[i].hdr.Controllen])
			}
			end = time.Now()
		case unix.EINTR:
		case unix.EAGAIN: // nothing for a while
			if done {
				return arrived, end, nil
			}
		default:
			return 0, end, os.NewSyscallError("recvmmsg", errno)
		}
		if !done {
			select {
			case err := <-sent:
				if err != nil {
					return 0, end, err
				}
				done = true
			default:
			}
		}
	}
	if !done {
		err = <-sent
	}
	return arrived, end, err
}

// datagrams is how many of our packets a message of n bytes is.
func datagrams(n int, control []byte) int {
	size := n
	if len(control) >= unix.SizeofCmsghdr+2 { // struct cmsghdr, then the size of the segments
		size = int(binary.NativeEndian.Uint16(control[unix.SizeofCmsghdr:]))
	}
	if size != courierDatagram {
		return 0
	}
	return n / courierDatagram
}

// missed is how many datagrams the socket had no room for.
func (e *courierEnd) missed() (uint32, error) {
	const drops = 8 // SK_MEMINFO_DROPS of sock_diag(7)
	var info [16]uint32
	size := uint32(unsafe.Sizeof(info))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(e.fd), unix.SOL_SOCKET, unix.SO_MEMINFO, uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return 0, os.NewSyscallError("getsockopt", errno)
	}
	return info[drops], nil
}
