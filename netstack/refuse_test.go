package netstack

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/faketime"
)

var errReset = syscall.ECONNRESET

var refusals = []struct {
	name  string
	given error
	want  error
}{
	{"refused", &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}, syscall.ECONNREFUSED},
	{"policy", fmt.Errorf("policy: %w", syscall.EACCES), syscall.EACCES},
	{"no host", syscall.EHOSTUNREACH, syscall.EHOSTUNREACH},
	{"no route", syscall.ENETUNREACH, syscall.ENETUNREACH},
	{"timeout", syscall.ETIMEDOUT, syscall.ETIMEDOUT},
	{"context", context.DeadlineExceeded, syscall.ETIMEDOUT},
	{"deadline", os.ErrDeadlineExceeded, syscall.ETIMEDOUT},
	{"net timeout", &net.DNSError{IsTimeout: true}, syscall.ETIMEDOUT},
	{"something else", errors.New("out of luck"), syscall.EHOSTUNREACH},
}

func TestRefusalOfDialIsToldApart(t *testing.T) {
	given := make(chan error, 1)
	p := startPair(t, 1312, Config{TCP: func(f *TCPFlow) { f.Refuse(<-given) }})
	for _, tt := range refusals {
		t.Run(tt.name, func(t *testing.T) {
			given <- tt.given
			_, err := p.client.DialTCP(context.Background(), farPort)
			if !errors.Is(err, tt.want) {
				t.Errorf("dial = %v, want %v", err, tt.want)
			}
		})
	}
	if n := len(p.client.dials.dials); n != 0 {
		t.Errorf("%d dials remembered after they ended", n)
	}
}

func TestUndecidedFlowIsRefused(t *testing.T) {
	p := startPair(t, 1312, Config{TCP: func(*TCPFlow) {}})
	if _, err := p.client.DialTCP(context.Background(), farPort); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("dial = %v, want ECONNREFUSED", err)
	}
}

func TestFlowIsDecidedOnce(t *testing.T) {
	second := make(chan error, 1)
	p := startPair(t, 1312, Config{TCP: func(f *TCPFlow) {
		f.Refuse(syscall.EACCES)
		f.Refuse(syscall.ECONNREFUSED)
		_, err := f.Accept()
		second <- err
	}})
	if _, err := p.client.DialTCP(context.Background(), farPort); !errors.Is(err, syscall.EACCES) {
		t.Errorf("dial = %v, want EACCES", err)
	}
	if err := <-second; !errors.Is(err, errDecided) {
		t.Errorf("Accept after Refuse = %v", err)
	}
}

func TestClosedPortRefuses(t *testing.T) {
	p := startPair(t, 1312, Config{})
	if _, err := p.client.DialTCP(context.Background(), netip.AddrPortFrom(exitAddr, 81)); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("dial = %v, want ECONNREFUSED", err)
	}
	u, err := p.client.DialUDP(netip.AddrPortFrom(exitAddr, 81))
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	u.Write(nil)
	if _, err := u.Read(nil); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("read = %v, want ECONNREFUSED", err)
	}
}

func TestTargetsThatCannotBeDialled(t *testing.T) {
	p := startPair(t, 1312, Config{TCP: func(f *TCPFlow) { f.Refuse(syscall.EACCES) }})
	for addr, want := range map[string]error{
		"192.0.2.1": syscall.EAFNOSUPPORT,
		"::":        syscall.EACCES,
		"ff02::1":   syscall.EACCES,
		"::1":       syscall.EACCES, // by the exit
	} {
		_, err := p.client.DialTCP(context.Background(), netip.AddrPortFrom(netip.MustParseAddr(addr), 80))
		if !errors.Is(err, want) {
			t.Errorf("dial %s = %v, want %v", addr, err, want)
		}
	}
}

func TestUDPRefusal(t *testing.T) {
	given := make(chan error, 1)
	p := startPair(t, 1312, Config{UDP: func(f *UDPFlow) { f.Refuse(<-given) }})
	for _, tt := range refusals {
		t.Run(tt.name, func(t *testing.T) {
			c, err := p.client.DialUDP(farPort)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			given <- tt.given
			if _, err := c.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, tt.want) {
				t.Errorf("read = %v, want %v", err, tt.want)
			}
		})
	}
	if n := p.exit.udp.flows.total; n != 0 {
		t.Errorf("%d flows counted after they were refused", n)
	}
}

func TestDialEndsWithContext(t *testing.T) {
	started, release := make(chan struct{}), make(chan struct{})
	p := startPair(t, 1312, Config{TCP: func(f *TCPFlow) {
		close(started)
		<-release
	}})
	defer close(release)
	ctx, cancel := context.WithCancel(context.Background())
	errs := make(chan error)
	go func() {
		_, err := p.client.DialTCP(ctx, farPort)
		errs <- err
	}()
	<-started
	cancel()
	if err := <-errs; !errors.Is(err, context.Canceled) {
		t.Errorf("dial = %v, want context.Canceled", err)
	}
	if n := len(p.client.dials.dials); n != 0 {
		t.Errorf("%d dials remembered", n)
	}
	ctx, cancel = context.WithTimeout(context.Background(), 0)
	defer cancel()
	if _, err := p.client.DialTCP(ctx, farPort); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("dial = %v, want context.DeadlineExceeded", err)
	}
}

