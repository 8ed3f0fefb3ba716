package netstack

import (
	"context"
	"io"
	"net/netip"
	"testing"
)

// BenchmarkStream sends one TCP stream through two stacks, cut to 1312 B.
func BenchmarkStream(b *testing.B) {
	received := make(chan int64, 1)
	p := startPair(b, 1312, Config{TCP: func(f *TCPFlow) {
		c, err := f.Accept()
		if err != nil {
			b.Error(err)
			return
		}
		defer c.Close()
		n, _ := io.Copy(io.Discard, struct{ io.Reader }{c})
		received <- n
	}})
	c, err := p.client.DialTCP(context.Background(), netip.AddrPortFrom(farAddr, 80))
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	buf := make([]byte, 64<<10)
	b.SetBytes(int64(len(buf)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Write(buf); err != nil {
			b.Fatal(err)
		}
	}
	c.CloseWrite()
	<-received
	b.ReportMetric(float64(p.client.ipstack.Stats().TCP.Retransmits.Value()), "retransmits")
	b.ReportMetric(float64(p.clientLink.lost.Load()+p.exitLink.lost.Load()), "lost")
}
