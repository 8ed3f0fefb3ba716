package tunnel

import (
	"context"
	"encoding/binary"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/snapproxy/snapproxy/test/netsim"
	"github.com/snapproxy/snapproxy/tunnel/snaptun"
)

type addr = netip.AddrPort

var (
	clientAddr = netip.MustParseAddrPort("192.0.2.1:1000")
	serverAddr = netip.MustParseAddrPort("198.51.100.1:2000")
)

// A world is a Conn and a Listener on a simulated network. It lives in a
// synctest bubble.
type world struct {
	t    *testing.T
	net  *netsim.Network[addr]
	keys struct{ client, server snaptun.PrivateKey }

	// What the next conn and listener are made with.
	frameSize func(addr) int
	queues    int
	keepalive time.Duration
	timers    snaptun.Timers
	denied    atomic.Bool // no key is authorized
	// refuse makes the listener not answer packets by itself.
	silent bool
}

func newWorld(t *testing.T, link netsim.Link) *world {
	w := &world{t: t, net: netsim.New[addr](1, link)}
	for _, k := range []*snaptun.PrivateKey{&w.keys.client, &w.keys.server} {
		var err error
		if *k, err = snaptun.NewPrivateKey(); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

// A side is a Conn or a Listener that runs.
type side struct {
	conn     *Conn[addr]
	listener *Listener[addr]
	endpoint *netsim.Endpoint[addr]
	stop     func() // ends Run and waits for it
	killed   atomic.Bool

	mu       sync.Mutex
	packets  [][]byte // received, copied
	from     []addr
	statuses []Status
	events   []PeerEvent[addr]
}

func (w *world) config(e *netsim.Endpoint[addr], key snaptun.PrivateKey) Config[addr] {
	return Config[addr]{Carrier: e, PrivateKey: key, FrameSize: w.frameSize, Reassemblies: w.queues, Keepalive: w.keepalive, Timers: w.timers}
}

func (w *world) endpoint(at addr) *netsim.Endpoint[addr] {
	w.t.Helper()
	e, err := w.net.Listen(at)
	if err != nil {
		w.t.Fatal(err)
	}
	return e
}

// client runs a Conn from clientAddr to serverAddr.
func (w *world) client() *side { return w.clientAt(clientAddr) }

func (w *world) clientAt(at addr) *side {
	w.t.Helper()
	s := &side{endpoint: w.endpoint(at)}
	conn, err := NewConn(ConnConfig[addr]{
		Config:  w.config(s.endpoint, w.keys.client),
		PeerKey: w.keys.server.PublicKey(),
		Peer:    serverAddr,
		Notify: func(st Status) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.statuses = append(s.statuses, st)
		},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	s.conn = conn
	s.run(w, func(ctx context.Context) error {
		return conn.Run(ctx, func(packets [][]byte) error {
			s.keep(packets, func(int) addr { return serverAddr })
			return nil
		})
	})
	return s
}

// server runs a Listener at serverAddr that sends every packet back.
func (w *world) server() *side {
	w.t.Helper()
	s := &side{endpoint: w.endpoint(serverAddr)}
	l, err := NewListener(ListenerConfig[addr]{
		Config:     w.config(s.endpoint, w.keys.server),
		Authorize:  func(k snaptun.PublicKey, _ time.Time) bool { return !w.denied.Load() && k == w.keys.client.PublicKey() },
		SealedAddr: func(a addr) addr { return a },
		Burst:      MaxBurst,
		Notify: func(ev PeerEvent[addr]) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.events = append(s.events, ev)
		},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	s.listener = l
	s.run(w, func(ctx context.Context) error {
		return l.Run(ctx, func(from []*snaptun.Peer[addr], packets [][]byte) error {
			to := make([]addr, len(from))
			for i, p := range from {
				to[i] = p.Origin()
			}
			s.keep(packets, func(i int) addr { return to[i] })
			if w.silent {
				return nil
			}
			_, err := l.WritePackets(to, packets)
			return err
		})
	})
	return s
}

func (s *side) run(w *world, f func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := f(ctx); err != nil && !s.killed.Load() {
			w.t.Errorf("Run = %v, want nil", err)
		}
	}()
	s.stop = sync.OnceFunc(func() {
		cancel()
		<-done
		s.endpoint.Close()
	})
	w.t.Cleanup(s.stop)
}

// kill takes the network away from a side, which cannot say goodbye.
func (s *side) kill() {
	s.killed.Store(true)
	s.endpoint.Close()
}

func (s *side) keep(packets [][]byte, from func(int) addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, p := range packets {
		s.packets = append(s.packets, slices.Clone(p))
		s.from = append(s.from, from(i))
	}
}

// take returns what was received since the last call.
func (s *side) take() [][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.packets
	s.packets, s.from = nil, nil
	return p
}

func (s *side) peerEvents() []PeerEvent[addr] {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.events)
}

func (s *side) ups() (ups []bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, st := range s.statuses {
		ups = append(ups, st.Up)
	}
	return ups
}

// write sends numbered packets of a size through a Conn.
func (s *side) write(t *testing.T, first, n, size int) {
	t.Helper()
	var packets [][]byte
	for i := range n {
		packets = append(packets, numbered(first+i, size))
	}
	if sent, err := s.conn.WritePackets(packets); sent != n || err != nil {
		t.Errorf("WritePackets = %d, %v, want %d", sent, err, n)
	}
}

// numbered returns a packet that starts with its number and is filled with it. It
// is no IP packet.
func numbered(i, size int) []byte {
	b := make([]byte, size)
	for j := range b {
		b[j] = byte(i)
	}
	binary.BigEndian.PutUint32(b, uint32(i))
	return b
}

// numbers returns the numbers of packets and fails the test if one is not whole.
func numbers(t *testing.T, packets [][]byte, size int) (n []int) {
	t.Helper()
	for _, p := range packets {
		i := int(binary.BigEndian.Uint32(p))
		if !slices.Equal(p, numbered(i, size)) {
			t.Fatalf("packet %d is damaged: %d bytes, want %d", i, len(p), size)
		}
		n = append(n, i)
	}
	return n
}
