// Package control is the control plane of a SNAP: how an endhost learns where
// the data plane is and registers the key that its tunnel will prove, and how a
// SNAP decides whom to let do that.
//
// An endhost has a [Client], a [TokenSource] that gives it the bearer token of
// the moment, and a [Registrar] that keeps its key registered. A SNAP has a
// [Verifier] of tokens, a [Registry] of the keys that were registered with
// them, a [Handler] that serves the service anapaya.snap.v1.SnapControl, and a
// [Server] with limits to serve it on. An operator has [SignToken].
//
// The calls are unary Connect over HTTP with bare protobuf bodies; tokens are
// JWTs signed with Ed25519. No error and no log holds a token.
package control
