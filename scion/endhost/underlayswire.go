package endhost

import (
	"errors"
	"fmt"
	"net/netip"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/snapproxy/snapproxy/scion"
)

// The messages of scion.endhost.v1.UnderlayService:
//
//	ListUnderlaysRequest  1 optional uint64 isd_as
//	ListUnderlaysResponse 1 optional UdpUnderlay, 2 optional SnapUnderlay
//	UdpUnderlay           1 repeated Router{1 isd_as, 2 "ip:port", 3 repeated uint32 interfaces}
//	SnapUnderlay          1 repeated Snap{1 URL, 2 repeated uint64 isd_ases}

const (
	maxSNAPs      = 64
	maxRouters    = 1024
	maxIAs        = 64
	maxInterfaces = 4096 // of a router
)

var (
	errSNAPs       = fmt.Errorf("it names more than %d SNAPs", maxSNAPs)
	errRouters     = fmt.Errorf("it names more than %d routers", maxRouters)
	errRouterAddr  = errors.New("its address is not numeric, as in 10.0.0.1:30042")
	errInterface   = errors.New("it has an interface that is not a number from 1 to 65535")
	errServes      = errors.New("it serves no AS that was asked for")
	errNoUnderlays = errors.New("it names no SNAP and no router")
)

func appendUnderlaysRequest(b []byte, ia scion.IA) []byte { return appendNumber(b, 1, uint64(ia)) }

func parseUnderlaysRequest(b []byte) (ia scion.IA, err error) {
	err = eachField(b, func(f field) error {
		if f.num != 1 {
			return nil
		}
		v, err := f.uint64()
		ia = scion.IA(v)
		return err
	})
	return ia, err
}

// appendUnderlays appends a ListUnderlaysResponse. Both parts of it are always
// there, as decoders of the Rust SDK expect; SNAPs and routers that they could
// not bear are left out.
func appendUnderlays(b []byte, u Underlays) []byte {
	var udp, snap []byte
	for _, r := range u.Routers {
		if !r.Addr.IsValid() || r.Addr.Port() == 0 || r.Addr.Addr().Zone() != "" {
			continue
		}
		var m []byte
		m = appendNumber(m, 1, uint64(r.IA))
		m = appendText(m, 2, netip.AddrPortFrom(r.Addr.Addr().Unmap(), r.Addr.Port()).String())
		m = appendPacked(m, 3, r.Interfaces)
		udp = appendMessage(udp, 1, m)
	}
	for _, s := range u.SNAPs {
		if s.URL == nil || checkURL(s.URL) != nil {
			continue
		}
		var m []byte
		m = appendText(m, 1, s.URL.String())
		m = appendPacked(m, 2, s.IAs)
		snap = appendMessage(snap, 1, m)
	}
	return appendMessage(appendMessage(b, 1, udp), 2, snap)
}

// parseUnderlays parses a ListUnderlaysResponse of an API of the given scope
// that was asked for ia. It leaves out what makes no sense and returns the
// first reason for it; err is that of a message that is none.
func parseUnderlays(b []byte, ia scion.IA, by Scope) (u Underlays, refused, err error) {
	u.Scope = by
	refuse := func(err error) {
		if refused == nil {
			refused = err
		}
	}
	var snaps, routers int
	err = eachField(b, func(part field) error {
		if part.num != 1 && part.num != 2 {
			return nil
		}
		m, err := part.message()
		if err != nil {
			return err
		}
		return eachField(m, func(f field) error {
			if f.num != 1 {
				return nil
			}
			m, err := f.message()
			if err != nil {
				return err
			}
			if part.num == 1 {
				if routers++; routers > maxRouters {
					return errRouters
				}
				r, err := parseRouter(m, ia, by)
				if err != nil {
					refuse(err)
				} else {
					u.Routers = append(u.Routers, r)
				}
				return nil
			}
			if snaps++; snaps > maxSNAPs {
				return errSNAPs
			}
			s, err := parseSNAP(m, ia, by)
			if err != nil {
				refuse(err)
			} else {
				u.SNAPs = append(u.SNAPs, s)
			}
			return nil
		})
	})
	if refused == nil && len(u.SNAPs)+len(u.Routers) == 0 {
		refused = errNoUnderlays
	}
	return u, refused, err
}

func parseSNAP(b []byte, want scion.IA, by Scope) (SNAP, error) {
	var text string
	var ias []uint64
	err := eachField(b, func(f field) (err error) {
		switch f.num {
		case 1:
			text, err = f.text()
		case 2:
			ias, err = f.appendNumbers(ias, maxIAs)
		}
		return err
	})
	if err != nil {
		return SNAP{}, fmt.Errorf("SNAP: %w", err)
	}
	s := SNAP{}
	s.URL, err = parseURL(text)
	if err == nil {
		err = checkNamed(s.URL, by)
	}
	for _, v := range ias {
		if ia := scion.IA(v); !ia.IsWildcard() {
			s.IAs = append(s.IAs, ia)
		}
	}
	if err == nil && !serves(s.IAs, want) {
		err = errServes
	}
	if err != nil {
		return SNAP{}, fmt.Errorf("SNAP %s: %w", quoteURL(text), err)
	}
	return s, nil
}

// parseRouter parses a Router. Routers of an API on the Internet may well have
// private addresses, the inside of an AS being theirs, but no narrower ones.
func parseRouter(b []byte, want scion.IA, by Scope) (Router, error) {
	var r Router
	var text string
	var interfaces []uint64
	err := eachField(b, func(f field) (err error) {
		switch f.num {
		case 1:
			var v uint64
			v, err = f.uint64()
			r.IA = scion.IA(v)
		case 2:
			text, err = f.text()
		case 3:
			interfaces, err = f.appendNumbers(interfaces, maxInterfaces)
		}
		return err
	})
	if err != nil {
		return Router{}, fmt.Errorf("router: %w", err)
	}
	addr, parseErr := netip.ParseAddrPort(text)
	r.Addr = netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
	switch {
	case parseErr != nil || addr.Port() == 0:
		err = errRouterAddr
	case r.IA.IsWildcard() || !meant(r.IA, want):
		err = errServes
	default:
		err = max(by, ScopePrivate).Permits(addr.Addr())
	}
	for _, v := range interfaces {
		if v == 0 || v > 65535 {
			err = errInterface
		}
		r.Interfaces = append(r.Interfaces, uint16(v))
	}
	if err != nil {
		return Router{}, fmt.Errorf("router %q: %w", printable(text, 80), err)
	}
	return r, nil
}

// appendAPIs appends a GetEndhostApisResponse: 1 repeated group{1 repeated
// api{1 string URL}}.
func appendAPIs(b []byte, groups [][]string) []byte {
	for _, g := range groups {
		var m []byte
		for _, api := range g {
			if api != "" { // an empty one fails the decoding of the Rust SDK
				m = appendMessage(m, 1, appendText(nil, 1, api))
			}
		}
		b = appendMessage(b, 1, m)
	}
	return b
}

// appendStrings appends the strings in field 1 of the messages in field 1 of b.
func appendStrings(list []string, b []byte, most int) ([]string, error) {
	err := eachField(b, func(f field) error {
		if f.num != 1 {
			return nil
		}
		m, err := f.message()
		if err != nil {
			return err
		}
		var text string
		err = eachField(m, func(f field) (err error) {
			if f.num == protowire.Number(1) {
				text, err = f.text()
			}
			return err
		})
		if err == nil && len(list) >= most {
			err = errTooMany
		}
		list = append(list, text)
		return err
	})
	return list, err
}
