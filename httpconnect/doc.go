// Package httpconnect holds the conversation of an HTTP/1.1 proxy with a
// client: CONNECT up to the first byte of the stream, and requests in
// absolute-form (RFC 9112 §3.2) with any method over connections that are kept
// alive, Upgrade included.
//
// It forwards what it is given and adds nothing: no Via, no User-Agent, no
// Accept-Encoding, no X-Forwarded-For; hop-by-hop fields end here. A request
// that it cannot serve gets a status, Proxy-Status (RFC 9209) and one line of
// text. Nothing here dials or resolves a name by itself.
package httpconnect
