//go:build interop && linux

package pocketscion

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/snapproxy/snapproxy/scion"
	"github.com/snapproxy/snapproxy/scion/endhost"
	"github.com/snapproxy/snapproxy/tunnel/control"
	"github.com/snapproxy/snapproxy/tunnel/snaptun"
)

// The tests of this file hold what the specification of the SNAP only inferred
// from the peers' code (spec/snap.md, marked [inferred]) against the peers.

// TestSNAPTruncatesBursts: with UDP_GRO and buffers of 9,216 bytes the peers'
// SNAP loses what a burst has beyond them (§5.4). So ours stay below.
func TestSNAPTruncatesBursts(t *testing.T) {
	t.Parallel()
	n := startNetwork(t, "--topology", "minimal")
	to := echoServer(t, startPeer(t, append([]string{"echo"}, n.stack(west)...)...))
	p := newProbe(t, n.api(west), n.token(), west)
	const message = 1200 // sealed; 16 bytes of header and 16 of tag
	for _, tt := range []struct{ count, most int }{{1, 1}, {7, 7}, {8, 7}, {30, 7}} {
		var burst [][]byte
		for i := range tt.count {
			burst = append(burst, p.packet(to, uint32(i), message-32))
		}
		p.send(burst...)
		echoed := len(p.receive(500 * time.Millisecond))
		t.Logf("%d messages of %d bytes in one burst: %d echoed", tt.count, message, echoed)
		if echoed != tt.most {
			t.Errorf("%d of a burst of %d echoed, want %d", echoed, tt.count, tt.most)
		}
	}
}

// TestSNAPTakesPacketsUpTo9184Bytes: the buffers of 9,216 bytes hold the tunnel's
// 32 as well. What is larger is lost on the way in, and the SNAP goes on (§5.4).
func TestSNAPTakesPacketsUpTo9184Bytes(t *testing.T) {
	t.Parallel()
	n := startNetwork(t, "--topology", "minimal")
	to := echoServer(t, startPeer(t, append([]string{"echo"}, n.stack(west)...)...))
	p := newProbe(t, n.api(west), n.token(), west)
	for i, tt := range []struct{ size, want int }{{9184, 1}, {9185, 0}, {20_000, 0}, {9184, 1}} {
		p.send(p.packet(to, uint32(i), tt.size))
		if got := len(p.receive(300 * time.Millisecond)); got != tt.want {
			t.Errorf("packet of %d bytes: %d echoed, want %d", tt.size, got, tt.want)
		}
	}
}

// TestDispatcherPanicsAbove9216Bytes: on the way out to a tunnel the gateway's
// dispatcher does not look at the size before it copies (§5.4). Only an operator's
// own network can give it such a packet, tunnels cannot.
func TestDispatcherPanicsAbove9216Bytes(t *testing.T) {
	t.Parallel()
	for size, want := range map[string]bool{"9216": false, "9217": true} {
		var got struct{ Panicked bool }
		parse(t, runPeer(t, patience, "dispatch", "--bytes", size), &got)
		if got.Panicked != want {
			t.Errorf("packet of %s bytes: panicked %v, want %v", size, got.Panicked, want)
		}
	}
}

