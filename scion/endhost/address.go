package endhost

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

const maxURL = 2048

var (
	errURLScheme   = errors.New("the scheme is neither http nor https")
	errURLUser     = errors.New("it names a user")
	errURLHost     = errors.New("it names no host")
	errURLHostText = errors.New("the host is neither a name nor an address")
	errURLPort     = errors.New("the port is not a number from 1 to 65535")
	errURLTail     = errors.New("it has a query or fragment")
	errURLLength   = errors.New("it is too long")
)

// ParseURL parses the URL of an API: http or https, a host, perhaps a port and
// a path, and nothing else. The error does not repeat what may be a password.
func ParseURL(s string) (*url.URL, error) {
	u, err := parseURL(s)
	if err != nil {
		return nil, fmt.Errorf("parse API URL %s: %w (want one like https://snap.example:8443)", quoteURL(s), err)
	}
	return u, nil
}

func parseURL(s string) (*url.URL, error) {
	if len(s) > maxURL {
		return nil, errURLLength
	}
	if !strings.Contains(s, "://") {
		return nil, errURLScheme // host:port parses as a scheme
	}
	u, err := url.Parse(s)
	if err != nil {
		var parse *url.Error
		if errors.As(err, &parse) {
			err = parse.Err // the URL is in the text already
		}
		return nil, err
	}
	return u, checkURL(u)
}

// checkURL is ParseURL for a URL that is parsed already.
func checkURL(u *url.URL) error {
	switch {
	case u.Scheme != "http" && u.Scheme != "https" || u.Opaque != "":
		return errURLScheme
	case u.User != nil:
		return errURLUser
	case u.Hostname() == "":
		return errURLHost
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return errURLTail
	}
	if _, err := netip.ParseAddr(u.Hostname()); err != nil && !isName(u.Hostname()) {
		return errURLHostText
	}
	if port := u.Port(); port != "" || strings.HasSuffix(u.Host, ":") {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return errURLPort
		}
	}
	return nil
}

// isName reports whether s can be the name of a host and cannot be taken for a
// number: resolvers read 127.1 and 0x7f000001 as addresses, too.
func isName(s string) bool {
	s = strings.TrimSuffix(s, ".")
	last := s[strings.LastIndexByte(s, '.')+1:]
	if s == "" || len(s) > 253 || last == "" || last[0] >= '0' && last[0] <= '9' {
		return false
	}
	for _, c := range []byte(s) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '.', c == '_':
		default:
			return false
		}
	}
	return true
}

// isLocalhost reports whether host is a name for the loopback (RFC 6761).
func isLocalhost(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}

// quoteURL quotes a URL that somebody else wrote for a line of text, without
// the user that it may name.
func quoteURL(s string) string {
	if at := strings.LastIndexByte(s, '@'); at >= 0 {
		s = "…" + s[at:]
	}
	return strconv.Quote(printable(s, 200))
}

// checkNamed returns an error if an API of this scope must not name u. Names
// pass, unless they are those of the loopback: what they resolve to is to be
// checked when they are dialled.
func checkNamed(u *url.URL, by Scope) error {
	host := u.Hostname()
	if isLocalhost(host) && by != ScopeLoopback {
		return fmt.Errorf("%s is the loopback, named by a %s API", printable(host, 200), by)
	}
	if a, err := netip.ParseAddr(host); err == nil {
		return by.Permits(a)
	}
	return nil
}
