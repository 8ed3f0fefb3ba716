//go:build linux

package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun/netstack"

	"github.com/snapproxy/snapproxy/tunnel/snaptun"
)

// The pair is the peer of the bench: wireguard-go's device and netstack at both
// ends, SOCKS in front of one and a socket behind the other.

// Inside the peers' tunnels.
var (
	nearAddr = netip.MustParseAddr("10.99.0.1")
	farAddr  = netip.MustParseAddr("10.99.0.2")
)

// pairMTU is wireguard's usual MTU.
const pairMTU = 1420

// A pairConfig is one end of a pair.
type pairConfig struct {
	Key, PeerKey string         // hexadecimal
	Endpoint     netip.AddrPort // of the far end; invalid: this is the far end
	Port         int            // of the origin on loopback, and in the tunnel
}

// A listening is the ready line of a part.
type listening struct {
	Addr netip.AddrPort
}

func init() { parts["pair"] = runPair }

func runPair(config json.RawMessage, ready func(any), done <-chan struct{}) error {
	var cfg pairConfig
	if err := json.Unmarshal(config, &cfg); err != nil {
		return err
	}
	near := cfg.Endpoint.IsValid()
	own := farAddr
	if near {
		own = nearAddr
	}
	tun, stack, err := netstack.CreateNetTUN([]netip.Addr{own}, nil, pairMTU)
	if err != nil {
		return err
	}
	dev := device.NewDevice(tun, conn.NewDefaultBind(), device.NewLogger(device.LogLevelError, ""))
	defer dev.Close()
	settings := "private_key=" + cfg.Key + "\npublic_key=" + cfg.PeerKey + "\nallowed_ip=10.99.0.0/24\n"
	if near {
		settings += fmt.Sprintf("endpoint=%s\n", cfg.Endpoint)
	}
	if err := dev.IpcSet(settings); err != nil {
		return err
	}
	if err := dev.Up(); err != nil {
		return err
	}
	failed := make(chan error, 1)
	if near {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			return err
		}
		go func() {
			failed <- serveSOCKS(l, func(ctx context.Context, target netip.AddrPort) (net.Conn, error) {
				return stack.DialContextTCPAddrPort(ctx, target)
			})
		}()
		ready(listening{l.Addr().(*net.TCPAddr).AddrPort()})
	} else {
		l, err := stack.ListenTCPAddrPort(netip.AddrPortFrom(farAddr, uint16(cfg.Port)))
		if err != nil {
			return err
		}
		go func() { failed <- forward(l, fmt.Sprintf("127.0.0.1:%d", cfg.Port)) }()
		port, err := listenPort(dev)
		if err != nil {
			return err
		}
		ready(listening{netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port)})
	}
	select {
	case <-done:
		return nil
	case err := <-failed:
		return err
	}
}

func listenPort(dev *device.Device) (port uint16, err error) {
	state, err := dev.IpcGet()
	if err != nil {
		return 0, err
	}
	for s := bufio.NewScanner(strings.NewReader(state)); s.Scan(); {
		if _, err := fmt.Sscanf(s.Text(), "listen_port=%d", &port); err == nil {
			return port, nil
		}
	}
	return 0, errors.New("the device has no port")
}

// newPair starts a pair. between stands in front of the far end.
func newPair(b *bench, between impairment) (s *system, err error) {
	s = &system{name: "pair", target: farAddr}
	defer s.closeIf(&err)
	nearKey, err := snaptun.NewPrivateKey()
	if err != nil {
		return nil, err
	}
	farKey, err := snaptun.NewPrivateKey()
	if err != nil {
		return nil, err
	}
	end := func(mine, theirs snaptun.PrivateKey) pairConfig {
		public := theirs.PublicKey()
		return pairConfig{Key: hex.EncodeToString(mine[:]), PeerKey: hex.EncodeToString(public[:]), Port: b.origin.port()}
	}
	var server, client listening
	if err := s.startPart("server", "pair", end(farKey, nearKey), &server); err != nil {
		return nil, err
	}
	config := end(nearKey, farKey)
	if config.Endpoint, err = s.impair(between, server.Addr); err != nil {
		return nil, err
	}
	if err := s.startPart("client", "pair", config, &client); err != nil {
		return nil, err
	}
	s.socks = client.Addr.String()
	return s, s.warm(b)
}
