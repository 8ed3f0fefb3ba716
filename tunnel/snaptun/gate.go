package snaptun

import (
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	stdhash "hash"
	"io"
	"time"

	"golang.org/x/crypto/blake2s"
	"golang.org/x/crypto/chacha20poly1305"
)

const (
	handshakePeriod = time.Second
	// defaultHandshakes a second keep about half a core busy. (The reference
	// takes 51,200, which no core can do.)
	defaultHandshakes = 2000
	cookiePeriod      = 128 * time.Second
	// sourceHandshakes a second and source are admitted under load.
	sourceHandshakes = 20
	maxSources       = 1 << 13
	// maxReplies cookie replies a second cost a fifteenth of a core; who floods
	// from one address uses up maxRepliesEach of them.
	maxReplies     = 1 << 14
	maxRepliesEach = maxReplies / 16
)

// A gate judges handshake messages before anything expensive is done with them:
// mac1 first, and when there are too many of them, mac2, which proves that the
// sender receives at the address it sends from.
type gate struct {
	mac1  stdhash.Hash // keyed for messages to us
	bake  stdhash.Hash // keyed with a secret of ours: makes cookies
	nonce stdhash.Hash // keyed with another: makes nonces of a count
	seal  cipher.AEAD  // seals our cookie replies

	limit    int
	began    instant // of the current period
	count    int     // handshake messages in it
	replies  uint64  // cookie replies ever
	sources  map[[macSize]byte]int
	replied  map[[macSize]byte]int // cookie replies in it by address
	quota    int                   // how many there may be yet
	macSpace [blake2s.Size]byte
}

func mac1Key(recipient PublicKey) digest { return hash([]byte(labelMAC1), recipient[:]) }

func (g *gate) init(public PublicKey, limit int, random io.Reader) error {
	if limit < 0 {
		return errors.New("negative handshake limit")
	}
	if limit == 0 {
		limit = defaultHandshakes
	}
	var secret, nonceKey digest
	for _, b := range []*digest{&secret, &nonceKey} {
		if _, err := io.ReadFull(random, b[:]); err != nil {
			return err
		}
	}
	key := mac1Key(public)
	g.mac1 = newMAC(key[:])
	g.bake = newMAC(secret[:])
	g.nonce, _ = blake2s.New256(nonceKey[:])
	g.seal = newCookieAEAD(public)
	g.limit = limit
	g.quota = maxReplies
	return nil
}

func newMAC(key []byte) stdhash.Hash {
	mac, err := blake2s.New128(key)
	if err != nil {
		panic("snaptun: " + err.Error()) // only a key that is too long
	}
	return mac
}

// mac is the keyed BLAKE2s of WireGuard, with 16 bytes of output.
func mac(key, message []byte) (sum [macSize]byte) {
	m := newMAC(key)
	m.Write(message)
	m.Sum(sum[:0])
	return sum
}

// knowsUs reports whether the sender of an initiation or response knows our
// public key, that is, whether mac1 verifies.
func (g *gate) knowsUs(b []byte) bool {
	body := b[:len(b)-2*macSize]
	g.mac1.Reset()
	g.mac1.Write(body)
	sum := g.mac1.Sum(g.macSpace[:0])
	return subtle.ConstantTimeCompare(sum, b[len(body):len(body)+macSize]) == 1
}

// crowded counts a message that knows us and reports whether there are too many.
func (g *gate) crowded(now instant) bool {
	if now.since(g.began) >= handshakePeriod {
		g.began = now
		g.count = 0
		clear(g.sources)
		clear(g.replied)
		g.quota = maxReplies
	}
	g.count++
	return g.count > g.limit
}

// cookie returns the cookie of an address. It is good for the rest of the
// current period and for the next one.
func (g *gate) cookie(addr []byte, period uint64) (c [macSize]byte) {
	var prefix [8]byte
	binary.LittleEndian.PutUint64(prefix[:], period)
	g.bake.Reset()
	g.bake.Write(prefix[:])
	g.bake.Write(addr)
	g.bake.Sum(c[:0])
	return c
}

