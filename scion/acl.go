package scion

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// An acl is a list of hops that are allowed or forbidden; of each interface of
// a path the first entry that matches decides, and the last matches all
// (docs.scion.org, dev/design/PathPolicy.html; private/path/pathpol of the
// reference implementation).
type acl []aclEntry

type aclEntry struct {
	allow bool
	hop   hopPredicate
}

// A hopPredicate matches interfaces of ASes; a zero stands for any, and the
// zero predicate matches all.
type hopPredicate struct {
	isd uint16
	as  uint64
	// in and out match where a path enters and where it leaves the AS.
	in, out uint64
}

// parseACL parses the entries of an ACL. A comma separates entries only before
// a sign, as there may be one between the interfaces of a hop.
func parseACL(s string) (acl, error) {
	if s == "" {
		return nil, errEmptyPolicy
	}
	var texts []string
	for text := range strings.SplitSeq(s, ",") {
		text = strings.TrimSpace(text)
		if len(texts) > 0 && !strings.HasPrefix(text, "+") && !strings.HasPrefix(text, "-") {
			texts[len(texts)-1] += "," + text
			continue
		}
		texts = append(texts, text)
	}
	var entries acl
	for _, text := range texts {
		e, err := parseACLEntry(text)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", text, err)
		}
		entries = append(entries, e)
	}
	for i, e := range entries {
		if e.hop == (hopPredicate{}) {
			if i < len(entries)-1 {
				return nil, errNotLast
			}
			return entries, nil
		}
	}
	return nil, errNoDefault
}

func parseACLEntry(s string) (e aclEntry, err error) {
	words := strings.Fields(s)
	if len(words) == 0 || len(words) > 2 || words[0] != "+" && words[0] != "-" {
		return aclEntry{}, errACLEntry
	}
	e.allow = words[0] == "+"
	if len(words) == 2 {
		e.hop, err = parseHopPredicate(words[1])
	}
	return e, err
}

// parseHopPredicate parses a hop like 1, 1-ff00:0:110, 1-ff00:0:110#2 (an
// interface on either side) or 1-ff00:0:110#2,3. Numbers may have leading
// zeros, as the reference has it.
func parseHopPredicate(s string) (h hopPredicate, err error) {
	isd, rest, hasAS := strings.Cut(s, "-")
	as, interfaces, hasInterfaces := strings.Cut(rest, "#")
	in, out, two := strings.Cut(interfaces, ",")
	v, err := strconv.ParseUint(isd, 10, 16)
	h.isd = uint16(v)
	if err == nil && hasAS {
		h.as, err = parseAS(as)
	}
	if err == nil && hasInterfaces {
		h.in, err = strconv.ParseUint(in, 10, 64)
		h.out = h.in
	}
	if err == nil && two {
		h.out, err = strconv.ParseUint(out, 10, 64)
	}
	if err != nil || h.as == 0 && (h.in != 0 || h.out != 0) {
		return hopPredicate{}, errACLEntry
	}
	return h, nil
}

var errASGroupCount = errors.New("an AS has one or three groups")

// parseAS parses an AS as the reference does: a decimal number of 32 bits or
// three hexadecimal ones of 16.
func parseAS(s string) (as uint64, err error) {
	groups := strings.Split(s, ":")
	switch len(groups) {
	case 1:
		return strconv.ParseUint(s, 10, 32)
	case 3:
	default:
		return 0, errASGroupCount
	}
	for _, g := range groups {
		v, err := strconv.ParseUint(g, 16, 16)
		if err != nil {
			return 0, err
		}
		as = as<<16 | v
	}
	return as, nil
}

// allows reports whether a path over these interfaces may be used.
func (a acl) allows(interfaces []Interface) bool {
	for n, i := range interfaces {
		if !a.allowsInterface(i, n%2 != 0) {
			return false
		}
	}
	return true
}

func (a acl) allowsInterface(i Interface, enters bool) bool {
	for _, e := range a {
		if e.hop.matches(i, enters) {
			return e.allow
		}
	}
	return false // not reached: the last entry matches all
}

func (h hopPredicate) matches(i Interface, enters bool) bool {
	id := h.out
	if enters {
		id = h.in
	}
	return (h.isd == 0 || h.isd == i.IA.ISD()) && (h.as == 0 || h.as == i.IA.AS()) && (id == 0 || id == uint64(i.ID))
}
