//go:build unix

package test

import (
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Message types of SNAPtun, the first byte of a datagram.
const (
	msgInitiation = 1
	msgResponse   = 2
	msgCookie     = 3
	msgData       = 4
)

// A shim stands between clients and a SNAP, as a NAT does: the SNAP sees
// another port of the shim for each client.
type shim struct {
	t      *testing.T
	front  *net.UDPConn
	server *net.UDPAddr

	delay atomic.Int64 // nanoseconds, each way
	lose  atomic.Int64 // one of so many datagrams is lost; 0: none
	dark  atomic.Bool  // everything is lost
	// One of so many datagrams comes behind the one after it, or twice; 0: none.
	swap, repeat atomic.Int64

	mu       sync.Mutex // guards what follows
	flows    map[netip.AddrPort]*net.UDPConn
	up, down *traffic // before anything is lost
	count    int64
	held     []*time.Timer
	swapped  map[*traffic][]byte // the datagram that waits for the next one
	closed   bool
}

// newShim makes a shim in front of the SNAP at addr.
func newShim(t *testing.T, addr string) *shim {
	t.Helper()
	server, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	front, err := net.ListenUDP("udp", &net.UDPAddr{IP: server.IP})
	if err != nil {
		t.Fatal(err)
	}
	front.SetReadBuffer(4 << 20)
	s := &shim{t: t, front: front, server: server, flows: map[netip.AddrPort]*net.UDPConn{},
		up: newTraffic(), down: newTraffic(), swapped: map[*traffic][]byte{}}
	t.Cleanup(s.close)
	go s.forward()
	return s
}

func (s *shim) addr() string { return s.front.LocalAddr().String() }

func (s *shim) close() {
	s.front.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, c := range s.flows {
		c.Close()
	}
	for _, timer := range s.held {
		timer.Stop()
	}
}

// forward carries datagrams to the server.
func (s *shim) forward() {
	buf := make([]byte, 64<<10)
	for {
		n, from, err := s.front.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		if back := s.flow(from); back != nil {
			s.pass(s.up, buf[:n], func(b []byte) { back.Write(b) })
		}
	}
}

// flow is the socket that stands for a client towards the server.
func (s *shim) flow(client netip.AddrPort) *net.UDPConn {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.flows[client]; c != nil || s.closed {
		return c
	}
	c, err := net.DialUDP("udp", nil, s.server)
	if err != nil {
		return nil
	}
	c.SetReadBuffer(4 << 20)
	s.flows[client] = c
	go func() {
		buf := make([]byte, 64<<10)
		for {
			n, err := c.Read(buf)
			if err != nil {
				if isClosed(err) {
					return
				}
				continue // what an ICMP error said
			}
			s.pass(s.down, buf[:n], func(b []byte) { s.front.WriteToUDPAddrPort(b, client) })
		}
	}()
	return c
}

// pass notes a datagram and sends it, unless it is to be lost.
func (s *shim) pass(seen *traffic, b []byte, send func([]byte)) {
	s.mu.Lock()
	seen.note(b)
	s.count++
	nth := func(n *atomic.Int64) bool { return n.Load() > 0 && s.count%n.Load() == 0 }
	lost := s.dark.Load() || nth(&s.lose)
	delay := time.Duration(s.delay.Load())
	var now [][]byte
	if !lost {
		now = append(now, b)
		if nth(&s.repeat) {
			now = append(now, b)
		}
	}
	if waited := s.swapped[seen]; waited != nil {
		delete(s.swapped, seen)
		now = append(now, waited)
	} else if !lost && nth(&s.swap) {
		s.swapped[seen] = append([]byte(nil), b...)
		now = now[1:]
	}
	if delay > 0 {
		for _, b := range now {
			later := append([]byte(nil), b...)
			s.held = append(s.held, time.AfterFunc(delay, func() { send(later) }))
		}
		now = nil
	}
	s.mu.Unlock()
	for _, b := range now {
		send(b)
	}
}

// rebind gives every client another port, as a NAT that has restarted.
func (s *shim) rebind() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for client, c := range s.flows {
		c.Close()
		delete(s.flows, client)
	}
}

// backs are the addresses at which the server sees the clients.
func (s *shim) backs() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []string
	for _, c := range s.flows {
		all = append(all, c.LocalAddr().String())
	}
	return all
}

// sent is how many messages of a type the clients have sent; 0: of all types.
func (s *shim) sent(kind byte) int { return s.total(s.up, kind) }

// received is how many messages of a type the server has sent; 0: of all types.
func (s *shim) received(kind byte) int { return s.total(s.down, kind) }

func (s *shim) total(seen *traffic, kind byte) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, m := range seen.count {
		if kind == 0 || k == kind {
			n += m
		}
	}
	return n
}

// recorded is the first message of a type that passed up or down.
func (s *shim) recorded(seen *traffic, kind byte) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return seen.first[kind]
}

// A traffic is what passes in one direction, by type of message.
type traffic struct {
	count map[byte]int
	first map[byte][]byte
}

func newTraffic() *traffic { return &traffic{map[byte]int{}, map[byte][]byte{}} }

func (tr *traffic) note(b []byte) {
	var kind byte
	if len(b) > 0 {
		kind = b[0]
	}
	tr.count[kind]++
	if tr.first[kind] == nil {
		tr.first[kind] = append([]byte{}, b...)
	}
}