// TestFailedRegistrationIsNotRepeated: after a first registration that failed,
// five attempts in all, a stack of the SDK takes its key for registered and meets
// a silent data plane (§3.1). So a SNAP should not refuse what it could take.
func TestFailedRegistrationIsNotRepeated(t *testing.T) {
	t.Parallel()
	public, signing, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	plane, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	if err != nil {
		t.Fatal(err)
	}
	defer plane.Close()
	var initiations, registrations atomic.Int32
	go func() {
		for b := make([]byte, 2048); ; {
			n, err := plane.Read(b)
			if err != nil {
				return
			}
			if n == 148 && b[0] == 1 {
				initiations.Add(1)
			}
		}
	}()
	verifier, err := control.NewVerifier(control.VerifierConfig{Keys: []ed25519.PublicKey{public}})
	if err != nil {
		t.Fatal(err)
	}
	key, err := snaptun.NewPrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	snap := control.NewHandler(control.HandlerConfig{
		Verifier: verifier,
		Registry: control.NewRegistry(control.RegistryConfig{}),
		DataPlane: func() control.DataPlane {
			return control.DataPlane{Addr: plane.LocalAddr().(*net.UDPAddr).AddrPort(), Key: key.PublicKey()}
		},
	})
	home, err := scion.ParseIA(west)
	if err != nil {
		t.Fatal(err)
	}
	var api *httptest.Server
	hosts := endhost.NewHandler(endhost.HandlerConfig{Underlays: func(context.Context, scion.IA) (endhost.Underlays, error) {
		u, err := url.Parse(api.URL)
		return endhost.Underlays{SNAPs: []endhost.SNAP{{URL: u, IAs: []scion.IA{home}}}}, err
	}})
	api = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/RegisterSnapTunIdentity"):
			registrations.Add(1)
			w.WriteHeader(http.StatusServiceUnavailable)
			io.WriteString(w, `{"code":"unavailable","message":"come back later","detail":null}`)
		case strings.HasPrefix(r.URL.Path, control.ServicePath):
			snap.ServeHTTP(w, r)
		default:
			hosts.ServeHTTP(w, r)
		}
	}))
	defer api.Close()
	token, err := control.SignToken(signing, control.Claims{ID: control.NewTokenID(), Version: 1, IssuedAt: time.Now(), NotBefore: time.Now(), Expires: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}

	p := launchPeer(t, "rebind", "--endhost-api", api.URL+"/", "--token", token, "--times", "2", "--wait-ms", "15000")
	var first, second struct {
		Error string
		MS    int
	}
	parse(t, p.awaitLine(0), &first)
	attempts, before := registrations.Load(), initiations.Load()
	parse(t, p.awaitLine(1), &second)
	p.wait(patience)
	t.Logf("first bind: error after %d ms and %d registrations; second: %q after %d ms, %d more registrations and %d initiations",
		first.MS, attempts, second.Error, second.MS, registrations.Load()-attempts, initiations.Load())
	if first.Error == "" || first.Error == "timeout" || attempts != 5 || before != 0 {
		t.Errorf("first bind: %q after %d registrations and %d initiations, want an error after 5 and 0", first.Error, attempts, before)
	}
	if second.Error != "timeout" || registrations.Load() != attempts || initiations.Load() == 0 {
		t.Errorf("second bind: %q after %d more registrations and %d initiations, want silence after 0 and some", second.Error, registrations.Load()-attempts, initiations.Load())
	}
}

// TestRotatedKeyIsRefusedOnce: the peers' SNAP refuses the first token of a key
// that is new in the key set, and takes the next; it keeps keys that left the set
// (§4.7). Ours waits for the fetch, and forgets them.
func TestRotatedKeyIsRefusedOnce(t *testing.T) {
	t.Parallel()
	var (
		mu  sync.Mutex // guards set
		set []byte
	)
	keys := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		w.Write(set)
	}))
	defer keys.Close()
	rotate := func() (token string) {
		t.Helper()
		public, signing, err := ed25519.GenerateKey(nil)
		if err != nil {
			t.Fatal(err)
		}
		now := time.Now()
		token, err = control.SignToken(signing, control.Claims{ID: control.NewTokenID(), Version: 1, IssuedAt: now, NotBefore: now, Expires: now.Add(time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		mu.Lock()
		defer mu.Unlock()
		set = control.MarshalKeySet(public)
		return token
	}
	theirs := startPeer(t, "verify", "--jwks", keys.URL)
	lines := 1
	ask := func(token string) (ok bool, why string) {
		t.Helper()
		fmt.Fprintln(theirs.stdin, token)
		var answer struct {
			OK    bool
			Error string
		}
		parse(t, theirs.awaitLine(lines), &answer)
		lines++
		return answer.OK, answer.Error
	}

	first := rotate()
	if ok, why := ask(first); !ok {
		t.Fatalf("the first token of all is refused: %s", why)
	}
	second := rotate()
	if ok, why := ask(second); ok || !strings.Contains(why, "kid") {
		t.Errorf("first token of a rotated key: %v %q, want a refusal of the kid", ok, why)
	}
	refusals := 1
	for ok := false; !ok; refusals++ {
		if ok, _ = ask(second); refusals > 10_000 {
			t.Fatal("a rotated key is never taken")
		}
	}
	t.Logf("a rotated key was taken at attempt %d", refusals)
	if ok, why := ask(first); !ok {
		t.Errorf("token of a key that left the set: %s", why)
	}

	u, err := url.Parse(keys.URL)
	if err != nil {
		t.Fatal(err)
	}
	ours, err := control.NewVerifier(control.VerifierConfig{JWKS: u})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var fetcher sync.WaitGroup
	defer fetcher.Wait()
	defer cancel()
	fetcher.Go(func() { ours.Run(ctx) })
	if _, err := ours.Verify(t.Context(), second); err != nil {
		t.Errorf("our SNAP refuses a token: %v", err)
	}
	if _, err := ours.Verify(t.Context(), first); err == nil {
		t.Error("our SNAP takes a token of a key that left the set")
	}
}
