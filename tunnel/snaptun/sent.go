package snaptun

import "encoding/binary"

// recentMessages is how far behind the newest data message one counts as
// recent: what is under way at 10 Gbit/s and a tenth of a second.
const recentMessages = 1 << 16

// Sent reports whether b begins like a message that the session has sent
// lately: a handshake message of the last two, or data whose receiver index and
// counter belong to a live key pair and one of its last 65,536 messages. It is
// for messages that somebody quotes, which may be cut off anywhere behind the
// first 16 bytes; nothing is decrypted.
func (s *Session) Sent(b []byte) bool {
	if len(b) < headerSize {
		return false
	}
	p := &s.peer
	switch b[0] {
	case typeInitiation:
		return p.pending != nil && p.pending.index == senderIndex(b) ||
			p.previous != nil && p.previous.index == senderIndex(b)
	case typeResponse:
		return p.sentIndex == senderIndex(b)
	case typeData:
		index, counter := receiverIndex(b), binary.LittleEndian.Uint64(b[8:])
		for _, k := range p.ring {
			if k != nil && k.remote == index && counter < k.sent && k.sent-counter <= recentMessages {
				return true
			}
		}
	}
	return false
}
