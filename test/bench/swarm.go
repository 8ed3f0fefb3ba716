//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"

	"github.com/snapproxy/snapproxy/scion"
	"github.com/snapproxy/snapproxy/tunnel/snaptun"
)

// A swarm is many tunnels to a SNAP that share a socket: each has an address of
// 127.0.0.0/8 to itself. It belongs to one goroutine.
type swarm struct {
	snap    netip.AddrPort
	conn    *ipv4.PacketConn
	udp     *net.UDPConn
	tunnels []*swarmTunnel
	byIP    map[netip.Addr]*swarmTunnel
	out     []ipv4.Message // to be sent
	in      []ipv4.Message // to receive into
	counts  swarmCounts
	ticked  time.Time
}

// A swarmTunnel is one of them.
type swarmTunnel struct {
	session *snaptun.Session
	addr    scion.Addr // in SCION; a SNAP that stands alone takes the UDP address
	asked   time.Time  // when the last handshake began
	up      bool
}

// swarmCounts counts datagrams that arrived.
type swarmCounts struct {
	packets int // of those that were sent
	others  int // anything else after the handshakes
}

const (
	swarmBatch = 64
	// swarmWindow is how many handshakes are under way at a time.
	swarmWindow = 64
	// handshakePatience is how long a handshake may go unanswered before it is
	// tried again.
	handshakePatience = 500 * time.Millisecond
)

// newSwarm makes n tunnels with fresh keys, which a SNAP must be told before they
// connect.
func newSwarm(n int) (*swarm, []snaptun.PrivateKey, error) {
	lc := net.ListenConfig{}
	pc, err := lc.ListenPacket(context.Background(), "udp4", "0.0.0.0:0")
	if err != nil {
		return nil, nil, err
	}
	s := &swarm{udp: pc.(*net.UDPConn), conn: ipv4.NewPacketConn(pc), byIP: map[netip.Addr]*swarmTunnel{}}
	s.udp.SetReadBuffer(16 << 20)
	s.udp.SetWriteBuffer(4 << 20)
	force(s.udp)
	if err := s.conn.SetControlMessage(ipv4.FlagDst, true); err != nil {
		s.close()
		return nil, nil, err
	}
	ia, err := scion.ParseIA(isdAS)
	if err != nil {
		s.close()
		return nil, nil, err
	}
	port := uint16(s.udp.LocalAddr().(*net.UDPAddr).Port)
	keys := make([]snaptun.PrivateKey, n)
	for i := range keys {
		if keys[i], err = snaptun.NewPrivateKey(); err != nil {
			s.close()
			return nil, nil, err
		}
		ip := netip.AddrFrom4([4]byte{127, byte(1 + i>>16), byte(i >> 8), byte(i)})
		t := &swarmTunnel{addr: scion.Addr{IA: ia, Host: ip, Port: port}}
		s.tunnels = append(s.tunnels, t)
		s.byIP[ip] = t
	}
	for range swarmBatch {
		s.in = append(s.in, ipv4.Message{Buffers: [][]byte{make([]byte, 2048)}, OOB: make([]byte, 64)})
	}
	return s, keys, nil
}

// force asks for a receive buffer beyond what the system allows everybody.
func force(c *net.UDPConn) {
	if raw, err := c.SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) { unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20) })
	}
}

func (s *swarm) close() { s.udp.Close() }

// send queues a datagram from a tunnel, which is given away, and sends all that
// is queued once there is a batch.
func (s *swarm) send(t *swarmTunnel, b []byte) error {
	cm := ipv4.ControlMessage{Src: t.addr.Host.AsSlice()}
	s.out = append(s.out, ipv4.Message{Buffers: [][]byte{b}, OOB: cm.Marshal(), Addr: net.UDPAddrFromAddrPort(s.snap)})
	if len(s.out) == swarmBatch {
		return s.flush()
	}
	return nil
}

func (s *swarm) flush() error {
	err := s.write(s.out)
	s.out = s.out[:0]
	return err
}

// write sends messages.
func (s *swarm) write(messages []ipv4.Message) error {
	for len(messages) > 0 {
		n, err := s.conn.WriteBatch(messages, 0)
		if err != nil {
			return err
		}
		messages = messages[n:]
	}
	return nil
}

