// Command snapproxy joins a SCION network through a SNAP without any privilege
// and gives programs a SOCKS5 and an HTTP proxy. It is also the other side: the
// SNAP that tunnels attach to, and the exit that reaches the clients' targets.
//
// Every flag has an environment twin: --snap-key is SNAPPROXY_SNAP_KEY. A flag
// wins over its twin, and the twin of a flag that may be given several times is
// split at white space. SNAPPROXY_PRIVATE_KEY is the private key itself.
//
// It exits with 0 after SIGTERM or SIGINT, with 1 if it was refused or failed
// and with 2 if it was called wrongly, having said so in one line. With a
// command to run (exec, demo --) it exits as that command did, with 128 + n if
// signal n ended it, 125 if there was no tunnel for it, 126 if it could not be
// run and 127 if it was not found.
package main

import "os"

func main() { os.Exit(run(os.Args[1:])) }