func TestSYNsSentAgainAreOneFlow(t *testing.T) {
	clock := faketime.NewManualClock()
	flows, release := make(chan *TCPFlow, 10), make(chan struct{})
	syns, after := make(chan struct{}, 10), make(chan struct{})
	p := startPairClock(t, 1312, Config{TCP: func(f *TCPFlow) {
		flows <- f
		<-release
		f.Refuse(syscall.EHOSTUNREACH)
	}, UDP: func(f *UDPFlow) { close(after) }}, clock, func(p *pair) {
		p.clientLink.filter = func(b []byte) bool {
			if b[6] == protoTCP && b[ipv6HeaderLen+13] == flagSYN {
				syns <- struct{}{}
			}
			return true
		}
	})
	errs := make(chan error)
	go func() {
		_, err := p.client.DialTCP(context.Background(), farPort)
		errs <- err
	}()
	<-syns
	<-flows
	for _, d := range []time.Duration{1, 2, 4} {
		clock.Advance(d * time.Second)
		<-syns
	}
	u, err := p.client.DialUDP(farPort) // comes after the SYNs
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	u.Write(nil)
	<-after
	close(release)
	// The refusal quotes the first SYN and still matches.
	if err := <-errs; !errors.Is(err, syscall.EHOSTUNREACH) {
		t.Errorf("dial = %v, want EHOSTUNREACH", err)
	}
	if n := p.exit.Counters()["tcp_flows_repeated_syn"]; len(flows) != 0 || n != 3 {
		t.Errorf("%d more flows for one connection, %d SYNs repeated, want 0 and 3", len(flows), n)
	}
}

func TestDialTimesOut(t *testing.T) {
	clock := faketime.NewManualClock()
	syns := make(chan struct{}, 10)
	p := startPairClock(t, 1312, Config{}, clock, func(p *pair) {
		p.clientLink.filter = func(b []byte) bool { syns <- struct{}{}; return false }
	})
	errs := make(chan error, 1)
	go func() {
		_, err := p.client.DialTCP(context.Background(), farPort)
		errs <- err
	}()
	for _, d := range []time.Duration{1, 2, 4, 8, 16, 32, 64} {
		<-syns
		clock.Advance(d * time.Second)
	}
	if err := <-errs; !errors.Is(err, syscall.ETIMEDOUT) {
		t.Errorf("dial = %v, want ETIMEDOUT", err)
	}
}

func TestAcceptTimesOut(t *testing.T) {
	clock := faketime.NewManualClock()
	synAcks := make(chan struct{}, 10)
	accepted := make(chan error, 1)
	p := startPairClock(t, 1312, Config{TCP: func(f *TCPFlow) {
		_, err := f.Accept()
		accepted <- err
	}}, clock, func(p *pair) {
		p.exitLink.filter = func(b []byte) bool { synAcks <- struct{}{}; return false }
	})
	ctx, cancel := context.WithCancel(context.Background())
	dialled := make(chan struct{})
	go func() {
		defer close(dialled)
		p.client.DialTCP(ctx, farPort)
	}()
	<-synAcks
	cancel()
	<-dialled
	clock.Advance(acceptTimeout)
	if err := <-accepted; !errors.Is(err, syscall.ETIMEDOUT) {
		t.Errorf("Accept = %v, want ETIMEDOUT", err)
	}
}

func TestAcceptEndsWithRun(t *testing.T) {
	synAcks := make(chan struct{}, 100)
	accepted := make(chan error, 1)
	p := startPair(t, 1312, Config{TCP: func(f *TCPFlow) {
		_, err := f.Accept()
		accepted <- err
	}}, func(p *pair) {
		p.exitLink.filter = func(b []byte) bool { synAcks <- struct{}{}; return false }
	})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go p.client.DialTCP(ctx, farPort)
	<-synAcks
	p.exit.Close()
	if err := <-accepted; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept = %v, want net.ErrClosed", err)
	}
}

func TestFlowsAreBounded(t *testing.T) {
	c := newFlowCount(3, 2)
	one, same, other := tuple{33: 1}, tuple{33: 2}, tuple{20: 9}
	for i, tt := range []struct {
		t    tuple
		want bool
	}{{one, true}, {same, true}, {one, false}, {other, true}, {tuple{20: 8}, false}} {
		if got := c.start(tt.t); got != tt.want {
			t.Errorf("start %d = %v, want %v", i, got, tt.want)
		}
	}
	c.done(same)
	if !c.start(one) {
		t.Error("no room after a flow ended")
	}
}
