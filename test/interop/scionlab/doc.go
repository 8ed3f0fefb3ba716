// Package scionlab runs a small SCION network of reference routers and control
// services on loopback, for tests of snapproxy against programs that nobody
// here wrote. It needs Linux, Go and a C compiler, and no privileges.
//
// Four ASes, two of them core, and a peering link between the leaves:
//
//	1-ff00:0:110 ─3───3─ 1-ff00:0:120
//	  1       2            5
//	  │        ╲           │
//	  41         1         5
//	1-ff00:0:111 ─100─100─ 1-ff00:0:112
//
// So there are three ways between the leaves: by the peering link, up and down
// by 110, and up, across and down by 110 and 120. A leaf has two border
// routers: its second owns the peering link alone, so that it can be ended
// without the others.
package scionlab
