package httpconnect

import (
	"net/http"
	"net/textproto"
	"strings"
)

// hopByHop are the fields that concern one connection only (RFC 9110 §7.6.1),
// with those that are treated so in spite of their names.
var hopByHop = []string{
	"Connection", "Proxy-Connection", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
	"Proxy-Authorization", "Proxy-Authenticate", "Proxy-Authentication-Info",
}

// notInTrailer are fields that must not come after the content, because they
// say how it is to be taken (RFC 9110 §6.5.1).
var notInTrailer = []string{"Content-Length", "Host", "Authorization", "Set-Cookie", "Content-Encoding", "Content-Type", "Content-Range"}

// removeHopByHop removes the fields that end at the proxy: the known ones and
// those that Connection lists.
func removeHopByHop(h http.Header) {
	for _, name := range tokens(h["Connection"]) {
		h.Del(name)
	}
	for _, name := range hopByHop {
		h.Del(name)
	}
}

// copyTrailer copies what may be in a trailer from src to dst.
func copyTrailer(dst, src http.Header) {
	src = src.Clone()
	removeHopByHop(src)
	for _, name := range notInTrailer {
		src.Del(name)
	}
	for name, values := range src {
		dst[name] = values
	}
}

// tokens returns the elements of comma-separated lists.
func tokens(values []string) []string {
	var all []string
	for _, v := range values {
		for t := range strings.SplitSeq(v, ",") {
			if t = textproto.TrimString(t); t != "" {
				all = append(all, t)
			}
		}
	}
	return all
}

func hasToken(values []string, token string) bool {
	for _, t := range tokens(values) {
		if strings.EqualFold(t, token) {
			return true
		}
	}
	return false
}

// upgradeOf returns the protocols to which a message wants to change, or
// nothing. HTTP/2 is not among them: its settings end at this hop.
func upgradeOf(h http.Header) string {
	if !hasToken(h["Connection"], "Upgrade") || hasToken(h["Upgrade"], "h2c") {
		return ""
	}
	return strings.Join(h["Upgrade"], ", ")
}

// persistent reports whether the client's connection may carry another request.
// That of an HTTP/1.0 client never does through a proxy (RFC 9112 §9.3).
func persistent(req *http.Request) bool { return !req.Close && req.ProtoAtLeast(1, 1) }
