package netstack

import (
	"context"
	"errors"
	"net/netip"
	"syscall"
	"testing"
)

func TestDialsTakeTurnsWithPorts(t *testing.T) {
	const dials = 3000
	used := make(map[uint16]int)
	p := startPair(t, 1312, Config{TCP: func(f *TCPFlow) {
		used[f.Source().Port()]++ // one dial at a time
		f.Refuse(syscall.ECONNREFUSED)
	}})
	for range dials {
		if _, err := p.client.DialTCP(context.Background(), farPort); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Fatalf("dial = %v, want ECONNREFUSED", err)
		}
	}
	if len(used) != dials {
		t.Errorf("%d dials used %d ports, want one each", dials, len(used))
	}
}

func TestDialPassesOverTakenPorts(t *testing.T) {
	p := startPair(t, 1312, Config{TCP: acceptAnd(t, func(c *TCPConn) { echo(c) })})
	port := func(c *TCPConn) uint16 {
		return c.LocalAddr().(interface{ AddrPort() netip.AddrPort }).AddrPort().Port()
	}
	p.client.ports.last.Store(portCount - 2)
	first := dial(t, p, farPort)
	if got, want := port(first), uint16(firstPort+portCount-1); got != want {
		t.Errorf("dial from port %d, want %d", got, want)
	}
	p.client.ports.last.Store(portCount - 2)
	second := dial(t, p, farPort)
	if got := port(second); got != firstPort {
		t.Errorf("dial beside it from port %d, want %d", got, firstPort)
	}
	for range portTries {
		dial(t, p, farPort)
	}
	p.client.ports.last.Store(portCount - 2)
	checkEcho(t, dial(t, p, farPort), 1000) // on a port that gVisor chose
}
