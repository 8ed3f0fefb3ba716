package snaptun

import (
	"bytes"
	"encoding/binary"
	"testing"
)

func TestSent(t *testing.T) {
	a, b := newPair(t)
	a.Initiate(start)
	initiation := taken(a)[0]
	if !a.Sent(initiation) || !a.Sent(initiation[:headerSize]) || a.Sent(initiation[:headerSize-1]) {
		t.Error("the pending initiation is not what was sent")
	}
	deliver(t, b, [][]byte{initiation}, start)
	response := taken(b)[0]
	if !b.Sent(response) || a.Sent(response) {
		t.Error("the response is not the responder's")
	}
	deliver(t, a, [][]byte{response}, start)
	exchange(t, a, b, start)

	message, err := a.Seal(nil, []byte("data"), start)
	if err != nil {
		t.Fatal(err)
	}
	k := a.peer.current
	forged := func(index uint32, counter uint64) []byte {
		m := bytes.Clone(message[:headerSize])
		binary.LittleEndian.PutUint32(m[4:], index)
		binary.LittleEndian.PutUint64(m[8:], counter)
		return m
	}
	k.sent = 3 * recentMessages
	for _, tt := range []struct {
		name string
		b    []byte
		want bool
	}{
		{"last", forged(k.remote, k.sent-1), true},
		{"oldest", forged(k.remote, k.sent-recentMessages), true},
		{"too old", forged(k.remote, k.sent-recentMessages-1), false},
		{"not sent yet", forged(k.remote, k.sent), false},
		{"far ahead", forged(k.remote, 1<<63), false},
		{"other session", forged(k.remote+1, k.sent-1), false},
		{"empty", nil, false},
		{"cookie reply", bytes.Repeat([]byte{typeCookie}, cookieSize), false},
	} {
		if got := a.Sent(tt.b); got != tt.want {
			t.Errorf("%s: Sent = %t, want %t", tt.name, got, tt.want)
		}
	}
}
