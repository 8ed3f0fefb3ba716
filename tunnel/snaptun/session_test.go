package snaptun

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestNewSessionErrors(t *testing.T) {
	low := PublicKey{1} // a point of order 4 or less
	for _, key := range []PublicKey{{}, low} {
		if _, err := NewSession(SessionConfig{PeerKey: key}, start); err == nil {
			t.Errorf("peer key %v accepted", key)
		}
	}
	if _, err := NewSession(SessionConfig{PeerKey: testKey(1).PublicKey(), Rand: strings.NewReader("")}, start); err == nil {
		t.Error("no error without randomness")
	}
}

func TestQueue(t *testing.T) {
	a, b := newPair(t)
	for n := range maxQueued + 2 {
		out, err := a.Seal([]byte("kept"), fmt.Append(nil, "payload ", n), start)
		if string(out) != "kept" {
			t.Fatalf("Seal without a session returned %q", out)
		}
		if want := map[bool]error{true: ErrQueueFull}[n >= maxQueued]; !errors.Is(err, want) {
			t.Fatalf("payload %d: %v, want %v", n, err, want)
		}
	}
	initiations := taken(a)
	if types(initiations) != "1" {
		t.Fatalf("sent %q", types(initiations))
	}
	deliver(t, b, initiations, start)
	deliver(t, a, taken(b), start)
	out := taken(a)
	if got := types(out); got != "k"+strings.Repeat("4", maxQueued) {
		t.Fatalf("sent %q after the response", got)
	}
	for n, payload := range deliver(t, b, out, start) {
		if string(payload) != fmt.Sprint("payload ", n) {
			t.Fatalf("payload %d is %q", n, payload)
		}
	}
	if a.peer.queue.bytes != 0 || a.peer.queue.payloads != nil {
		t.Error("the queue is not empty")
	}
}

func TestQueueOfBigPayloads(t *testing.T) {
	a, _ := newPair(t)
	big := make([]byte, 60_000)
	n := 0
	for ; n < maxQueued; n++ {
		if _, err := a.Seal(nil, big, start); err != nil {
			break
		}
	}
	if n != maxQueuedBytes/len(big) {
		t.Errorf("queued %d payloads of %d bytes", n, len(big))
	}
}

// A responder queues until the first data message, and sends an initiation of
// its own, so as not to depend on that.
func TestResponderSendsOnlyAfterFirstData(t *testing.T) {
	a, b := newPair(t)
	a.Initiate(start)
	deliver(t, b, taken(a), start)
	response := taken(b)
	if b.Up(start) {
		t.Fatal("the responder may send before it has received")
	}
	if out, err := b.Seal(nil, []byte("early"), start); err != nil || out != nil {
		t.Fatalf("Seal: %d bytes, %v", len(out), err)
	}
	if out := taken(b); types(out) != "1" {
		t.Fatalf("sent %q", types(out))
	}
	deliver(t, a, response, start)
	deliver(t, b, taken(a), start)
	out := taken(b)
	if types(out) != "4" {
		t.Fatalf("after the first data message: sent %q", types(out))
	}
	if got := deliver(t, a, out, start); len(got) != 1 || string(got[0]) != "early" {
		t.Errorf("got %q", got)
	}
}

func TestSimultaneousHandshakes(t *testing.T) {
	a, b := newPair(t)
	a.Initiate(start)
	b.Initiate(start)
	fromA, fromB := taken(a), taken(b)
	deliver(t, b, fromA, start)
	deliver(t, a, fromB, start)
	exchange(t, a, b, start)
	for name, s := range map[string]*Session{"a": a, "b": b} {
		evs := takeEvents(s)
		if !s.Up(start) || len(evs) == 0 || s.peer.pending != nil {
			t.Errorf("%s: up %v, events %v", name, s.Up(start), evs)
		}
	}
	deliver(t, b, [][]byte{seal(t, a, "x", start)}, start)
	deliver(t, a, [][]byte{seal(t, b, "y", start)}, start)
}

