package snapproxy

import (
	"errors"
	"fmt"
	"strings"

	"github.com/snapproxy/snapproxy/scion"
)

// The two forms in which SCION addresses are published in TXT records: a list
// of addresses in brackets, or one address. Each knows the other's records by
// their beginning and skips them (snap.md §6.6).
const (
	txtAny  = "scion="
	txtList = "scion=v1;"
)

var (
	errNoAddresses  = errors.New("no address")
	errListEntry    = errors.New("no [ISD-AS,IP]")
	errListComma    = errors.New("no comma between addresses")
	errListBrackets = errors.New("no closing bracket")
)

// parseTXT returns the addresses that a TXT record publishes. It is not ours if
// the record is about something else. One bad address makes all of a record
// bad.
func parseTXT(s string) (addrs []scion.Addr, ours bool, err error) {
	if list, ok := strings.CutPrefix(s, txtList); ok {
		addrs, err = parseTXTList(list)
	} else if one, ok := strings.CutPrefix(s, txtAny); ok {
		var a scion.Addr
		a, err = parseSCIONHost(strings.TrimSpace(one))
		addrs = []scion.Addr{a}
	} else {
		return nil, false, nil
	}
	if err != nil {
		return nil, true, fmt.Errorf("TXT record %s: %w", printable(s), err)
	}
	return addrs, true, nil
}

// parseTXTList reads [ISD-AS,IP],[ISD-AS,IP]… with white space around
// addresses, their parts and commas, and perhaps a comma at the end.
func parseTXTList(s string) ([]scion.Addr, error) {
	var addrs []scion.Addr
	for s = strings.TrimSpace(s); s != ""; s = strings.TrimSpace(s) {
		if s[0] != '[' {
			return nil, errListEntry
		}
		entry, rest, ok := strings.Cut(s[1:], "]")
		if !ok {
			return nil, errListBrackets
		}
		ia, host, ok := strings.Cut(entry, ",")
		if !ok {
			return nil, errListEntry
		}
		a, err := scionHost(strings.TrimSpace(ia), strings.TrimSpace(host))
		if err != nil {
			return nil, err
		}
		if len(addrs) == maxAddresses {
			return nil, errAddressesFound
		}
		addrs = append(addrs, a)
		if s = strings.TrimSpace(rest); s != "" {
			if s[0] != ',' {
				return nil, errListComma
			}
			s = s[1:]
		}
	}
	if len(addrs) == 0 {
		return nil, errNoAddresses
	}
	return addrs, nil
}

// printable quotes the beginning of what a stranger wrote.
func printable(s string) string {
	const enough = 80
	if len(s) > enough {
		return fmt.Sprintf("%+q…", s[:enough])
	}
	return fmt.Sprintf("%+q", s)
}
