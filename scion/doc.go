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
// A [Route] is a path to another AS with what is known of it, and [Paths] are
// the routes to one AS: they are looked up again before they expire, each flow
// has one that it stays on, and flows leave a route that expires, that the
// network reports broken, or on which nothing comes back:
//
//	paths := scion.NewPaths(scion.PathsConfig{Dst: dst, Fetch: lookup, MinMTU: 1280, Suspect: askForSign})
//	go paths.Run(ctx)
//	<-paths.Ready()
//	to.Path = paths.Route(flow).Path // for each packet; nil: paths.Err says why
//	paths.Heard(flow)                // for each packet that came back and is authentic
//	paths.HeardOn(from.Path)         // for the way it came
//
// A [Policy] says which routes may be used and which are better. Routes come
// from the endhost API or the control service (package endhost); what they say
// is checked against the path itself as far as it can be.
//
// The host hands SCMP errors about its own packets to HostConfig.Report, and
// [Paths.Report] acts on them. Only errors that quote what was sent lately, with
// the MACs of its path, become a [Report]; a tunnel should also hold the quoted
// payload against what it has sent. [Host.Echo] sends SCMP echo requests.
//
// [ParsePacket] and the Append functions are the codec beneath, for those who
// forward packets and not end them. Header layouts are those of the SCION
// header specification (docs.scion.org, protocols/scion-header.html); paths are
// empty or of type SCION.
package scion
