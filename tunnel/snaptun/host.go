package snaptun

import (
	"crypto/ecdh"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"
)

// A host is what all peers of one static key share: the key, the time, the
// defence against floods and the messages that wait to be sent.
type host struct {
	private *ecdh.PrivateKey
	public  PublicKey
	rand    io.Reader
	timers  Timers
	// keepalive is the interval of persistent keepalives, 0 for none.
	keepalive time.Duration

	gate  gate
	drive drive
	// queued is the bytes of payloads that wait for sessions, queueLimit how many
	// there may be, 0 for no bound.
	queued, queueLimit int

	out outbox

	epoch     time.Time
	now       time.Time // what we were told last, for its wall clock
	clock     instant   // the latest time we were told
	lastStamp stamp     // of the last initiation, so that the next is newer
	dhs       int       // X25519 operations so far, for tests
}

func (h *host) init(key PrivateKey, limit int, keepalive time.Duration, timers Timers, random io.Reader, now time.Time) error {
	t, err := timers.withDefaults()
	if err != nil {
		return err
	}
	if keepalive < 0 {
		return errors.New("negative keepalive")
	}
	if random == nil {
		random = rand.Reader
	}
	h.private = key.ecdh()
	h.public = PublicKey(h.private.PublicKey().Bytes())
	h.rand = random
	h.timers = t
	h.keepalive = keepalive
	h.epoch, h.now = now, now
	h.clock = 1
	return h.gate.init(h.public, limit, random)
}

// at converts a time. Time does not go back.
func (h *host) at(now time.Time) instant {
	h.now = now
	h.clock = max(h.clock, instant(now.Sub(h.epoch))+1)
	return h.clock
}

// time converts a deadline back; none is the zero Time.
func (h *host) time(i instant) time.Time {
	if i == 0 {
		return time.Time{}
	}
	return h.epoch.Add(time.Duration(i - 1))
}

// nextStamp returns the timestamp for an initiation, newer than all before even
// if the clock was set back.
func (h *host) nextStamp() stamp {
	s := stampAt(h.now)
	if !h.lastStamp.before(s) {
		s = h.lastStamp.next()
	}
	h.lastStamp = s
	return s
}

func (h *host) newEphemeral() (*ecdh.PrivateKey, error) {
	key, err := h.drawKey()
	if err != nil {
		return nil, err
	}
	h.dhs++
	private := key.ecdh()
	clear(key[:])
	return private, nil
}

// drawKey draws an ephemeral key, of which nothing has been computed yet.
func (h *host) drawKey() (key PrivateKey, err error) {
	if _, err := io.ReadFull(h.rand, key[:]); err != nil {
		return key, fmt.Errorf("draw ephemeral key: %w", err)
	}
	return key, nil
}

func (h *host) randomUint32() (uint32, error) {
	var b [4]byte
	if _, err := io.ReadFull(h.rand, b[:]); err != nil {
		return 0, fmt.Errorf("draw index: %w", err)
	}
	return binary.LittleEndian.Uint32(b[:]), nil
}