// provesAddress reports whether mac2 was made with a cookie we gave to addr.
func (g *gate) provesAddress(b, addr []byte, now instant) bool {
	mac2 := b[len(b)-macSize:]
	if [macSize]byte(mac2) == [macSize]byte{} {
		return false // without a cookie, as in most floods
	}
	period := uint64(now / instant(cookiePeriod))
	for _, p := range []uint64{period, period - 1} {
		c := g.cookie(addr, p)
		sum := mac(c[:], b[:len(b)-macSize])
		if subtle.ConstantTimeCompare(sum[:], mac2) == 1 {
			return true
		}
	}
	return false
}

// name is what stands for an address in a map; nobody can choose it.
func (g *gate) name(addr []byte) [macSize]byte {
	g.bake.Reset()
	g.bake.Write(addr)
	return [macSize]byte(g.bake.Sum(g.macSpace[:0]))
}

// mayReply takes a cookie reply to addr from what may be sent in this period.
func (g *gate) mayReply(addr []byte) bool {
	if g.quota == 0 {
		return false
	}
	id := g.name(addr)
	if g.replied[id] >= maxRepliesEach {
		return false
	}
	if g.replied == nil {
		g.replied = make(map[[macSize]byte]int)
	}
	g.replied[id]++
	g.quota--
	return true
}

// spend takes one handshake from the budget of a source that proved its address.
func (g *gate) spend(source []byte) bool {
	id := g.name(source)
	n, known := g.sources[id]
	if n >= sourceHandshakes || !known && len(g.sources) >= maxSources {
		return false
	}
	if g.sources == nil {
		g.sources = make(map[[macSize]byte]int)
	}
	g.sources[id] = n + 1
	return true
}

// appendCookieReply appends the answer to a message that came from addr without
// a valid mac2. It is smaller than what it answers.
func (g *gate) appendCookieReply(dst, b, addr []byte, now instant) []byte {
	g.replies++
	var count [8]byte
	binary.LittleEndian.PutUint64(count[:], g.replies)
	g.nonce.Reset()
	g.nonce.Write(count[:])
	nonce := g.nonce.Sum(g.macSpace[:0])[:chacha20poly1305.NonceSizeX]
	cookie := g.cookie(addr, uint64(now/instant(cookiePeriod)))
	return sealCookie(dst, g.seal, senderIndex(b), nonce, cookie, b[len(b)-2*macSize:len(b)-macSize])
}

func newCookieAEAD(sender PublicKey) cipher.AEAD {
	key := hash([]byte(labelCookie), sender[:])
	aead, err := chacha20poly1305.NewX(key[:])
	if err != nil {
		panic("snaptun: " + err.Error()) // only a wrong length
	}
	return aead
}

func sealCookie(dst []byte, aead cipher.AEAD, receiver uint32, nonce []byte, cookie [macSize]byte, mac1 []byte) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, typeCookie)
	dst = binary.LittleEndian.AppendUint32(dst, receiver)
	dst = append(dst, nonce...)
	return aead.Seal(dst, nonce, cookie[:], mac1)
}

func openCookie(b []byte, aead cipher.AEAD, mac1 []byte) (cookie [macSize]byte, err error) {
	if _, err := aead.Open(cookie[:0], b[8:32], b[32:], mac1); err != nil {
		return cookie, ErrOpen
	}
	return cookie, nil
}

// admit judges an initiation or response that came from addr, to be charged to
// source. Under load it puts a cookie reply into the outbox, unless there were
// too many of them.
func (h *host) admit(b, addr, source []byte, now instant) error {
	if h.gate.provesAddress(b, addr, now) {
		if !h.gate.spend(source) {
			return ErrSourceBudget
		}
		return nil
	}
	if h.gate.mayReply(addr) {
		h.out.put(h.gate.appendCookieReply(h.out.space(), b, addr, now))
	}
	return ErrUnderLoad
}
