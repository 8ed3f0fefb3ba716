// Package socks holds a SOCKS5 conversation (RFC 1928, RFC 1929) with a client
// up to the first byte of the stream, and the framing of UDP associations.
//
// [Accept] reads greeting, credentials and request. The caller dials what the
// [Request] asks for and answers with [Request.Accept], which returns the
// stream, or [Request.Refuse], which tells the client why. Nothing here dials
// or resolves a name.
//
//	client                         proxy
//	  | VER NMETHODS METHODS         |
//	  |----------------------------->|  Accept
//	  |                  VER METHOD  |
//	  |<-----------------------------|
//	  | user name and password, if configured (RFC 1929)
//	  | VER CMD RSV ATYP ADDR PORT   |
//	  |----------------------------->|  Accept returns
//	  |  VER REP RSV ATYP ADDR PORT  |
//	  |<-----------------------------|  Request.Accept or Request.Refuse
//	  |<========== stream ==========>|
package socks
