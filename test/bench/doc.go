// Command bench measures snapproxy beside its peers and says what the parts of
// the way cost. It builds and starts the roles as processes of their own on
// loopback, drives them through the SOCKS port, and does the same, in turns,
// with a pair of processes that have wireguard-go's device and netstack at both
// ends, which is how other tunnel proxies without a TUN device are made.
//
//	go run ./test/bench                       # all of it, about twelve minutes
//	go run ./test/bench -quick                # two minutes, to see that it works
//	go run ./test/bench -only stream,connect  # parts of it
//	go run ./test/bench -json FILE -markdown docs/performance.md
//
// What counts are the ratios within one run: absolute numbers are of a machine
// at a time. docs/performance.md has the method.
package main
