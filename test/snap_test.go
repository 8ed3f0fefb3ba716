//go:build unix

package test

import (
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/snapproxy/snapproxy/tunnel/snaptun"
)

// A SNAP is silent to keys it does not know, until it knows them.
func TestSNAPAdmitsByItsFile(t *testing.T) {
	t.Parallel()
	var s *shim
	tp := build(t, layout{noClient: true, via: func(snap string) string { s = newShim(t, snap); return s.addr() }})
	tp.authorize(tp.exitKey)
	tp.reload()
	c := tp.launchClient()
	c.says(tp.clientKey.String()) // the key to add, and where
	if log := c.stderr.String(); !strings.Contains(log, "SNAP") {
		t.Errorf("the client does not say that it is the SNAP that is silent:\n%s", log)
	}
	if n := s.received(0); n != 0 || s.sent(msgInitiation) == 0 {
		t.Errorf("a SNAP sends %d datagrams to a key it does not know, for %d initiations", n, s.sent(msgInitiation))
	}
	tp.authorize(tp.exitKey, tp.clientKey)
	c.awaitReady()
	if n := s.received(msgResponse); n == 0 {
		t.Error("no response")
	}
}

// A key that is removed stops a transfer, and one that comes back lets it go on.
func TestSNAPForgetsAKeyForAWhile(t *testing.T) {
	t.Parallel()
	tp := build(t, layout{})
	w := connectSOCKS(t, tp.socks, echoServer(t).addr)
	w.write("before")
	w.wants("before")
	tp.authorize(tp.exitKey)
	tp.reload()
	w.write("during")
	tp.refusesUntilBack(t)
	tp.authorize(tp.exitKey, tp.clientKey)
	w.SetDeadline(time.Now().Add(patience))
	w.wants("during")
	tp.serves(t)
}

// A key that comes back soon finds its session as it was.
func TestSNAPKeepsTheSessionOfAForgottenKey(t *testing.T) {
	t.Parallel()
	var s *shim
	tp := build(t, layout{via: func(snap string) string { s = newShim(t, snap); return s.addr() }})
	w := connectSOCKS(t, tp.socks, echoServer(t).addr)
	for range 10 { // a client that has waited for two seconds initiates
		initiations, data := s.sent(msgInitiation), s.sent(msgData)
		tp.authorize(tp.exitKey)
		tp.reload()
		w.write("during")
		if !eventually(patience, func() bool { return s.sent(msgData) > data }) {
			t.Fatal("nothing is sent")
		}
		tp.authorize(tp.exitKey, tp.clientKey)
		tp.reload()
		w.wants("during")
		if s.sent(msgInitiation) == initiations {
			return
		}
	}
	t.Error("a transfer resumes only after a new handshake")
}

// A file that is swapped by a link is noticed, one with a bad line is not taken.
func TestSNAPKeepsItsKeysWhenTheFileIsBad(t *testing.T) {
	t.Parallel()
	tp := build(t, layout{})
	next := tp.file("bad")
	writeFile(t, next, tp.exitKey.String()+" exit\nno key\n")
	os.Remove(tp.authorized)
	if err := os.Symlink(next, tp.authorized); err != nil {
		t.Fatal(err)
	}
	tp.snap.says("authorized keys refused")
	tp.serves(t)
}

var attachedAt = regexp.MustCompile(`msg="tunnel to the SNAP up".* address=\S*,(\S+)`)

// Two clients on one host are two tunnels, each at the address of its socket.
func TestSNAPTellsClientsTheirAddress(t *testing.T) {
	t.Parallel()
	var s *shim
	tp := build(t, layout{noClient: true, via: func(snap string) string { s = newShim(t, snap); return s.addr() }})
	clients := []*process{tp.startClient(), tp.startClient()} // with one key
	var told []string
	for _, c := range clients {
		m := attachedAt.FindStringSubmatch(c.stderr.String())
		if m == nil {
			t.Fatalf("the client does not log its address:\n%s", &c.stderr)
		}
		told = append(told, m[1])
	}
	backs := s.backs()
	slices.Sort(told)
	slices.Sort(backs)
	if len(backs) != 2 || !slices.Equal(told, backs) {
		t.Errorf("clients are told %v, the SNAP sees them at %v", told, backs)
	}
	o := echoServer(t)
	for _, c := range clients {
		connectSOCKS(t, listenerOf(c).socks, o.addr)
	}
}

func TestTwoClientsWithOneKeyTransferAtOnce(t *testing.T) {
	t.Parallel()
	tp := build(t, layout{})
	second := listenerOf(tp.startClient())
	mirror := serveTCP(t, "127.0.0.1:0", hashThenSend)
	done := make(chan struct{})
	go func() {
		defer close(done)
		carry(t, connectSOCKS(t, tp.socks, mirror.addr), 8<<20)
	}()
	carry(t, connectSOCKS(t, second.socks, mirror.addr), 8<<20)
	<-done
}

func TestSNAPIsSilentToNoise(t *testing.T) {
	t.Parallel()
	tp := build(t, layout{noClient: true})
	key := privateKey(t, tp.file("client.key"))
	s := newStranger(t, tp.snapAddr())
	real := initiation(t, newSession(t, key, tp.snapKey))
	r := rand.New(rand.NewPCG(1, 2))
	random := func(kind byte, size int) []byte {
		b := make([]byte, size)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		if size > 0 && kind != 0 {
			b[0], b[1], b[2], b[3] = kind, 0, 0, 0
		}
		return b
	}
	for size := 4; size < 200; size++ {
		for kind := range byte(6) {
			s.send(random(kind, size))
		}
		s.flow(t, tp, size)
	}
	for n := range len(real) {
		s.send(real[:n], append(append([]byte(nil), real...), real[:n+1]...))
	}
	for i := range real[:148-16] { // each byte spoilt that MAC1 covers, and MAC1
		spoilt := slices.Clone(real)
		spoilt[i] ^= 0x40
		s.send(spoilt)
	}
	s.send(random(msgResponse, 92), random(msgData, 65000), nil)
	for _, b := range s.answers(key, tp.snapKey) {
		t.Errorf("a reply to noise: %d bytes, type %d", len(b), b[0])
	}
	tp.startClient()
}

