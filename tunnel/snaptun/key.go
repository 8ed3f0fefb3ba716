package snaptun

import (
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"
)

// A PrivateKey is a static X25519 private key. It is clamped at use, so any 32
// bytes are one. Formatting it in whatever way prints a placeholder.
type PrivateKey [32]byte

// A PublicKey is a static X25519 public key; it is a peer's identity.
type PublicKey [32]byte

// NewPrivateKey draws a fresh private key.
func NewPrivateKey() (PrivateKey, error) {
	var k PrivateKey
	if _, err := io.ReadFull(rand.Reader, k[:]); err != nil {
		return PrivateKey{}, fmt.Errorf("draw private key: %w", err)
	}
	// Clamped here as well, so that other tools accept what we write.
	k[0] &= 248
	k[31] = k[31]&127 | 64
	return k, nil
}

// ParsePrivateKey reads a private key in standard base64, as `wg genkey` prints
// it. White space around it is ignored; a key of zeros is refused. Errors do not
// quote the text.
func ParsePrivateKey(s string) (PrivateKey, error) {
	k, err := parseKey(s)
	if err != nil {
		return PrivateKey{}, fmt.Errorf("private key: %w", err)
	}
	return PrivateKey(k), nil
}

// ParsePublicKey reads a public key in standard base64. White space around it is
// ignored; a key of zeros is refused.
func ParsePublicKey(s string) (PublicKey, error) {
	k, err := parseKey(s)
	if err != nil {
		return PublicKey{}, fmt.Errorf("public key: %w", err)
	}
	return PublicKey(k), nil
}

func parseKey(s string) (k [32]byte, err error) {
	b, err := base64.StdEncoding.Strict().DecodeString(strings.TrimSpace(s))
	if err != nil {
		return k, errors.New("not standard base64")
	}
	if len(b) != len(k) {
		return k, fmt.Errorf("%d bytes, want %d", len(b), len(k))
	}
	copy(k[:], b)
	if k == [32]byte{} {
		return k, errors.New("all zero")
	}
	return k, nil
}

// PublicKey returns the public key that belongs to k.
func (k PrivateKey) PublicKey() PublicKey {
	return PublicKey(k.ecdh().PublicKey().Bytes())
}

func (k PrivateKey) ecdh() *ecdh.PrivateKey {
	priv, err := ecdh.X25519().NewPrivateKey(k[:])
	if err != nil {
		panic("snaptun: " + err.Error()) // only a wrong length, or FIPS-only mode
	}
	return priv
}

// Base64 returns the key itself in standard base64, to write it to a key file.
func (k PrivateKey) Base64() string { return base64.StdEncoding.EncodeToString(k[:]) }

// IsZero reports whether k is all zero, which stands for no key.
func (k PrivateKey) IsZero() bool { return k == PrivateKey{} }

const hiddenKey = "[private key]"

// String returns a placeholder, never the key.
func (PrivateKey) String() string { return hiddenKey }

// Format prints a placeholder whatever the verb, so that %x does not leak.
func (PrivateKey) Format(f fmt.State, _ rune) { io.WriteString(f, hiddenKey) }

// MarshalText returns a placeholder, so that JSON and structured logs do not leak.
func (PrivateKey) MarshalText() ([]byte, error) { return []byte(hiddenKey), nil }

// String returns k in standard base64.
func (k PublicKey) String() string { return base64.StdEncoding.EncodeToString(k[:]) }

// MarshalText returns k in standard base64.
func (k PublicKey) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// IsZero reports whether k is all zero, which stands for no key.
func (k PublicKey) IsZero() bool { return k == PublicKey{} }