// The response to the last initiation but one is accepted, an older one is not.
func TestLateResponses(t *testing.T) {
	for _, tt := range []struct {
		answered int // of three initiations
		want     error
	}{{0, ErrUnknownIndex}, {1, nil}, {2, nil}} {
		t.Run(fmt.Sprintf("initiation %d", tt.answered), func(t *testing.T) {
			a, b := newPair(t)
			var initiations [][]byte
			for range 3 {
				a.Initiate(start)
				initiations = append(initiations, taken(a)...)
			}
			deliver(t, b, initiations[tt.answered:tt.answered+1], start)
			response := taken(b)[0]
			if _, err := a.HandleDatagram(bytes.Clone(response), start); !errors.Is(err, tt.want) {
				t.Fatalf("response: %v, want %v", err, tt.want)
			}
			if a.Up(start) != (tt.want == nil) {
				t.Error("session?")
			}
			if _, err := a.HandleDatagram(bytes.Clone(response), start); !errors.Is(err, ErrUnknownIndex) {
				t.Errorf("the response again: %v", err)
			}
		})
	}
}

func TestDamagedResponseLeavesHandshake(t *testing.T) {
	a, b := newPair(t)
	a.Initiate(start)
	deliver(t, b, taken(a), start)
	good := taken(b)[0]
	for _, at := range []int{12, 43, 44, 79} {
		bad := bytes.Clone(good)
		bad[at] ^= 1
		key := mac1Key(a.host.public)
		sum := mac(key[:], bad[:80])
		copy(bad[80:], sum[:])
		if _, err := a.HandleDatagram(bad, start); !errors.Is(err, ErrOpen) {
			t.Errorf("damage at %d: %v", at, err)
		}
	}
	deliver(t, a, [][]byte{good}, start)
	if !a.Up(start) {
		t.Error("no session")
	}
}

func TestInitiationErrors(t *testing.T) {
	a, b := newPair(t)
	stranger := newSession(t, testKey(3), testKey(2))
	stranger.Initiate(start)
	if _, err := b.HandleDatagram(taken(stranger)[0], start); !errors.Is(err, ErrWrongKey) {
		t.Errorf("stranger: %v", err)
	}
	a.Initiate(start)
	first := taken(a)[0]
	a.Initiate(start.Add(time.Second))
	second := taken(a)[0]
	deliver(t, b, [][]byte{second}, start)
	if _, err := b.HandleDatagram(bytes.Clone(second), start); !errors.Is(err, ErrReplay) {
		t.Errorf("replay: %v", err)
	}
	if _, err := b.HandleDatagram(bytes.Clone(first), start); !errors.Is(err, ErrStaleInitiation) {
		t.Errorf("older: %v", err)
	}
	for at, want := range map[int]error{8: ErrOpen, 40: ErrOpen, 88: ErrOpen} {
		bad := bytes.Clone(second)
		bad[at] ^= 1
		key := mac1Key(b.host.public)
		sum := mac(key[:], bad[:116])
		copy(bad[116:], sum[:])
		if _, err := b.HandleDatagram(bad, start); !errors.Is(err, want) {
			t.Errorf("damage at %d: %v", at, err)
		}
	}
}

// An ephemeral key of low order is refused before it can make a shared secret
// of zeros.
func TestLowOrderEphemeral(t *testing.T) {
	a, b := newPair(t)
	a.Initiate(start)
	m := taken(a)[0]
	clear(m[8:40])
	key := mac1Key(b.host.public)
	sum := mac(key[:], m[:116])
	copy(m[116:], sum[:])
	if _, err := b.HandleDatagram(m, start); !errors.Is(err, ErrOpen) {
		t.Error(err)
	}
}

