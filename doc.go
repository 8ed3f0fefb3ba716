// Package snapproxy joins a SCION network through a SNAP without any privilege
// and gives programs a SOCKS5 and an HTTP proxy.
//
// Its types are the roles of the snapproxy command: a [Client] offers the
// proxies and a DialContext, an [Exit] reaches the Internet or a LAN on the
// clients' behalf, and a [SNAP] carries SCION packets between the tunnels that
// attach to it. Each has a Run method that returns when all it started has
// ended.
package snapproxy
