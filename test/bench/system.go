//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// A system is a SOCKS port, the way from there to the origin, and the processes
// that it is made of.
type system struct {
	name   string
	socks  string
	target netip.Addr // at which the far end finds the origin
	all    []*child   // in the order of their start, the shim among them
}

// startPart starts a part of this program as a process of the system.
func (s *system) startPart(name, part string, config, ready any) error {
	c, err := launchPart(name, part, config, ready)
	if err != nil {
		return err
	}
	s.all = append(s.all, c)
	return nil
}

// start starts snapproxy as a process of the system and returns its ready line.
func (s *system) start(b *bench, args ...string) ([]string, error) {
	c, err := launch(args[0], nil, append([]string{b.program}, args...)...)
	if err != nil {
		return nil, err
	}
	s.all = append(s.all, c)
	return strings.Fields(c.line), nil
}

// impair puts a shim in front of an address, unless nothing is to be impaired.
func (s *system) impair(how impairment, addr netip.AddrPort) (netip.AddrPort, error) {
	if how == (impairment{}) {
		return addr, nil
	}
	var shim listening
	err := s.startPart("shim", "shim", shimConfig{To: addr, Up: how, Down: how}, &shim)
	return shim.Addr, err
}

// roles are the processes that count, without the shim.
func (s *system) roles() []*child {
	var roles []*child
	for _, c := range s.all {
		if c.name != "shim" {
			roles = append(roles, c)
		}
	}
	return roles
}

// role is the process of a name.
func (s *system) role(name string) *child {
	for _, c := range s.all {
		if c.name == name {
			return c
		}
	}
	return nil
}

// warm waits until a connection goes through.
func (s *system) warm(b *bench) error {
	ctx, cancel := context.WithTimeout(b.ctx, readyPatience)
	defer cancel()
	for {
		_, err := b.firstByte(ctx, s)
		if err == nil {
			return nil
		}
		if e := s.alive(); e != nil {
			return e
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s carries nothing: %w", s.name, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// alive is an error if a process has ended.
func (s *system) alive() error {
	var errs []error
	for _, c := range s.all {
		errs = append(errs, c.alive())
	}
	return errors.Join(errs...)
}

// close ends the processes, the last one first.
func (s *system) close() {
	for i := len(s.all) - 1; i >= 0; i-- {
		s.all[i].end()
	}
}

func (s *system) closeIf(err *error) {
	if *err != nil {
		s.close()
	}
}
