//go:build unix

package test

import (
	"crypto/ecdh"
	"crypto/rand"
	"net"
	"testing"
	"time"

	"golang.org/x/crypto/blake2s"
	"golang.org/x/crypto/chacha20poly1305"

	"github.com/snapproxy/snapproxy/tunnel/snaptun"
)

// A stranger sends what it likes to a SNAP, from one UDP socket.
type stranger struct {
	t *testing.T
	*net.UDPConn
}

func newStranger(t *testing.T, snap string) *stranger {
	t.Helper()
	c, err := net.Dial("udp", snap)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return &stranger{t, c.(*net.UDPConn)}
}

func (s *stranger) send(messages ...[]byte) {
	s.t.Helper()
	for _, b := range messages {
		if _, err := s.Write(b); err != nil {
			s.t.Fatalf("send %d bytes: %v", len(b), err)
		}
	}
}

// answers is how the SNAP has answered what was sent before: it shakes hands
// with the key of somebody whom the SNAP admits, and returns everything that
// comes before the response to that.
func (s *stranger) answers(key snaptun.PrivateKey, snap snaptun.PublicKey) (before [][]byte) {
	s.t.Helper()
	session := newSession(s.t, key, snap)
	for range 8 { // until an attempt is not lost
		s.send(initiation(s.t, session))
		s.SetReadDeadline(time.Now().Add(5 * time.Second))
		for {
			buf := make([]byte, 64<<10)
			n, err := s.Read(buf)
			if err != nil {
				break
			}
			if n > 0 && buf[0] == msgResponse {
				if _, err := session.HandleDatagram(append([]byte(nil), buf[:n]...), time.Now()); err == nil {
					return before
				}
			}
			if n > 0 && buf[0] == msgCookie {
				session.HandleDatagram(append([]byte(nil), buf[:n]...), time.Now())
			}
			before = append(before, buf[:n])
		}
	}
	s.t.Fatal("the SNAP answers nobody")
	return nil
}

func newSession(t *testing.T, key snaptun.PrivateKey, peer snaptun.PublicKey) *snaptun.Session {
	t.Helper()
	s, err := snaptun.NewSession(snaptun.SessionConfig{PrivateKey: key, PeerKey: peer}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// initiation makes the next initiation of a session.
func initiation(t *testing.T, s *snaptun.Session) []byte {
	t.Helper()
	if err := s.Initiate(time.Now()); err != nil {
		t.Fatal(err)
	}
	for b := s.NextTransmit(); b != nil; b = s.NextTransmit() {
		if b[0] == msgInitiation {
			return append([]byte(nil), b...)
		}
	}
	t.Fatal("a session does not initiate")
	return nil
}

// strange is an initiation with a valid MAC1 by a key that nobody knows.
func strange(t *testing.T, snap snaptun.PublicKey) []byte {
	t.Helper()
	key, err := snaptun.NewPrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	return initiation(t, newSession(t, key, snap))
}

// forge makes an initiation that names somebody whose private key we do not
// have. All of it is as it should be (§5.4.2 of the WireGuard paper) but for the
// timestamp, which only the owner of that key could seal.
func forge(t *testing.T, snap, named snaptun.PublicKey) []byte {
	t.Helper()
	server, err := ecdh.X25519().NewPublicKey(snap[:])
	if err != nil {
		t.Fatal(err)
	}
	ephemeral, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	shared, err := ephemeral.ECDH(server)
	if err != nil {
		t.Fatal(err)
	}
	chain := blake([]byte("Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s"))
	h := blake(chain, []byte("WireGuard v1 zx2c4 Jason@zx2c4.com"))
	h = blake(h, snap[:])
	public := ephemeral.PublicKey().Bytes()
	chain, _ = derive(chain, public)
	h = blake(h, public)
	_, key := derive(chain, shared)

	b := make([]byte, 8, 148)
	b[0] = msgInitiation
	rand.Read(b[4:8])
	b = append(b, public...)
	b = seal(b, key, named[:], h)
	stamp := make([]byte, 12+16)
	rand.Read(stamp)
	b = append(b, stamp...)
	mac, err := blake2s.New128(blake([]byte("mac1----"), snap[:]))
	if err != nil {
		t.Fatal(err)
	}
	mac.Write(b)
	return append(mac.Sum(b), make([]byte, 16)...)
}

func blake(parts ...[]byte) []byte {
	h, _ := blake2s.New256(nil) // fails for keys only
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)
}

// derive is HKDF with two outputs.
func derive(key, input []byte) (t1, t2 []byte) {
	t0 := hmac(key, input)
	t1 = hmac(t0, []byte{1})
	return t1, hmac(t0, append(append([]byte(nil), t1...), 2))
}

func hmac(key, message []byte) []byte {
	inner, outer := make([]byte, blake2s.BlockSize), make([]byte, blake2s.BlockSize)
	copy(inner, key)
	copy(outer, key)
	for i := range inner {
		inner[i] ^= 0x36
		outer[i] ^= 0x5c
	}
	return blake(outer, blake(inner, message))
}

func seal(dst, key, plaintext, additional []byte) []byte {
	aead, err := chacha20poly1305.New(key)
	if err != nil {
		panic(err)
	}
	return aead.Seal(dst, make([]byte, chacha20poly1305.NonceSize), plaintext, additional)
}
