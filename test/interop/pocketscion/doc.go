// Package pocketscion runs snapproxy against peers that nobody here wrote:
// PocketSCION's networks and SNAPs, and clients and servers on the Rust SCION
// SDK. The peers are the crate beside these files. The tests have the build tag
// interop; ../README.md says how to run them.
package pocketscion