func TestReservedBytesAreNotChecked(t *testing.T) {
	a, b := connectedPair(t)
	m := seal(t, a, "x", start)
	m[1], m[2], m[3] = 1, 2, 3
	if got := deliver(t, b, [][]byte{m}, start); len(got) != 1 {
		t.Errorf("got %q", got)
	}
}

func TestReplayWindow(t *testing.T) {
	a, b := connectedPair(t)
	var messages [][]byte
	for n := range 9000 {
		messages = append(messages, seal(t, a, fmt.Sprint(n), start))
	}
	steps := []struct {
		n    int
		want error
	}{
		{5, nil}, {5, ErrReplay}, {3, nil}, {4, nil}, {3, ErrReplay},
		{1100, nil}, {80, nil}, {80, ErrReplay}, // the original remembers 1024
		{8999, nil}, {8999, ErrReplay}, {1100, ErrReplay}, {0, ErrReplay}, {871, nil}, {871, ErrReplay}, {8998, nil},
	}
	for _, step := range steps {
		_, err := b.HandleDatagram(bytes.Clone(messages[step.n]), start)
		if !errors.Is(err, step.want) {
			t.Errorf("message %d: %v, want %v", step.n, err, step.want)
		}
	}
}

func TestCounterLimit(t *testing.T) {
	a, b := connectedPair(t)
	a.peer.current.sent = maxCounter - 1
	deliver(t, b, [][]byte{seal(t, a, "last", start)}, start)
	if _, _, ok := a.Reserve(1, start); ok {
		t.Error("reserved beyond the last counter")
	}
	if _, err := a.Seal(nil, []byte("next"), start); err != nil {
		t.Fatal(err)
	}
	if out := taken(a); types(out) != "1" {
		t.Errorf("sent %q instead of a new handshake", types(out))
	}
	m := a.peer.current.Seal(nil, maxCounter, []byte("beyond"))
	if _, err := b.HandleDatagram(m, start); !errors.Is(err, ErrCounterExhausted) {
		t.Errorf("counter beyond the last: %v", err)
	}
}

// Sessions replace each other in a ring of eight; the current one stays in it
// while others come that are never confirmed.
func TestRing(t *testing.T) {
	a, b := connectedPair(t)
	for range 3 * sessionSlots {
		a.host.gate.count, b.host.gate.count = 0, 0
		a.Initiate(start)
		deliver(t, b, taken(a), start)
		taken(b) // the response is lost
	}
	deliver(t, a, [][]byte{seal(t, b, "still there", start)}, start)
	deliver(t, b, [][]byte{seal(t, a, "here too", start)}, start)

	var late [][]byte
	for range 300 { // the counter of the index wraps
		a.host.gate.count, b.host.gate.count = 0, 0
		late = append(late, seal(t, a, "late", start))
		a.Initiate(start)
		exchange(t, a, b, start)
	}
	for _, age := range []int{1, 2, 7} {
		if _, err := b.HandleDatagram(late[len(late)-age], start); err != nil {
			t.Errorf("data of %d sessions ago: %v", age, err)
		}
	}
	if _, err := b.HandleDatagram(late[len(late)-9], start); !errors.Is(err, ErrUnknownIndex) {
		t.Errorf("data of 9 sessions ago: %v", err)
	}
	newest := b.peer.current
	for _, k := range b.peer.ring {
		if k != nil && k.established > newest.established {
			t.Error("late data moved the sender back")
		}
	}
}

