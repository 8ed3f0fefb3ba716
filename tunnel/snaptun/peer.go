package snaptun

const sessionSlots = 8

// A peer is the protocol towards one other side, in both roles.
//
//	            initiate                       response
//	no session ─────────▶ pending initiation ────────────▶ current session
//	     │                 │ 5 s: again  │ 90 s: given up        ▲
//	     │ initiation      └─────────────┘                       │ first data
//	     └───────────────▶ response sent ────────────────────────┘
//
// A new session goes through the same states beside the current one.
type peer struct {
	h      *host
	key    PublicKey
	shared digest // X25519 of the two static keys

	base    uint32 // upper 24 bits of our indices
	counter uint8  // lower 8 bits of the last one

	ring              [sessionSlots]*Keypair // by our index
	current           *Keypair               // used for sending
	pending, previous *initiation
	newest            stamp // of the initiations accepted
	queue             queue

	// For cookies: the last handshake message sent, and what it earned.
	sentIndex uint32
	sentMAC1  [macSize]byte
	awaitsMAC bool
	cookie    [macSize]byte
	cookieAt  instant

	clocks
}

// nextIndex returns an index for a session to be, never one that would push the
// current session out of the ring.
func (p *peer) nextIndex() uint32 {
	p.counter++
	if p.current != nil && p.current.local%sessionSlots == uint32(p.counter)%sessionSlots {
		p.counter++
	}
	return p.base<<8 | uint32(p.counter)
}

// initiate puts an initiation into the outbox. A fresh attempt starts the 90
// seconds anew.
func (p *peer) initiate(now instant, fresh bool) error {
	b, i, err := p.h.appendInitiation(p.h.out.space(), p, p.nextIndex())
	if err != nil {
		return err
	}
	i.sent = now
	if p.pending != nil {
		p.previous = p.pending
	}
	p.pending = i
	if fresh {
		p.attempt = now
	}
	p.h.out.put(p.appendMACs(b, i.index, now))
	p.handshakeSent(now)
	return nil
}

// propose is initiate if the host's drive allows it. Else a fresh attempt is held
// until it has its turn, and another message of the same is left out.
func (p *peer) propose(now instant, fresh bool) error {
	turn := p.held
	p.held = 0
	switch {
	case turn != 0 && now.since(turn) < p.h.timers.RekeyTimeout: // not one of long ago
		p.h.drive.started++
	case p.h.drive.start(now):
	case fresh:
		p.held = p.h.drive.turn()
		p.dirty = true
		return nil
	default:
		return nil
	}
	return p.initiate(now, fresh)
}

// appendMACs completes message 1 or 2.
func (p *peer) appendMACs(b []byte, index uint32, now instant) []byte {
	key := mac1Key(p.key)
	sum := mac(key[:], b)
	b = append(b, sum[:]...)
	p.sentIndex, p.sentMAC1, p.awaitsMAC = index, sum, true
	if p.cookieAt == 0 || now.since(p.cookieAt) >= p.h.timers.CookieLifetime {
		p.cookieAt = 0
		return append(b, make([]byte, macSize)...)
	}
	sum = mac(p.cookie[:], b)
	return append(b, sum[:]...)
}

// respond answers a verified initiation, for which the answer was prepared. The
// session it makes is used for sending only once the initiator has sent data in
// it.
func (p *peer) respond(r *request, addr [sockaddrSize]byte, now instant) {
	index := p.nextIndex()
	b, k := r.appendResponse(p.h.out.space(), index, addr)
	p.h.out.put(p.appendMACs(b, index, now))
	p.newest = r.stamp
	p.store(k, now)
	// Both sides may have started at once; then both handshakes complete.
	if p.pending != nil {
		p.previous, p.pending = p.pending, nil
		p.attempt = 0
	}
	p.heard(now)
	p.handshakeSent(now)
}

// handleResponse completes a handshake of ours and tells the initiator that it
// may send.
func (p *peer) handleResponse(b []byte, now instant) (addr [sockaddrSize]byte, err error) {
	i := p.pending
	if i == nil || i.index != receiverIndex(b) {
		i = p.previous
	}
	if i == nil || i.index != receiverIndex(b) {
		return addr, ErrUnknownIndex
	}
	k, addr, err := p.h.openResponse(b, i)
	if err != nil {
		return addr, err
	}
	p.abandon()
	p.store(k, now)
	p.use(k)
	p.heard(now)
	k.sent = 1
	p.h.out.put(k.Seal(p.h.out.space(), 0, nil)) // moves no timer
	p.drain(now)
	return addr, nil
}

