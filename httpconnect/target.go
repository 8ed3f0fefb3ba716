package httpconnect

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// MaxNameLen is the length of the longest host name that is accepted, the
// longest that DNS can carry in its usual form.
const MaxNameLen = 253

// A target is the host and port a request is for. The host is a name or the
// text of an IP address in its shortest form.
type target struct {
	host string
	port uint16
}

func (t target) String() string {
	return net.JoinHostPort(t.host, strconv.Itoa(int(t.port)))
}

// targetOf returns the target of a request: that of a CONNECT in
// authority-form, that of an http URL, or nothing for "OPTIONS *".
func targetOf(req *http.Request) (target, error) {
	switch u := req.URL; {
	case req.Method == http.MethodConnect:
		host, port, err := net.SplitHostPort(req.RequestURI)
		if err != nil || port == "" {
			return target{}, badRequest("CONNECT needs HOST:PORT")
		}
		return newTarget(host, port, strings.HasPrefix(req.RequestURI, "["))
	case req.Method == http.MethodOptions && req.RequestURI == "*":
		return target{}, nil
	case u.Scheme == "":
		return target{}, badRequest("this is a proxy: the request needs an absolute URL")
	case u.Scheme == "https":
		return target{}, badRequest("https needs CONNECT")
	case u.Scheme != "http", u.Opaque != "":
		return target{}, badRequest("only http URLs can be forwarded")
	case u.User != nil:
		// RFC 9110 §4.2.4: it is more often a disguise than a credential.
		return target{}, badRequest("user information in URL")
	default:
		port := u.Port()
		if port == "" {
			port = "80"
		}
		return newTarget(u.Hostname(), port, strings.HasPrefix(u.Host, "["))
	}
}

func newTarget(host, port string, bracketed bool) (target, error) {
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil || number == 0 || port[0] == '+' {
		return target{}, badRequest("malformed port")
	}
	t := target{host: host, port: uint16(number)}
	if len(host) == 0 {
		return target{}, badRequest("empty host")
	}
	if len(host) > MaxNameLen {
		return target{}, badRequest("host name is longer than 253 bytes")
	}
	for i := range len(host) {
		switch c := host[i]; {
		case c == '%':
			// A scope is meaningful on the host that names it only, and nothing
			// else with this sign is a host.
			return target{}, badRequest("zone in host")
		case c <= ' ', c == 0x7f, strings.IndexByte(`/\@[]?#"<>`, c) >= 0:
			return target{}, badRequest("malformed host")
		}
	}
	ip, err := netip.ParseAddr(host)
	if bracketed && (err != nil || !ip.Is6()) || err != nil && strings.Contains(host, ":") {
		return target{}, badRequest("malformed host")
	}
	if err == nil {
		t.host = ip.Unmap().String()
	}
	return t, nil
}

// forwardURL returns the URL with which the request is forwarded to t. Path and
// query are passed byte by byte where that is possible.
func forwardURL(req *http.Request, t target) *url.URL {
	u := *req.URL
	u.Host = t.String()
	switch {
	case req.Method == http.MethodOptions && u.Path == "" && u.RawQuery == "" && !u.ForceQuery:
		u.Path = "*" // RFC 9112 §3.2.4
		return &u
	case u.Path == "":
		u.Path = "/"
		return &u
	}
	_, raw, _ := strings.Cut(req.RequestURI, "://")
	if i := strings.IndexByte(raw, '/'); i >= 0 && !strings.HasPrefix(raw[i:], "//") {
		u.Opaque, _, _ = strings.Cut(raw[i:], "?")
	}
	return &u
}
