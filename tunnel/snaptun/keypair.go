package snaptun

import (
	"crypto/cipher"
	"encoding/binary"
	"slices"

	"golang.zx2c4.com/wireguard/replay"
)

// maxCounter bounds the counter of data messages in both directions, as in
// WireGuard; a session of 180 seconds does not get there.
const maxCounter = 1<<64 - 1<<13 - 1

// A Keypair holds the transport keys of one session. Seal and Open are safe for
// concurrent use; the rest belongs to the state machine that made the Keypair.
type Keypair struct {
	send, recv  cipher.AEAD
	local       uint32 // our index
	remote      uint32 // the peer's index
	initiator   bool
	established instant

	// Guarded by whatever guards the state machine.
	sent    uint64 // counter of the next message
	highest uint64 // highest counter accepted
	filter  replay.Filter
}

// Seal appends a data message with the given counter to dst. The counter must
// come from Reserve and be used once. The payload may lie where its ciphertext
// goes, 16 bytes behind the end of dst, and must not otherwise overlap it.
func (k *Keypair) Seal(dst []byte, counter uint64, payload []byte) []byte {
	dst = slices.Grow(dst, len(payload)+Overhead)
	n := len(dst)
	dst = dst[:n+headerSize]
	header := dst[n:]
	// The nonce is four zero bytes and the counter. The receiver index stands in
	// front of the counter, so the header serves as nonce until it is written.
	binary.LittleEndian.PutUint64(header, typeData)
	binary.LittleEndian.PutUint64(header[8:], counter)
	dst = k.send.Seal(dst, header[4:16], payload, nil)
	binary.LittleEndian.PutUint32(header[4:], k.remote)
	return dst
}

// Open decrypts a whole data message in place and returns its payload, a slice
// of b without elements for a keepalive. It does not look for replays; Accept
// does. The 16 header bytes are as before when it returns.
func (k *Keypair) Open(b []byte) (payload []byte, err error) {
	if len(b) < Overhead {
		return nil, ErrNotSNAPtun
	}
	index := binary.LittleEndian.Uint32(b[4:])
	binary.LittleEndian.PutUint32(b[4:], 0)
	payload, err = k.recv.Open(b[headerSize:headerSize], b[4:16], b[headerSize:], nil)
	binary.LittleEndian.PutUint32(b[4:], index)
	if err != nil {
		return nil, ErrOpen
	}
	return payload, nil
}

// String names the session without telling a key.
func (k *Keypair) String() string { return "session keys" }

// check refuses a counter that accept will certainly not take, so that nothing
// is decrypted for it.
func (k *Keypair) check(counter uint64) error {
	const window = 8128 // what replay.Filter remembers
	switch {
	case counter >= maxCounter:
		return ErrCounterExhausted
	case k.highest > window && counter < k.highest-window:
		return ErrReplay
	}
	return nil
}

// accept marks a counter as used and reports whether it was not used before.
func (k *Keypair) accept(counter uint64) bool {
	if !k.filter.ValidateCounter(counter, maxCounter) {
		return false
	}
	k.highest = max(k.highest, counter)
	return true
}