// receive takes what has arrived, waiting until deadline for the first of it,
// and calls handle with each datagram. What is queued is sent before.
func (s *swarm) receive(deadline time.Time, handle func(*swarmTunnel, []byte) error) error {
	if err := errors.Join(s.tick(time.Now()), s.flush()); err != nil {
		return err
	}
	s.udp.SetReadDeadline(deadline)
	n, err := s.conn.ReadBatch(s.in, 0)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, m := range s.in[:n] {
		// struct cmsghdr, then in_pktinfo: the interface, our address, and the
		// destination of the datagram.
		if m.NN < 28 {
			continue
		}
		if t := s.byIP[netip.AddrFrom4([4]byte(m.OOB[24:28]))]; t != nil {
			if err := handle(t, m.Buffers[0][:m.N]); err != nil {
				return err
			}
		}
	}
	return nil
}

// connect shakes hands for all tunnels with the SNAP at addr.
func (s *swarm) connect(ctx context.Context, addr netip.AddrPort, key snaptun.PublicKey, keys []snaptun.PrivateKey) error {
	s.snap = addr
	for i, t := range s.tunnels {
		var err error
		if t.session, err = snaptun.NewSession(snaptun.SessionConfig{PrivateKey: keys[i], PeerKey: key}, time.Now()); err != nil {
			return err
		}
	}
	waiting := s.tunnels
	for tries := 0; len(waiting) > 0; tries++ {
		if tries == 10 {
			return fmt.Errorf("%d of %d tunnels do not connect", len(waiting), len(s.tunnels))
		}
		if err := s.shake(ctx, waiting); err != nil {
			return err
		}
		waiting = slices.DeleteFunc(slices.Clone(waiting), func(t *swarmTunnel) bool { return t.up })
	}
	return nil
}

// shake tries one handshake for each tunnel, a window of them at a time.
func (s *swarm) shake(ctx context.Context, tunnels []*swarmTunnel) error {
	var under []*swarmTunnel // oldest first
	for next := 0; (next < len(tunnels) || len(under) > 0) && ctx.Err() == nil; {
		for ; next < len(tunnels) && len(under) < swarmWindow; next++ {
			t := tunnels[next]
			t.asked = time.Now()
			if err := t.session.Initiate(t.asked); err != nil {
				return err
			}
			if err := s.transmit(t); err != nil {
				return err
			}
			under = append(under, t)
		}
		if err := s.receive(time.Now().Add(handshakePatience/10), s.answer); err != nil {
			return err
		}
		under = slices.DeleteFunc(under, func(t *swarmTunnel) bool { return t.up || time.Since(t.asked) > handshakePatience })
	}
	return errors.Join(s.flush(), ctx.Err())
}

// answer gives a datagram to the session it is for, as a peer does that lives.
func (s *swarm) answer(t *swarmTunnel, b []byte) error {
	now := time.Now()
	if _, err := t.session.HandleDatagram(b, now); err != nil {
		return nil // a cookie reply, or an answer that is late
	}
	t.up = t.up || t.session.Up(now)
	return s.transmit(t)
}

// tickInterval is how often sessions are looked at. They have deadlines of their
// own; a second more does no harm.
const tickInterval = time.Second

// tick does what is due for all sessions.
func (s *swarm) tick(now time.Time) error {
	if now.Sub(s.ticked) < tickInterval {
		return nil
	}
	s.ticked = now
	for _, t := range s.tunnels {
		if due := t.session.NextTimeout(); t.up && !due.IsZero() && !due.After(now) {
			t.session.HandleTimeout(now)
			if err := s.transmit(t); err != nil {
				return err
			}
		}
	}
	return nil
}

// live does nothing but what sessions need for a while.
func (s *swarm) live(ctx context.Context, while time.Duration) error {
	for end := time.Now().Add(while); time.Now().Before(end) && ctx.Err() == nil; {
		if err := s.receive(time.Now().Add(20*time.Millisecond), s.answer); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// transmit sends what a session has to say.
func (s *swarm) transmit(t *swarmTunnel) error {
	for b := t.session.NextTransmit(); b != nil; b = t.session.NextTransmit() {
		if err := s.send(t, append([]byte(nil), b...)); err != nil {
			return err
		}
	}
	return nil
}
