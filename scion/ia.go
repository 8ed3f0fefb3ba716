package scion

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

const (
	asBits   = 48
	maxAS    = 1<<asBits - 1
	maxBGPAS = 1<<32 - 1
)

// IA is an ISD-AS: the ISD in its top 16 bits, the AS in its low 48. The zero
// IA, and one whose ISD or AS is zero, is a wildcard and addresses nobody.
type IA uint64

// ParseIA parses an ISD-AS like 1-ff00:0:110 or 64-559. An AS is three groups
// of one to four hexadecimal digits, or, up to 2^32-1, a decimal number as BGP
// has it. Wildcards are parsed: see [IA.IsWildcard].
func ParseIA(s string) (IA, error) {
	ia, err := parseIA(s)
	if err != nil {
		return 0, fmt.Errorf("parse ISD-AS %q: %w (want one like 1-ff00:0:110)", s, err)
	}
	return ia, nil
}

var (
	errNoHyphen = errors.New("no hyphen between ISD and AS")
	errISD      = errors.New("ISD is not a decimal number up to 65535")
	errBGPAS    = errors.New("AS is not a decimal number up to 4294967295")
	errASGroups = errors.New("AS is not three groups of up to four hexadecimal digits")
)

func parseIA(s string) (IA, error) {
	isdText, asText, ok := strings.Cut(s, "-")
	if !ok {
		return 0, errNoHyphen
	}
	isd, ok := parseDecimal(isdText, 16)
	if !ok {
		return 0, errISD
	}
	if !strings.Contains(asText, ":") {
		as, ok := parseDecimal(asText, 32)
		if !ok {
			return 0, errBGPAS
		}
		return IA(isd<<asBits | as), nil
	}
	groups := strings.Split(asText, ":")
	if len(groups) != 3 {
		return 0, errASGroups
	}
	var as uint64
	for _, g := range groups {
		v, err := strconv.ParseUint(g, 16, 16)
		if err != nil || len(g) > 4 {
			return 0, errASGroups
		}
		as = as<<16 | v
	}
	return IA(isd<<asBits | as), nil
}

// parseDecimal parses a decimal number of so many bits, without a sign and
// without leading zeros.
func parseDecimal(s string, bits int) (uint64, bool) {
	if len(s) > 1 && s[0] == '0' {
		return 0, false
	}
	v, err := strconv.ParseUint(s, 10, bits)
	return v, err == nil
}

// ISD returns the isolation domain.
func (ia IA) ISD() uint16 { return uint16(ia >> asBits) }

// AS returns the number of the autonomous system, of 48 bits.
func (ia IA) AS() uint64 { return uint64(ia) & maxAS }

// IsZero reports whether ia is 0-0.
func (ia IA) IsZero() bool { return ia == 0 }

// IsWildcard reports whether the ISD or the AS is zero, which stands for any.
func (ia IA) IsWildcard() bool { return ia.ISD() == 0 || ia.AS() == 0 }

// String returns the form that ParseIA describes, in lower case and without
// leading zeros.
func (ia IA) String() string {
	as := ia.AS()
	if as <= maxBGPAS {
		return fmt.Sprintf("%d-%d", ia.ISD(), as)
	}
	return fmt.Sprintf("%d-%x:%x:%x", ia.ISD(), as>>32, as>>16&0xffff, as&0xffff)
}
