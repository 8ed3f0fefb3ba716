//go:build unix

package test

import (
	"bytes"
	"crypto/sha256"
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

// A stream that stands when the SNAP dies goes on when it is back; in between
// new requests are refused at once.
func TestRecoveryFromALostSNAP(t *testing.T) {
	t.Parallel()
	tp := build(t, layout{})
	o, conns := handOver(t)
	w := connectSOCKS(t, tp.socks, o.addr)
	c := next(t, conns)
	w.SetDeadline(time.Now().Add(3 * patience))
	c.SetDeadline(time.Now().Add(3 * patience))

	// The transfer is under way: some has arrived, and more than all buffers
	// hold is to come.
	const size = 32 << 20
	want := sha256.New()
	go func() {
		io.Copy(io.MultiWriter(c, want), io.LimitReader(randomBytes(1), size))
		c.CloseWrite()
	}()
	got := sha256.New()
	if _, err := io.CopyN(got, w, 1<<20); err != nil {
		t.Fatal(err)
	}
	tp.snap.kill()
	tp.refusesUntilBack(t)
	tp.restartSNAP()
	tp.serves(t)
	n, err := io.Copy(got, w)
	if err != nil || n+1<<20 != size || !bytes.Equal(got.Sum(nil), want.Sum(nil)) {
		t.Errorf("after the SNAP is back: %d bytes more, %v", n, err)
	}
}

func TestRecoveryFromALostExit(t *testing.T) {
	t.Parallel()
	tp := build(t, layout{})
	tp.serves(t)
	tp.exit.kill()
	tp.refusesUntilBack(t)
	tp.restartExit()
	tp.serves(t)

	// And again, ended in order this time.
	tp.exit.end()
	tp.refusesUntilBack(t)
	tp.restartExit()
	tp.serves(t)
}

func TestRecoveryFromAnOrderlySNAP(t *testing.T) {
	t.Parallel()
	tp := build(t, layout{})
	tp.serves(t)
	tp.snap.end()
	tp.refusesUntilBack(t)
	tp.restartSNAP()
	tp.serves(t)
}

// refusesUntilBack waits until the client has noticed, and holds that it then
// refuses at once, by each protocol, and connects to nobody itself.
func (tp *topology) refusesUntilBack(t *testing.T) {
	t.Helper()
	o := echoServer(t)
	head := "CONNECT " + o.addr + " HTTP/1.1\r\nHost: x\r\n\r\n"
	if !eventually(patience, func() bool {
		res, _ := askHTTP(t, tp.http, head)
		return res.StatusCode == http.StatusServiceUnavailable
	}) {
		t.Fatal("the client does not notice")
	}
	for _, request := range []string{head, "GET http://" + o.addr + "/ HTTP/1.1\r\nHost: x\r\n\r\n", "GET http://localhost/ HTTP/1.1\r\nHost: x\r\n\r\n"} {
		res, body := askHTTP(t, tp.http, request)
		wantsFailure(t, res, body, http.StatusServiceUnavailable, "[a-z_]+")
	}
	for _, r := range []string{request(cmdConnect, o.addr), requestByName(cmdConnect, "localhost", portNumber(t, o.addr)), request(cmdAssociate, anywhere)} {
		if got := askSOCKS(t, tp.socks, r); got != repFailure {
			t.Errorf("REP %d, want %d", got, repFailure)
		}
	}
	if n := o.accepted.Load(); n != 0 {
		t.Errorf("%d connections reach the origin without a tunnel", n)
	}
}

// serves waits until a request is granted.
func (tp *topology) serves(t *testing.T) {
	t.Helper()
	o := echoServer(t)
	if !eventually(patience, func() bool { return askSOCKS(t, tp.socks, request(cmdConnect, o.addr)) == repGranted }) {
		t.Fatal("the client does not recover")
	}
}

// Before the tunnels stand for the first time it is the same as afterwards.
func TestClientRefusesBeforeItIsReady(t *testing.T) {
	t.Parallel()
	var s *shim
	tp := build(t, layout{noClient: true, via: func(snap string) string {
		s = newShim(t, snap)
		s.dark.Store(true)
		return s.addr()
	}})
	addr := closedPort(t)
	tp.client = tp.launchClient("--socks", addr, "--http", addr)
	tp.listener = listener{socks: addr, http: addr}
	if !eventually(patience, func() bool {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
		}
		return err == nil
	}) {
		t.Fatal("no listener")
	}
	tp.refusesUntilBack(t)
	if tp.client.stdout.String() != "" {
		t.Errorf("ready without a tunnel: %s", &tp.client.stdout)
	}
	s.dark.Store(false)
	tp.client.awaitReady()
	tp.serves(t)
}

// A NAT that restarts gives the client another address; streams live on.
func TestRecoveryFromARebindingNAT(t *testing.T) {
	t.Parallel()
	var s *shim
	tp := build(t, layout{via: func(snap string) string { s = newShim(t, snap); return s.addr() }})
	w := connectSOCKS(t, tp.socks, echoServer(t).addr)
	w.write("before")
	w.wants("before")
	s.rebind()
	w.SetDeadline(time.Now().Add(patience))
	w.write("after")
	w.wants("after")
	tp.serves(t)
}

// A network that loses everything for a while, and then some of it and takes
// its time, is not the end of a stream.
func TestRecoveryFromABadNetwork(t *testing.T) {
	t.Parallel()
	var s *shim
	tp := build(t, layout{via: func(snap string) string { s = newShim(t, snap); return s.addr() }})
	mirror := serveTCP(t, "127.0.0.1:0", hashThenSend)
	s.delay.Store(int64(5 * time.Millisecond))
	s.lose.Store(100)
	carry(t, connectSOCKS(t, tp.socks, mirror.addr), 1<<20)
	w := connectSOCKS(t, tp.socks, echoServer(t).addr)
	s.dark.Store(true)
	w.write("into the dark")
	tp.refusesUntilBack(t)
	s.dark.Store(false)
	s.lose.Store(0)
	w.SetDeadline(time.Now().Add(2 * patience))
	w.wants("into the dark")
	tp.serves(t) // which is told a moment after the first packet has come
	carry(t, connectSOCKS(t, tp.socks, mirror.addr), 1<<20)
}
