package control

import (
	"net"
	"net/netip"
	"sync"
)

// A limitedListener closes connections that are too many, in all or from one
// source, as soon as they come.
type limitedListener struct {
	net.Listener
	most, perHost int

	mu    sync.Mutex // guards what follows
	all   int
	hosts map[netip.Prefix]int
}

func newLimitedListener(l net.Listener, most, perHost int) *limitedListener {
	return &limitedListener{Listener: l, most: most, perHost: perHost, hosts: make(map[netip.Prefix]int)}
}

// Accept returns the next connection that is not too many.
func (l *limitedListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		host := source(c.RemoteAddr())
		if l.enter(host) {
			return &limitedConn{Conn: c, leave: sync.OnceFunc(func() { l.leave(host) })}, nil
		}
		c.Close()
	}
}

// source is what counts as one host; this machine is none.
func source(a net.Addr) netip.Prefix {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	ip := tcp.AddrPort().Addr().Unmap().WithZone("")
	if ip.IsLoopback() {
		return netip.Prefix{}
	}
	bits := 64
	if ip.Is4() {
		bits = 32
	}
	p, _ := ip.Prefix(bits)
	return p
}

func (l *limitedListener) enter(host netip.Prefix) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all >= l.most || host.IsValid() && l.hosts[host] >= l.perHost {
		return false
	}
	l.all++
	if host.IsValid() {
		l.hosts[host]++
	}
	return true
}

func (l *limitedListener) leave(host netip.Prefix) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all--
	if !host.IsValid() {
		return
	}
	if l.hosts[host]--; l.hosts[host] == 0 {
		delete(l.hosts, host)
	}
}

type limitedConn struct {
	net.Conn
	leave func()
}

// Close closes the connection and makes room for another.
func (c *limitedConn) Close() error {
	c.leave()
	return c.Conn.Close()
}