// flow keeps a stranger from overrunning the socket of the SNAP, which would
// make a test that finds nothing.
func (s *stranger) flow(t *testing.T, tp *topology, n int) {
	t.Helper()
	if n%50 == 0 {
		if len(s.answers(privateKey(t, tp.file("client.key")), tp.snapKey)) > 0 {
			t.Error("a reply to noise")
		}
	}
}

func TestSNAPUnderAFlood(t *testing.T) {
	t.Parallel()
	tp := build(t, layout{noClient: true, snap: []string{"--handshake-limit", "100"}})
	s := newStranger(t, tp.snapAddr())
	var flood [][]byte
	for range 50 {
		flood = append(flood, strange(t, tp.snapKey))
	}
	for range 10 {
		s.send(flood...)
	}
	before := memory(t, tp.snap, "VmRSS")
	over := make(chan struct{})
	sent := make(chan int)
	go func() { // ten each 50 ms: 200 a second
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for n := 0; ; n += 10 {
			select {
			case <-over:
				sent <- n
				return
			case <-tick.C:
				for _, b := range flood[n%50 : n%50+10] {
					s.Write(b)
				}
			}
		}
	}()
	for range 3 {
		c := tp.startClient()
		connectSOCKS(t, listenerOf(c).socks, echoServer(t).addr)
	}
	close(over)
	n := <-sent
	cookies := 0
	for _, b := range s.answers(privateKey(t, tp.file("client.key")), tp.snapKey) {
		if b[0] != msgCookie || len(b) != 64 {
			t.Errorf("a reply of %d bytes, type %d", len(b), b[0])
		}
		cookies++
	}
	if cookies == 0 {
		t.Error("no cookie replies in a flood")
	}
	after := memory(t, tp.snap, "VmRSS")
	t.Logf("%d cookie replies to %d initiations, memory %d KiB and then %d KiB", cookies, n+500, before, after)
	if after > before+32<<10 {
		t.Errorf("memory grows from %d KiB to %d KiB", before, after)
	}
}

// Attempts of strangers do not make it harder for those who are known.
func TestStrangersCostNobodyACookie(t *testing.T) {
	t.Parallel()
	var between *shim
	tp := build(t, layout{noClient: true, via: func(snap string) string { between = newShim(t, snap); return between.addr() }})
	s := newStranger(t, tp.snapAddr())
	for range 150 {
		s.send(strange(t, tp.snapKey))
	}
	tp.startClient()
	if n := between.received(msgCookie); n != 0 {
		t.Errorf("%d cookie replies to a client", n)
	}
	if got := s.answers(privateKey(t, tp.file("client.key")), tp.snapKey); len(got) != 0 {
		t.Errorf("%d replies to strangers", len(got))
	}
}

// An initiation that names a client but is signed by nobody changes nothing,
// even from the very address at which that client then attaches.
func TestForgedInitiationKeepsNobodyOut(t *testing.T) {
	t.Parallel()
	tp := build(t, layout{noClient: true})
	s := newStranger(t, tp.snapAddr())
	for range 20 {
		s.send(forge(t, tp.snapKey, tp.clientKey))
	}
	if got := s.answers(privateKey(t, tp.file("client.key")), tp.snapKey); len(got) != 0 {
		t.Errorf("%d replies to forged initiations", len(got))
	}
	connectSOCKS(t, listenerOf(tp.startClient()).socks, echoServer(t).addr)
}

func TestReplayedInitiationIsNotAnswered(t *testing.T) {
	t.Parallel()
	var s *shim
	tp := build(t, layout{via: func(snap string) string { s = newShim(t, snap); return s.addr() }})
	recorded := s.recorded(s.up, msgInitiation)
	response := s.recorded(s.down, msgResponse)
	if recorded == nil || response == nil {
		t.Fatal("nothing recorded")
	}
	x := newStranger(t, tp.snapAddr())
	for range 10 {
		x.send(recorded, response, s.recorded(s.up, msgData))
	}
	other, err := snaptun.NewPrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	tp.authorize(tp.exitKey, tp.clientKey, other.PublicKey())
	tp.reload()
	if got := x.answers(other, tp.snapKey); len(got) != 0 {
		t.Errorf("%d replies to a replay, the first of type %d", len(got), got[0][0])
	}
	tp.serves(t)
}

// A tunnel that is at an address is not disturbed by others who claim it.
func TestSNAPReplaysDoNotMoveATunnel(t *testing.T) {
	t.Parallel()
	var s *shim
	tp := build(t, layout{via: func(snap string) string { s = newShim(t, snap); return s.addr() }})
	w := connectSOCKS(t, tp.socks, echoServer(t).addr)
	x := newStranger(t, tp.snapAddr())
	for range 50 {
		x.send(s.recorded(s.up, msgData), s.recorded(s.up, msgInitiation))
		w.write("still ours")
		w.wants("still ours")
	}
	x.SetReadDeadline(time.Now())
	if n, err := x.Read(make([]byte, 2000)); err == nil {
		t.Errorf("the tunnel's %d bytes go elsewhere", n)
	}
}

func privateKey(t *testing.T, name string) snaptun.PrivateKey {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	k, err := snaptun.ParsePrivateKey(string(b))
	if err != nil {
		t.Fatal(err)
	}
	return k
}
