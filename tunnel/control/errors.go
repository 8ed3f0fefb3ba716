package control

import "errors"

// Why a token is refused. Errors of a Verifier wrap one of these.
var (
	ErrMalformed   = errors.New("token is malformed")
	ErrAlgorithm   = errors.New("token is signed with another algorithm than EdDSA")
	ErrNoKeyID     = errors.New("token names no key, and only keys of the key set are trusted")
	ErrUnknownKey  = errors.New("token is signed with a key that is not in the key set")
	ErrSignature   = errors.New("signature of the token is wrong")
	ErrExpired     = errors.New("token has expired")
	ErrNotYetValid = errors.New("token is not yet valid")
	ErrRevoked     = errors.New("token is revoked")
)

// ErrNoKeys is no fault of the token: the key set that may hold its key cannot
// be fetched.
var ErrNoKeys = errors.New("key set that may hold the token's key is out of reach")

// ErrFull is returned by a Registry that holds as many bindings as it may.
var ErrFull = errors.New("too many identities are registered")
