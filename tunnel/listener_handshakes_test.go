package tunnel

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/snapproxy/snapproxy/tunnel/snaptun"
)

// A tray is a carrier that keeps what it is to send.
type tray struct{ messages [][]byte }

func (*tray) Run(context.Context, func([]addr, [][]byte) error) error { return nil }

func (c *tray) WritePackets(_ []addr, packets [][]byte) (int, error) {
	for _, p := range packets {
		c.messages = append(c.messages, slices.Clone(p))
	}
	return len(packets), nil
}

func (c *tray) take() [][]byte {
	m := c.messages
	c.messages = nil
	return m
}

// Data of a tunnel passes while initiations wait for their turn, of which there
// may be so many that the rest is dropped and counted.
func TestDataPassesWaitingHandshakes(t *testing.T) {
	var keys [2]snaptun.PrivateKey
	for i := range keys {
		var err error
		if keys[i], err = snaptun.NewPrivateKey(); err != nil {
			t.Fatal(err)
		}
	}
	carrier := new(tray)
	l, err := NewListener(ListenerConfig[addr]{
		Config:         Config[addr]{Carrier: carrier, PrivateKey: keys[0]},
		Authorize:      func(snaptun.PublicKey, time.Time) bool { return true },
		HandshakeLimit: 2 * maxHandshakes,
	})
	if err != nil {
		t.Fatal(err)
	}
	got := 0
	receive := func(b []byte) {
		t.Helper()
		if err := l.receive([]addr{clientAddr}, [][]byte{b}, func(_ []*snaptun.Peer[addr], packets [][]byte) error {
			got += len(packets)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	session, err := snaptun.NewSession(snaptun.SessionConfig{PrivateKey: keys[1], PeerKey: keys[0].PublicKey()}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := session.Initiate(time.Now()); err != nil {
		t.Fatal(err)
	}
	initiation := slices.Clone(session.NextTransmit())
	receive(slices.Clone(initiation))
	if m := carrier.take(); len(m) != 0 {
		t.Fatal("the initiation is answered by who receives")
	}
	l.shake(<-l.handshakes)
	answer := carrier.take()
	if len(answer) != 1 {
		t.Fatalf("%d messages answer an initiation", len(answer))
	}
	if _, err := session.HandleDatagram(answer[0], time.Now()); err != nil {
		t.Fatal(err)
	}

	const over = 3
	for range maxHandshakes + over {
		receive(slices.Clone(initiation))
	}
	if n := len(l.handshakes); n != maxHandshakes {
		t.Errorf("%d initiations wait, want %d", n, maxHandshakes)
	}
	if n := l.Counters()["dropped_handshakes"]; n != over {
		t.Errorf("%d initiations were dropped, want %d", n, over)
	}
	data, err := session.Seal(nil, []byte("data"), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	receive(data)
	if got != 1 {
		t.Error("data waits for handshakes")
	}
	l.shake(<-l.handshakes)
	if n := l.Counters()["dropped_replay"]; n != 1 || len(carrier.take()) != 0 {
		t.Errorf("%d replays were counted, want 1", n)
	}
}
