package snaptun

import (
	"crypto/cipher"
	"crypto/ecdh"

	"golang.org/x/crypto/blake2s"
	"golang.org/x/crypto/chacha20poly1305"
)

const (
	construction = "Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s"
	identifier   = "WireGuard v1 zx2c4 Jason@zx2c4.com"
	labelMAC1    = "mac1----"
	labelCookie  = "cookie--"
)

type digest = [blake2s.Size]byte

var (
	initialChain = hash([]byte(construction), nil)
	initialHash  = hash(initialChain[:], []byte(identifier))
	noPSK        [32]byte // the preshared key is always zero (snap.md 1.18)
)

// hash returns BLAKE2s-256 of a and b one after the other. What is hashed in a
// handshake is at most 32 bytes and a sealed field.
func hash(a, b []byte) digest {
	var buf [128]byte
	return blake2s.Sum256(append(append(buf[:0], a...), b...))
}

// hmac is RFC 2104 over BLAKE2s-256, for keys and messages of at most 64 bytes.
func hmac(key, message []byte) digest {
	var inner, outer [blake2s.BlockSize + 64]byte
	copy(inner[:], key)
	copy(outer[:], key)
	for i := range blake2s.BlockSize {
		inner[i] ^= 0x36
		outer[i] ^= 0x5c
	}
	sum := blake2s.Sum256(append(inner[:blake2s.BlockSize], message...))
	return blake2s.Sum256(append(outer[:blake2s.BlockSize], sum[:]...))
}

func kdf1(chain digest, input []byte) digest {
	t0 := hmac(chain[:], input)
	return hmac(t0[:], []byte{1})
}

func kdf2(chain digest, input []byte) (t1, t2 digest) {
	t0 := hmac(chain[:], input)
	t1 = hmac(t0[:], []byte{1})
	t2 = hmac(t0[:], append(t1[:], 2))
	return t1, t2
}

func kdf3(chain digest, input []byte) (t1, t2, t3 digest) {
	t0 := hmac(chain[:], input)
	t1 = hmac(t0[:], []byte{1})
	t2 = hmac(t0[:], append(t1[:], 2))
	t3 = hmac(t0[:], append(t2[:], 3))
	return t1, t2, t3
}

func newAEAD(key digest) cipher.AEAD {
	aead, err := chacha20poly1305.New(key[:])
	if err != nil {
		panic("snaptun: " + err.Error()) // only a wrong length
	}
	return aead
}

var zeroNonce [chacha20poly1305.NonceSize]byte

func sealOnce(dst []byte, key digest, plaintext []byte, h digest) []byte {
	return newAEAD(key).Seal(dst, zeroNonce[:], plaintext, h[:])
}

func openOnce(dst []byte, key digest, sealed []byte, h digest) ([]byte, error) {
	out, err := newAEAD(key).Open(dst, zeroNonce[:], sealed, h[:])
	if err != nil {
		return nil, ErrOpen
	}
	return out, nil
}

// dh is x25519, counted.
func (h *host) dh(private *ecdh.PrivateKey, public PublicKey) (shared digest, err error) {
	h.dhs++
	return x25519(private, public)
}

// x25519 multiplies a point. A result of zero, which one of low order gives, is
// refused.
func x25519(private *ecdh.PrivateKey, public PublicKey) (shared digest, err error) {
	p, err := ecdh.X25519().NewPublicKey(public[:])
	if err != nil {
		return shared, ErrOpen
	}
	out, err := private.ECDH(p)
	if err != nil {
		return shared, ErrOpen
	}
	copy(shared[:], out)
	clear(out)
	return shared, nil
}
