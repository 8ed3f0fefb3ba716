// Package snaptun is the SNAPtun protocol as a state machine: the WireGuard
// variant that carries SCION packets between an end host and a SNAP.
//
// A [Session] talks with one peer, a [Responder] with many. Both are the same
// protocol: either end may start a handshake. Neither owns a socket, a
// goroutine, a lock or a clock. The caller feeds them datagrams and the time,
// and sends what NextTransmit returns:
//
//	payload, err := s.HandleDatagram(datagram, now)
//	for b := s.NextTransmit(); b != nil; b = s.NextTransmit() {
//		send(b)
//	}
//	timer.Reset(s.NextTimeout().Sub(now)) // then s.HandleTimeout(now)
//
// Their methods need exclusive access. Only [Keypair.Seal] and [Keypair.Open]
// may run concurrently, so that big batches are encrypted outside the lock.
//
// What differs from WireGuard: the response has 112 bytes and carries the
// address at which the responder saw the initiator, payloads are not padded,
// keepalives are answered, and the responder's tunnels belong to an address.
package snaptun
