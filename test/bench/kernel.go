//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/tun"

	"github.com/snapproxy/snapproxy/tunnel"
)

// The kernel system is the pair without a TCP/IP stack of its own and without a
// cipher: the kernel's TCP in two network namespaces, whose packets travel
// between TUN devices in UDP datagrams of the size that ours have. It takes
// root.

// kernelMTU is the MTU of our inner packets on the empty path.
const kernelMTU = 1348

// kernelCongestion is the congestion control of the kernel system: what most
// machines have, whatever this one has.
const kernelCongestion = "cubic"

func setCongestion(fd int) error {
	if err := unix.SetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION, kernelCongestion); err != nil {
		return fmt.Errorf("congestion control %s: %w", kernelCongestion, err)
	}
	return nil
}

// A kernelConfig is one end of the kernel system.
type kernelConfig struct {
	Endpoint netip.AddrPort // of the far end; invalid: this is the far end
	Port     int            // of the origin on loopback, and in the namespace
}

// A bothEnds is the ready line of an end.
type bothEnds struct {
	UDP   netip.AddrPort
	SOCKS netip.AddrPort // of the near end
}

func init() { parts["kernel"] = runKernel }

// kernelPossible is an error that says why there can be no kernel system.
func kernelPossible() error {
	if os.Geteuid() != 0 {
		return errors.New("not root: no network namespace to be made")
	}
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		return err
	}
	if _, err := exec.LookPath("ip"); err != nil {
		return err
	}
	return nil
}

// A netns is a network namespace. What is called in it must not wait: it has one
// thread.
type netns chan<- func()

// newNetns makes a network namespace for as long as the process lives.
func newNetns() (netns, error) {
	calls := make(chan func())
	made := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := unix.Unshare(unix.CLONE_NEWNET)
		made <- err
		if err != nil {
			return
		}
		for f := range calls {
			f()
		}
	}()
	return calls, <-made
}

// call calls f in the namespace.
func (n netns) call(f func() error) error {
	done := make(chan error)
	n <- func() { done <- f() }
	return <-done
}

// dial connects from the namespace.
func (n netns) dial(ctx context.Context, target netip.AddrPort) (net.Conn, error) {
	var fd int
	err := n.call(func() (err error) {
		fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "tcp")
	defer f.Close()
	if err := setCongestion(fd); err != nil {
		return nil, err
	}
	if deadline, ok := ctx.Deadline(); ok {
		tv := unix.NsecToTimeval(int64(time.Until(deadline)))
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &tv) // of connect too
	}
	if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: target.Addr().As4(), Port: int(target.Port())}); err != nil {
		return nil, err
	}
	return net.FileConn(f)
}

func runKernel(config json.RawMessage, ready func(any), done <-chan struct{}) error {
	var cfg kernelConfig
	if err := json.Unmarshal(config, &cfg); err != nil {
		return err
	}
	near := cfg.Endpoint.IsValid()
	own := farAddr
	if near {
		own = nearAddr
	}
	udp, err := tunnel.ListenUDP(netip.AddrPortFrom(loopback, 0), tunnel.UDPConfig{})
	if err != nil {
		return err
	}
	space, err := newNetns()
	if err != nil {
		return fmt.Errorf("make a network namespace: %w", err)
	}
	var dev tun.Device
	var l net.Listener
	err = space.call(func() (err error) {
		if dev, err = tun.CreateTUN("bench0", kernelMTU); err != nil {
			return err
		}
		for _, args := range []string{"link set lo up", "addr add " + own.String() + "/24 dev bench0", "link set bench0 up"} {
			if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
				return fmt.Errorf("ip %s: %w: %s", args, err, out)
			}
		}
		if !near {
			// What it accepts has its congestion control.
			lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
				var set error
				err := c.Control(func(fd uintptr) { set = setCongestion(int(fd)) })
				return errors.Join(err, set)
			}}
			l, err = lc.Listen(context.Background(), "tcp4", fmt.Sprintf("%s:%d", farAddr, cfg.Port))
		}
		return err
	})
	if err != nil {
		return err
	}
	failed := make(chan error, 3)
	b := newBridge(dev, udp, cfg.Endpoint)
	go func() { failed <- b.receive() }()
	go func() { failed <- b.send() }()
	ends := bothEnds{UDP: udp.LocalAddr()}
	if near {
		if l, err = net.Listen("tcp4", "127.0.0.1:0"); err != nil {
			return err
		}
		ends.SOCKS = l.Addr().(*net.TCPAddr).AddrPort()
		go func() { failed <- serveSOCKS(l, space.dial) }()
	} else {
		go func() { failed <- forward(l, fmt.Sprintf("127.0.0.1:%d", cfg.Port)) }()
	}
	ready(ends)
	select {
	case <-done:
		return nil
	case err := <-failed:
		return err
	}
}

// newKernel starts a kernel system. between stands in front of the far end.
func newKernel(b *bench, between impairment) (s *system, err error) {
	s = &system{name: "kernel", target: farAddr}
	defer s.closeIf(&err)
	var server, client bothEnds
	if err := s.startPart("server", "kernel", kernelConfig{Port: b.origin.port()}, &server); err != nil {
		return nil, err
	}
	config := kernelConfig{Port: b.origin.port()}
	if config.Endpoint, err = s.impair(between, server.UDP); err != nil {
		return nil, err
	}
	if err := s.startPart("client", "kernel", config, &client); err != nil {
		return nil, err
	}
	s.socks = client.SOCKS.String()
	return s, s.warm(b)
}
