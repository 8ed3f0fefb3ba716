// Package netstack is a TCP/IP host in user space: a program dials and listens
// through a [Stack] as it would through the kernel, and the packets travel over
// a [Link], for which the program needs no privilege. With handlers for flows a
// Stack is an exit: it takes every TCP and UDP flow that comes out of the link,
// whatever its destination, and lets the handlers decide.
//
//	 TCPConn  Listener  TCPFlow        UDPConn  UDPFlow
//	    |        |         |              |        |
//	+---+--------+---------+---+   +------+--------+---+
//	|          gVisor          |   |    udpTable       |
//	+-----^--------------+-----+   +----^---------+----+
//	      | runs merged  | 64 KiB       |         |
//	      | (coalesce)   v super-seg.   |         v
//	+-----+--------------+--------------+---------+----+
//	| inbound: filter    |  outbound: turns, pump, cut |
//	+-----^--------------+------------------+----------+
//	      | batches of IP packets           v
//	                      Link
//
// Inside there is only IPv6. TCP is gVisor's; UDP, what is heard from ICMPv6,
// and the cutting and merging of segments are done here, a batch at a time.
//
// Flows take turns on their way out, sparse ones first, and nothing of TCP's is
// dropped there. The connections that send as fast as they may share what their
// send buffers take, so that they carry the same and memory stays bounded. What
// may be received before somebody reads it is shared among all connections.
//
// What TCP has in flight is remembered by reference. When nothing comes back for
// too long, some of it goes out again, and when the silence has ended, some of
// every connection: the answers tell gVisor at once what an outage has cost,
// where its own timer would let it crawl. Packets that were lost by chance, or
// that are only late, are mended from it without gVisor's knowledge (mend).
//
// Errors satisfy errors.Is with the syscall errors that the kernel's sockets
// would give ([syscall.ECONNREFUSED], [syscall.EHOSTUNREACH],
// [syscall.ENETUNREACH], [syscall.EACCES], [syscall.ETIMEDOUT]…), with
// [os.ErrDeadlineExceeded], and with [net.ErrClosed] once either the connection
// or its Stack is closed.
package netstack