func TestAssignedAddress(t *testing.T) {
	tests := []struct{ sealed, want netip.AddrPort }{
		{netip.MustParseAddrPort("192.0.2.1:1234"), netip.MustParseAddrPort("192.0.2.1:1234")},
		{netip.MustParseAddrPort("[2001:db8::1]:1234"), netip.MustParseAddrPort("[2001:db8::1]:1234")},
		{netip.MustParseAddrPort("[::ffff:192.0.2.1]:1234"), netip.MustParseAddrPort("192.0.2.1:1234")},
		{netip.MustParseAddrPort("[fe80::1%eth0]:1234"), netip.MustParseAddrPort("[fe80::1]:1234")},
		{netip.AddrPort{}, netip.AddrPort{}},
	}
	for _, tt := range tests {
		a := newSession(t, testKey(1), testKey(2))
		b := newSession(t, testKey(2), testKey(1), func(c *SessionConfig) { c.SealedAddr = tt.sealed })
		a.Initiate(start)
		exchange(t, a, b, start)
		if evs := takeEvents(a); len(evs) != 1 || evs[0] != (Established{Assigned: tt.want, Initiator: true}) {
			t.Errorf("sealed %v: events %v", tt.sealed, evs)
		}
	}
}

func TestParseSockaddr(t *testing.T) {
	tests := []struct {
		name string
		b    [sockaddrSize]byte
		want netip.AddrPort
	}{
		{"IPv4", [20]byte{0: 4, 2: 0xd4, 3: 0x31, 16: 192, 18: 2, 19: 17}, netip.MustParseAddrPort("192.0.2.17:54321")},
		{"IPv4, the ignored bytes set", [20]byte{0: 4, 3: 1, 4: 9, 15: 9, 16: 1}, netip.MustParseAddrPort("1.0.0.0:1")},
		{"IPv6", [20]byte{0: 6, 3: 1, 4: 0x20, 5: 1, 19: 1}, netip.MustParseAddrPort("[2001::1]:1")},
		{"reserved byte", [20]byte{0: 4, 1: 1, 3: 1, 16: 1}, netip.AddrPort{}},
		{"version 0", [20]byte{3: 1, 16: 1}, netip.AddrPort{}},
		{"version 5", [20]byte{0: 5, 3: 1, 16: 1}, netip.AddrPort{}},
		{"none told", [20]byte{0: 4}, netip.AddrPort{}},
	}
	for _, tt := range tests {
		if got := parseSockaddr(tt.b); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestGoodbye(t *testing.T) {
	a, b := connectedPair(t)
	if bye := newSession(t, testKey(1), testKey(2)).Goodbye([]byte("x"), ReasonLeave, start); string(bye) != "x" {
		t.Errorf("goodbye without a session: %q", bye)
	}
	bye := a.Goodbye(nil, ReasonShutdown, start)
	if _, err := b.HandleDatagram(bytes.Clone(bye), start); !errors.Is(err, ErrGoodbye) {
		t.Fatal(err)
	}
	if evs := takeEvents(b); len(evs) != 1 || evs[0] != (PeerClosed{ReasonShutdown}) {
		t.Errorf("events %v", evs)
	}
	if b.Up(start) || !b.NextTimeout().IsZero() || taken(b) != nil {
		t.Error("the session goes on after a goodbye")
	}
	if _, err := b.HandleDatagram(bytes.Clone(bye), start); !errors.Is(err, ErrUnknownIndex) {
		t.Errorf("goodbye again: %v", err)
	}
	// Data makes it start again.
	if _, err := b.Seal(nil, []byte("x"), start); err != nil || types(taken(b)) != "1" {
		t.Error("no handshake for data after a goodbye")
	}
}

// A goodbye of the session before says nothing about the one that replaced it.
func TestLateGoodbye(t *testing.T) {
	a, b := connectedPair(t)
	bye := a.Goodbye(nil, ReasonShutdown, start)
	restarted := newSession(t, testKey(1), testKey(2))
	later := start.Add(time.Second)
	restarted.Initiate(later)
	exchange(t, restarted, b, later)
	takeEvents(b)
	if _, err := b.HandleDatagram(bye, later); !errors.Is(err, ErrGoodbye) {
		t.Fatal(err)
	}
	if !b.Up(later) || len(takeEvents(b)) != 0 {
		t.Error("a late goodbye ended the new session")
	}
}

func TestReservedPayloads(t *testing.T) {
	a, b := connectedPair(t)
	bye := goodbye(ReasonAbuse)
	for _, payload := range [][]byte{nil, {}, bye[:]} {
		if _, err := a.Seal(nil, payload, start); !errors.Is(err, ErrReservedPayload) {
			t.Errorf("%x: %v", payload, err)
		}
	}
	for _, payload := range [][]byte{{0}, {4}, bye[:4], append(bye[:], 0), []byte("\xffbyE1")} {
		m, err := a.Seal(nil, payload, start)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := b.HandleDatagram(m, start); err != nil || !bytes.Equal(got, payload) {
			t.Errorf("%x arrives as %x, %v", payload, got, err)
		}
	}
}

func TestBatchPrimitives(t *testing.T) {
	a, b := connectedPair(t)
	k, counter, ok := a.Reserve(3, start)
	if !ok {
		t.Fatal("no counters")
	}
	var messages [][]byte
	for i := range uint64(3) {
		messages = append(messages, k.Seal(nil, counter+i, fmt.Append(nil, i)))
	}
	for _, i := range []int{2, 0, 1} {
		m := messages[i]
		header := bytes.Clone(m[:headerSize])
		k, err := b.Keypair(m)
		if err != nil {
			t.Fatal(err)
		}
		payload, err := k.Open(m)
		if err != nil || string(payload) != fmt.Sprint(i) {
			t.Fatalf("payload %q, %v", payload, err)
		}
		if !bytes.Equal(m[:headerSize], header) {
			t.Error("Open changed the header")
		}
		if err := b.Accept(k, m, len(payload), start); err != nil {
			t.Error(err)
		}
		if err := b.Accept(k, m, len(payload), start); !errors.Is(err, ErrReplay) {
			t.Errorf("accepted twice: %v", err)
		}
	}
	a.Initiate(start)
	if _, err := b.Keypair(taken(a)[0]); !errors.Is(err, ErrNotData) {
		t.Errorf("Keypair of an initiation: %v", err)
	}
	if _, err := b.Keypair([]byte{4}); !errors.Is(err, ErrNotSNAPtun) {
		t.Errorf("Keypair of rubbish: %v", err)
	}
	if _, _, ok := newSession(t, testKey(1), testKey(2)).Reserve(1, start); ok {
		t.Error("counters without a session")
	}
	// A session that is gone between Keypair and Accept.
	m := seal(t, a, "x", start)
	k, _ = b.Keypair(m)
	payload, _ := k.Open(m)
	b.peer.forget()
	if err := b.Accept(k, m, len(payload), start); !errors.Is(err, ErrUnknownIndex) {
		t.Errorf("session gone: %v", err)
	}
}

// Batches are sealed and opened by several goroutines at once.
func TestKeypairIsConcurrent(t *testing.T) {
	a, b := connectedPair(t)
	const each = 200
	k, counter, _ := a.Reserve(4*each, start)
	other := b.peer.current
	var wg sync.WaitGroup
	for worker := range uint64(4) {
		wg.Go(func() {
			for n := range uint64(each) {
				c := counter + worker*each + n
				payload, err := other.Open(k.Seal(nil, c, fmt.Append(nil, c)))
				if err != nil || string(payload) != fmt.Sprint(c) {
					t.Errorf("message %d: %q, %v", c, payload, err)
				}
			}
		})
	}
	wg.Wait()
}

func TestSealInPlace(t *testing.T) {
	a, b := connectedPair(t)
	buf := make([]byte, 4+Overhead+5)
	copy(buf, "head")
	copy(buf[4+headerSize:], "hello")
	k, counter, _ := a.Reserve(1, start)
	out := k.Seal(buf[:4], counter, buf[4+headerSize:4+headerSize+5])
	if &out[0] != &buf[0] || string(out[:4]) != "head" {
		t.Error("not in place")
	}
	if got := deliver(t, b, [][]byte{out[4:]}, start); len(got) != 1 || string(got[0]) != "hello" {
		t.Errorf("got %q", got)
	}
}

// What NextTransmit returned stays as it is until the next call.
func TestTransmitBuffers(t *testing.T) {
	a, b := newPair(t)
	for n := range 10 {
		a.Seal(nil, fmt.Append(nil, n), start)
	}
	deliver(t, b, taken(a), start)
	deliver(t, a, taken(b), start)
	var lent, copies [][]byte
	for m := a.NextTransmit(); m != nil; m = a.NextTransmit() {
		lent = append(lent, m)
		copies = append(copies, bytes.Clone(m))
	}
	for i := range lent {
		if !bytes.Equal(lent[i], copies[i]) {
			t.Errorf("message %d changed", i)
		}
	}
}

func TestSecretsAreNotPrinted(t *testing.T) {
	k := testKey(1)
	a, _ := connectedPair(t)
	f := newField(t)
	p := f.connect(f.client(1), addr(1))
	config := SessionConfig{PrivateKey: k, PeerKey: testKey(2).PublicKey()}
	text, err := json.Marshal(config.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	out := string(text)
	for _, v := range []any{k, &k, []PrivateKey{k}, config, &config, a, f.r, p, a.peer.current} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%X", "%q", "%d", "%o", "%b"} {
			if _, stringer := v.(fmt.Stringer); !stringer && verb != "%v" && verb != "%+v" {
				continue
			}
			if verb == "%#v" || verb == "%d" || verb == "%o" || verb == "%b" {
				if _, formatter := v.(fmt.Formatter); !formatter {
					continue // walks through the unexported fields of whatever it is given
				}
			}
			out += fmt.Sprintf(verb, v) + "\n"
		}
	}
	for _, secret := range []string{
		k.Base64(), fmt.Sprintf("%x", k[:]), fmt.Sprintf("%X", k[:]), fmt.Sprint(k[:])[1:20], "64 64 64", "0x40, 0x40", "404040", "@@@",
	} {
		if strings.Contains(out, secret) {
			t.Errorf("%q is printed in\n%s", secret, out)
		}
	}
}

func TestKeys(t *testing.T) {
	k, err := NewPrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{k.Base64(), " " + k.Base64() + "\r\n"} {
		if got, err := ParsePrivateKey(s); err != nil || got != k {
			t.Errorf("ParsePrivateKey: %v", err)
		}
	}
	public := k.PublicKey()
	if got, err := ParsePublicKey(public.String() + "\n"); err != nil || got != public {
		t.Errorf("ParsePublicKey = %v, %v", got, err)
	}
	unclamped := k
	unclamped[0] |= 7
	unclamped[31] |= 0x80
	if unclamped.PublicKey() != public {
		t.Error("the key is not clamped at use")
	}
	for _, s := range []string{
		"", "x", "====", strings.Repeat("A", 43) + "=", k.Base64()[:43], k.Base64() + "AAAA",
		strings.Repeat("A", 40), k.Base64() + k.Base64(), "-" + k.Base64()[1:],
	} {
		if _, err := ParsePrivateKey(s); err == nil {
			t.Errorf("ParsePrivateKey(%q) accepted", s)
		} else if len(s) > 4 && strings.Contains(err.Error(), s) {
			t.Errorf("the error quotes the key: %v", err)
		}
		if _, err := ParsePublicKey(s); err == nil {
			t.Errorf("ParsePublicKey(%q) accepted", s)
		}
	}
	if !(PrivateKey{}).IsZero() || !(PublicKey{}).IsZero() || k.IsZero() || public.IsZero() {
		t.Error("IsZero")
	}
}

func TestNames(t *testing.T) {
	got := fmt.Sprint(ReasonShutdown, ReasonError, Reason(0), Reason(77), CauseGoodbye, Cause(-1))
	if want := "shutdown error reason 0 reason 77 goodbye none"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
