// Package scion is a SCION end host: addresses, packet headers, paths, SCMP and
// a table of UDP ports, over an underlay that carries SCION packets.
//
// A [Host] takes packets from its [Underlay] and hands the UDP datagrams in
// them to its [Port] values, in batches, without copying or allocating. A
// datagram comes with the [Addr] of its sender, which holds the reversed path:
// what is written to that address takes the way back. SCMP echo requests are
// answered, and SCMP errors tell a port which of its destinations the network
// could not reach.
//
// [ParsePacket] and the Append functions are the codec beneath, for those who
// forward packets and not end them. Header layouts are those of the SCION
// header specification (docs.scion.org, protocols/scion-header.html); paths are
// empty or of type SCION.
package scion
