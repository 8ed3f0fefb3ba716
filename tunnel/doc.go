// Package tunnel runs the SNAPtun protocol of package snaptun over a carrier of
// datagrams: it adds the sockets, goroutines, locks and clocks that the state
// machine does without.
//
// A [Conn] is a tunnel to one peer, a [Listener] accepts many. Both use any
// [Carrier]: [UDP] for the tunnel to a SNAP, a SCION port for the tunnel through
// it to an exit. The latter puts IP packets of up to 65,535 bytes into frames
// that fit the path; see [Config].FrameSize.
//
// Bytes are lent, never given: what a function is passed, and what deliver is
// passed, belongs to the caller again when the function returns. Nothing blocks
// on sending and nothing is queued but the packets that wait for the first
// session: what does not fit is dropped and counted.
package tunnel