// handleCookie keeps the cookie for the next handshake message. A cookie reply
// can be forged by whoever saw our message, so it moves no timer.
func (p *peer) handleCookie(b []byte, now instant) error {
	if !p.awaitsMAC || receiverIndex(b) != p.sentIndex {
		return ErrCookie
	}
	c, err := openCookie(b, newCookieAEAD(p.key), p.sentMAC1[:])
	if err != nil {
		return err
	}
	p.awaitsMAC = false
	p.cookie, p.cookieAt = c, now
	return nil
}

// keypair returns the session a data message belongs to.
func (p *peer) keypair(b []byte) (*Keypair, error) {
	index := receiverIndex(b)
	k := p.ring[index%sessionSlots]
	if k == nil || k.local != index {
		return nil, ErrUnknownIndex
	}
	if err := k.check(dataCounter(b)); err != nil {
		return nil, err
	}
	return k, nil
}

// accept takes a data message into account that k has opened. It reports whether
// k has become the session for sending.
func (p *peer) accept(k *Keypair, b []byte, now instant) (switched bool, err error) {
	if p.ring[k.local%sessionSlots] != k {
		return false, ErrUnknownIndex
	}
	if p.tooOld(k, now) {
		return false, ErrNoSession
	}
	if !k.accept(dataCounter(b)) {
		return false, ErrReplay
	}
	if k != p.current && (p.usable(now) == nil || k.established >= p.current.established) {
		p.use(k)
		switched = true
	}
	p.dataReceived(now)
	return switched, nil
}

// seal appends a data message, or queues the payload and starts a handshake.
func (p *peer) seal(dst, payload []byte, now instant) ([]byte, error) {
	if k, counter, ok := p.reserve(1, now, true); ok {
		return k.Seal(dst, counter, payload), nil
	}
	err := p.keep(payload)
	if p.pending == nil && now >= p.held {
		if err := p.propose(now, true); err != nil {
			return dst, err
		}
	}
	return dst, err
}

// keep queues a payload until there is a session.
func (p *peer) keep(payload []byte) error {
	if p.h.queueLimit != 0 && p.h.queued+len(payload) > p.h.queueLimit {
		return ErrQueueFull
	}
	if err := p.queue.push(payload); err != nil {
		return err
	}
	p.h.queued += len(payload)
	return nil
}

// reserve takes n counters of the current session.
func (p *peer) reserve(n int, now instant, payload bool) (k *Keypair, counter uint64, ok bool) {
	k = p.usable(now)
	if k == nil || uint64(n) > maxCounter-k.sent {
		return nil, 0, false
	}
	counter = k.sent
	k.sent += uint64(n)
	p.dataSent(now, payload)
	return k, counter, true
}

// sendKeepalive puts an empty data message into the outbox.
func (p *peer) sendKeepalive(now instant) {
	if k, counter, ok := p.reserve(1, now, false); ok {
		p.h.out.put(k.Seal(p.h.out.space(), counter, nil))
	}
}

// goodbye appends a goodbye. It expects no answer, so it moves no timer.
func (p *peer) goodbye(dst []byte, r Reason, now instant) (out []byte, ok bool) {
	k := p.usable(now)
	if k == nil {
		return dst, false
	}
	bye := goodbye(r)
	k.sent++
	return k.Seal(dst, k.sent-1, bye[:]), true
}

// drain puts what is queued into the outbox.
func (p *peer) drain(now instant) {
	for payload := p.queue.first(); payload != nil; payload = p.queue.first() {
		k, counter, ok := p.reserve(1, now, true)
		if !ok {
			return
		}
		p.h.out.put(k.Seal(p.h.out.space(), counter, payload))
		p.h.queued -= len(payload)
		p.queue.pop()
	}
}

// store puts a new session into the ring.
func (p *peer) store(k *Keypair, now instant) {
	k.established = now
	p.ring[k.local%sessionSlots] = k
	p.dirty = true
}

// use makes a session the one for sending.
func (p *peer) use(k *Keypair) {
	p.current = k
	p.established = k.established
	p.held = 0
	p.sentIn, p.heardIn = false, false
	p.dirty = true
}

func (p *peer) tooOld(k *Keypair, now instant) bool {
	return now.since(k.established) >= p.h.timers.RejectAfter
}

// usable returns the session for sending, or nil.
func (p *peer) usable(now instant) *Keypair {
	if p.current == nil || p.tooOld(p.current, now) || p.current.sent == maxCounter {
		return nil
	}
	return p.current
}

// forget drops all sessions, handshakes and queued payloads.
func (p *peer) forget() {
	p.ring = [sessionSlots]*Keypair{}
	p.current = nil
	p.abandon()
	p.h.queued -= p.queue.bytes
	p.queue.clear()
	p.clocks = clocks{dirty: true}
}

// abandon drops the handshakes of ours that are under way.
func (p *peer) abandon() {
	p.pending, p.previous = nil, nil
	p.attempt = 0
	p.dirty = true
}
