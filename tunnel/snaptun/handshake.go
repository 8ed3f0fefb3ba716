package snaptun

import (
	"crypto/ecdh"
	"encoding/binary"
)

// An initiation is one we sent and that may still be answered.
type initiation struct {
	index     uint32
	chain, h  digest
	ephemeral *ecdh.PrivateKey
	sent      instant
}

// A request is an initiation we received, as far as it has been opened, and
// what was computed for the answer. Its methods use of the host what never
// changes.
type request struct {
	index     uint32 // the initiator's
	chain, h  digest
	ephemeral PublicKey
	static    PublicKey
	stamp     stamp

	own PublicKey // our ephemeral key
	key digest    // seals the address
	dhs int       // X25519 operations, for tests
}

// appendInitiation appends message 1 without its macs.
func (h *host) appendInitiation(dst []byte, p *peer, index uint32) ([]byte, *initiation, error) {
	ephemeral, err := h.newEphemeral()
	if err != nil {
		return dst, nil, err
	}
	e := ephemeral.PublicKey().Bytes()
	i := &initiation{index: index, ephemeral: ephemeral, chain: initialChain}
	i.h = hash(initialHash[:], p.key[:])
	i.h = hash(i.h[:], e)
	i.chain = kdf1(i.chain, e)

	dst = binary.LittleEndian.AppendUint32(dst, typeInitiation)
	dst = binary.LittleEndian.AppendUint32(dst, index)
	dst = append(dst, e...)

	es, err := h.dh(ephemeral, p.key)
	if err != nil {
		return dst, nil, err
	}
	var key digest
	i.chain, key = kdf2(i.chain, es[:])
	n := len(dst)
	dst = sealOnce(dst, key, h.public[:], i.h)
	i.h = hash(i.h[:], dst[n:])

	i.chain, key = kdf2(i.chain, p.shared[:])
	stamp := h.nextStamp().bytes()
	n = len(dst)
	dst = sealOnce(dst, key, stamp[:], i.h)
	i.h = hash(i.h[:], dst[n:])
	return dst, i, nil
}

// openStatic opens the initiator's static key. Anybody who knows our public key
// can have made it.
func (h *host) openStatic(b []byte) (r request, err error) {
	r.index = senderIndex(b)
	r.ephemeral = PublicKey(b[8:40])
	r.h = hash(initialHash[:], h.public[:])
	r.h = hash(r.h[:], r.ephemeral[:])
	r.chain = kdf1(initialChain, r.ephemeral[:])

	es, err := x25519(h.private, r.ephemeral)
	r.dhs++
	if err != nil {
		return r, err
	}
	var key digest
	r.chain, key = kdf2(r.chain, es[:])
	if _, err := openOnce(r.static[:0], key, b[40:88], r.h); err != nil {
		return r, err
	}
	r.h = hash(r.h[:], b[40:88])
	return r, nil
}

// openStamp opens the timestamp, which proves that the initiator has the static
// key. shared is X25519 of the two static keys.
func (r *request) openStamp(b []byte, shared digest) error {
	var key digest
	r.chain, key = kdf2(r.chain, shared[:])
	var plain [stampSize]byte
	if _, err := openOnce(plain[:0], key, b[88:116], r.h); err != nil {
		return err
	}
	r.h = hash(r.h[:], b[88:116])
	r.stamp = parseStamp(plain[:])
	return nil
}

// prepare does the X25519 of message 2 with an ephemeral key that was drawn for
// it, and clears that.
func (r *request) prepare(key *PrivateKey) error {
	r.dhs += 3
	ephemeral := key.ecdh()
	clear(key[:])
	r.own = PublicKey(ephemeral.PublicKey().Bytes())
	ee, err := x25519(ephemeral, r.ephemeral)
	if err != nil {
		return err
	}
	se, err := x25519(ephemeral, r.static)
	if err != nil {
		return err
	}
	r.chain, r.key, r.h = answerKeys(r.chain, r.h, r.own[:], ee, se)
	return nil
}

// appendResponse appends message 2 without its macs, and returns the session.
// The request must have been prepared.
func (r *request) appendResponse(dst []byte, index uint32, addr [sockaddrSize]byte) ([]byte, *Keypair) {
	dst = binary.LittleEndian.AppendUint32(dst, typeResponse)
	dst = binary.LittleEndian.AppendUint32(dst, index)
	dst = binary.LittleEndian.AppendUint32(dst, r.index)
	dst = append(dst, r.own[:]...)
	dst = sealOnce(dst, r.key, addr[:], r.h)
	fromInitiator, fromResponder := kdf2(r.chain, nil)
	return dst, &Keypair{
		send:   newAEAD(fromResponder),
		recv:   newAEAD(fromInitiator),
		local:  index,
		remote: r.index,
	}
}

// openResponse opens message 2, an answer to i, and returns the session and the
// address at which the responder saw us.
func (h *host) openResponse(b []byte, i *initiation) (k *Keypair, addr [sockaddrSize]byte, err error) {
	e := PublicKey(b[12:44])
	ee, err := h.dh(i.ephemeral, e)
	if err != nil {
		return nil, addr, err
	}
	se, err := h.dh(h.private, e)
	if err != nil {
		return nil, addr, err
	}
	chain, key, sum := answerKeys(i.chain, i.h, e[:], ee, se)
	if _, err := openOnce(addr[:0], key, b[44:80], sum); err != nil {
		return nil, addr, err
	}
	fromInitiator, fromResponder := kdf2(chain, nil)
	return &Keypair{
		send:      newAEAD(fromInitiator),
		recv:      newAEAD(fromResponder),
		local:     i.index,
		remote:    senderIndex(b),
		initiator: true,
	}, addr, nil
}

// answerKeys is the part of message 2 that both sides compute alike.
func answerKeys(chain, h digest, e []byte, ee, se digest) (outChain, key, sum digest) {
	h = hash(h[:], e)
	chain = kdf1(chain, e)
	chain = kdf1(chain, ee[:])
	chain = kdf1(chain, se[:])
	chain, tau, key := kdf3(chain, noPSK[:])
	return chain, key, hash(h[:], tau[:])
}
