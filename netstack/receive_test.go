package netstack

import (
	"io"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

func TestReceiveBuffersAreShared(t *testing.T) {
	var first, most, applied int
	r := receiveShare{apply: func(f, m int) { first, most = f, m; applied++ }}
	r.add(0)
	for _, tt := range []struct{ conns, first, most int }{
		{1, 1 << 20, 16 << 20},
		{16, 1 << 20, 16 << 20},
		{17, 1 << 20, 8 << 20},
		{200, 1 << 20, 1 << 20},
		{257, 512 << 10, 512 << 10},
		{4096, 64 << 10, 64 << 10},
		{100000, 64 << 10, 64 << 10},
		{0, 1 << 20, 16 << 20},
	} {
		step := 1
		if tt.conns < r.conns {
			step = -1
		}
		for r.conns != tt.conns {
			r.add(step)
		}
		if first != tt.first || most != tt.most {
			t.Errorf("%d connections: %d bytes at first and %d at most, want %d and %d", tt.conns, first, most, tt.first, tt.most)
		}
	}
	if applied > 20 {
		t.Errorf("applied %d times", applied)
	}
}

func TestConnectionsShareReceiveBuffers(t *testing.T) {
	p := startPair(t, 1312, Config{TCP: acceptAnd(t, func(c *TCPConn) { io.Copy(io.Discard, c) })})
	most := func() int {
		var o tcpip.TCPReceiveBufferSizeRangeOption
		if err := p.client.ipstack.TransportProtocolOption(tcp.ProtocolNumber, &o); err != nil {
			t.Fatal(err)
		}
		return o.Max
	}
	if most() != maxReceiveBuffer {
		t.Errorf("%d bytes at most, want %d", most(), maxReceiveBuffer)
	}
	var conns []*TCPConn
	for range 40 {
		conns = append(conns, dial(t, p, farPort))
	}
	if want := allReceive / 64; most() != want {
		t.Errorf("%d bytes at most with 40 connections, want %d", most(), want)
	}
	for _, c := range conns {
		c.Close()
		c.Close()
	}
	if most() != maxReceiveBuffer || p.client.receiving.conns != 0 {
		t.Errorf("%d bytes at most with %d connections, want %d with none", most(), p.client.receiving.conns, maxReceiveBuffer)
	}
}
