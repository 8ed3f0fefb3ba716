//go:build linux

package main

import (
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"

	"github.com/snapproxy/snapproxy/tunnel/snaptun"
)

const isdAS = "1-ff00:0:110"

// loopback is where the exit finds the origin.
var loopback = netip.MustParseAddr("127.0.0.1")

// A ring is the keys of one system in files.
type ring struct {
	dir string
}

func (r ring) file(name string) string { return filepath.Join(r.dir, name) }

// newRing draws a key for each name, and authorizes all of them.
func newRing(b *bench, names ...string) (ring, error) {
	dir, err := os.MkdirTemp(b.dir, "")
	if err != nil {
		return ring{}, err
	}
	r := ring{dir}
	var authorized []byte
	for _, name := range names {
		key, err := snaptun.NewPrivateKey()
		if err != nil {
			return ring{}, err
		}
		if err := os.WriteFile(r.file(name), []byte(key.Base64()+"\n"), 0o600); err != nil {
			return ring{}, err
		}
		authorized = append(authorized, key.PublicKey().String()+" "+name+"\n"...)
	}
	return r, os.WriteFile(r.file("authorized"), authorized, 0o600)
}

// newSeparate starts SNAP, exit and client as three processes. between stands
// between the client and the SNAP.
func newSeparate(b *bench, between impairment) (s *system, err error) {
	s = &system{name: "separate", target: loopback}
	defer s.closeIf(&err)
	r, err := newRing(b, "snap", "exit", "client")
	if err != nil {
		return nil, err
	}
	snap, err := s.start(b, "snap", "--isd-as", isdAS, "--listen", "127.0.0.1:0", "--key", r.file("snap"),
		"--authorized-keys", r.file("authorized"))
	if err != nil {
		return nil, err
	}
	exit, err := s.start(b, slices.Concat([]string{"exit"}, snap, []string{"--key", r.file("exit"),
		"--authorized-keys", r.file("authorized"), "--bind", "127.0.0.1:0", "--allow", "127.0.0.0/8"})...)
	if err != nil {
		return nil, err
	}
	return s, s.startClient(b, r, between, slices.Concat(snap, exit))
}

// newServe starts SNAP and exit as one process, and a client.
func newServe(b *bench, between impairment) (s *system, err error) {
	s = &system{name: "serve", target: loopback}
	defer s.closeIf(&err)
	r, err := newRing(b, "server", "client")
	if err != nil {
		return nil, err
	}
	server, err := s.start(b, "serve", "--isd-as", isdAS, "--listen", "127.0.0.1:0", "--bind", "127.0.0.1:0",
		"--key", r.file("server"), "--authorized-keys", r.file("authorized"), "--allow", "127.0.0.0/8")
	if err != nil {
		return nil, err
	}
	return s, s.startClient(b, r, between, server)
}

// startClient starts the client with the flags by which it finds the rest.
func (s *system) startClient(b *bench, r ring, between impairment, flags []string) error {
	at := slices.Index(flags, "--snap")
	snap, err := netip.ParseAddrPort(flags[at+1])
	if err != nil {
		return err
	}
	via, err := s.impair(between, snap)
	if err != nil {
		return err
	}
	flags[at+1] = via.String()
	line, err := s.start(b, slices.Concat([]string{"client"}, flags, []string{"--key", r.file("client"),
		"--socks", "127.0.0.1:0", "--http", "off"})...)
	if err != nil {
		return err
	}
	u, err := url.Parse(line[0])
	if err != nil {
		return err
	}
	s.socks = u.Host
	return s.warm(b)
}
