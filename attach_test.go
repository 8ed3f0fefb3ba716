package snapproxy

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/snapproxy/snapproxy/scion"
	"github.com/snapproxy/snapproxy/scion/endhost"
	"github.com/snapproxy/snapproxy/tunnel/control"
	"github.com/snapproxy/snapproxy/tunnel/snaptun"
)

const testIA = scion.IA(1<<48 | 0xff00_0000_0110)

// An apiNet is a SNAP with its API, as an operator starts it.
type apiNet struct {
	key     snaptun.PrivateKey
	signing ed25519.PrivateKey
	listen  netip.AddrPort // of the data plane
	api     netip.AddrPort
	plane   netip.AddrPort // that the API names; zero: listen
	snap    *SNAP
	stop    func()
}

func newAPINet(t testing.TB) *apiNet {
	t.Helper()
	signing, err := control.NewSigningKey()
	if err != nil {
		t.Fatal(err)
	}
	loopback := netip.MustParseAddrPort("127.0.0.1:0")
	n := &apiNet{key: newKey(t), signing: signing, listen: loopback, api: loopback}
	n.start(t)
	t.Cleanup(func() { n.stop() })
	return n
}

// start starts the SNAP. Registrations that it had before are lost.
func (n *apiNet) start(t testing.TB) {
	t.Helper()
	verifier, err := control.NewVerifier(control.VerifierConfig{Keys: []ed25519.PublicKey{n.signing.Public().(ed25519.PublicKey)}})
	if err != nil {
		t.Fatal(err)
	}
	registry := control.NewRegistry(control.RegistryConfig{Verifier: verifier})
	n.snap, err = NewSNAP(SNAPConfig{IA: testIA, Listen: n.listen, PrivateKey: n.key, Authorize: registry.Authorized})
	if err != nil {
		t.Fatal(err)
	}
	n.listen = n.snap.Addr()
	api, err := NewSNAPAPI(SNAPAPIConfig{SNAP: n.snap, Listen: n.api, Verifier: verifier, Registry: registry, DataPlane: n.plane})
	if err != nil {
		t.Fatal(err)
	}
	n.api = api.Addr()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 2)
	go func() { ended <- n.snap.Run(ctx) }()
	go func() { ended <- api.Run(ctx) }()
	n.stop = func() {
		cancel()
		for range cap(ended) {
			if err := <-ended; err != nil {
				t.Errorf("SNAP: %v", err)
			}
		}
		n.stop = func() {}
	}
}

func (n *apiNet) url() string { return "http://" + n.api.String() + "/" }

// token makes a token for somebody, good for a while.
func (n *apiNet) token(t testing.TB, subject string, life time.Duration) *control.TokenSource {
	t.Helper()
	now := time.Now()
	token, err := control.SignToken(n.signing, control.Claims{
		ID: control.NewTokenID(), Subject: control.SubjectOf(subject), Version: 1,
		IssuedAt: now, NotBefore: now, Expires: now.Add(life),
	})
	if err != nil {
		t.Fatal(err)
	}
	return control.StaticToken("token", token)
}

func (n *apiNet) network(t testing.TB, subject string, apis ...string) NetworkConfig {
	if apis == nil {
		apis = []string{n.url()}
	}
	return NetworkConfig{EndhostAPIs: apis, Token: n.token(t, subject, time.Hour)}
}

func (n *apiNet) startExit(t testing.TB) *Exit {
	t.Helper()
	e, err := NewExit(ExitConfig{
		NetworkConfig: n.network(t, "exit"), PrivateKey: newKey(t), Authorize: everybody, Allow: prefixes("127.0.0.0/8"),
	})
	if err != nil {
		t.Fatal(err)
	}
	run(t, e.Run)
	await(t, e.Ready(), "exit")
	return e
}

func startClientOf(t testing.TB, network NetworkConfig, e *Exit) *Client {
	t.Helper()
	c, err := NewClient(ClientConfig{NetworkConfig: network, Exit: e.Addr(), ExitKey: e.PublicKey()})
	if err != nil {
		t.Fatal(err)
	}
	run(t, c.Run)
	return c
}

// exchange sends n bytes and waits until they came back.
func exchange(t testing.TB, conn net.Conn, n int) {
	t.Helper()
	conn.SetDeadline(time.Now().Add(40 * time.Second))
	want := make([]byte, n)
	rand.Read(want)
	failed := make(chan error, 1)
	go func() { _, err := conn.Write(want); failed <- err }()
	got := make([]byte, n)
	if k, err := io.ReadFull(conn, got); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%d of %d bytes came back, %v", k, n, err)
	}
	if err := <-failed; err != nil {
		t.Fatal(err)
	}
}

func TestAttachThroughAnEndhostAPI(t *testing.T) {
	n := newAPINet(t)
	e := n.startExit(t)
	c := startClientOf(t, n.network(t, "client"), e)
	await(t, c.Ready(), "client")
	conn, err := c.DialContext(t.Context(), "tcp", echoServer(t, "127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	echo(t, conn, 1<<20)
}

// A SNAP that is restarted has forgotten who registered. Connections live on.
func TestRegistryLostByARestart(t *testing.T) {
	n := newAPINet(t)
	e := n.startExit(t)
	c := startClientOf(t, n.network(t, "client"), e)
	await(t, c.Ready(), "client")
	conn, err := c.DialContext(t.Context(), "tcp", echoServer(t, "127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	exchange(t, conn, 1000)
	n.stop()
	n.start(t)
	exchange(t, conn, 100_000)
}

// The first API does not answer, the second names a SNAP that does not before
// one that does.
func TestAPIsAndSNAPsAreTriedInOrder(t *testing.T) {
	n := newAPINet(t)
	e := n.startExit(t)
	dead := httptest.NewServer(http.NotFoundHandler())
	dead.Close()
	deadURL, _ := url.Parse(dead.URL)
	liveURL, _ := url.Parse(n.url())
	second := httptest.NewServer(endhost.NewHandler(endhost.HandlerConfig{
		Underlays: func(context.Context, scion.IA) (endhost.Underlays, error) {
			return endhost.Underlays{SNAPs: []endhost.SNAP{{URL: deadURL, IAs: []scion.IA{testIA}}, {URL: liveURL, IAs: []scion.IA{testIA}}}}, nil
		},
	}))
	defer second.Close()
	c := startClientOf(t, n.network(t, "client", dead.URL, second.URL), e)
	await(t, c.Ready(), "client")
}

func TestSilentSaysWhyThereIsNoSNAP(t *testing.T) {
	n := newAPINet(t)
	e := n.startExit(t)
	html := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		io.WriteString(w, "<html>Please log in</html>")
	}))
	defer html.Close()
	redirect := httptest.NewServer(http.RedirectHandler(n.url(), http.StatusFound))
	defer redirect.Close()
	routers := httptest.NewServer(endhost.NewHandler(endhost.HandlerConfig{
		Underlays: func(context.Context, scion.IA) (endhost.Underlays, error) {
			return endhost.Underlays{Routers: []endhost.Router{{IA: testIA, Addr: netip.MustParseAddrPort("127.0.0.1:9"), Interfaces: []uint16{1}}}}, nil
		},
	}))
	defer routers.Close()
	otherAS := n.network(t, "client")
	otherAS.IA = testIA + 1
	for _, tt := range []struct {
		name    string
		network NetworkConfig
		want    string
	}{
		{"token refused", NetworkConfig{EndhostAPIs: []string{n.url()}, Token: control.StaticToken("token", "a.b.c")}, "401"},
		{"no token", NetworkConfig{EndhostAPIs: []string{n.url()}}, "401"},
		{"HTML", NetworkConfig{EndhostAPIs: []string{html.URL}}, "HTML"},
		{"redirect", NetworkConfig{EndhostAPIs: []string{redirect.URL}}, "redirect"},
		{"routers only", NetworkConfig{EndhostAPIs: []string{routers.URL}}, "--underlay udp"},
		{"other AS", otherAS, "for 1-ff00:0:111: list underlays"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := startClientOf(t, tt.network, e)
			deadline := time.Now().Add(20 * time.Second)
			for !strings.Contains(c.Silent(), tt.want) {
				if time.Now().After(deadline) {
					t.Fatalf("Silent() = %q, want something with %q", c.Silent(), tt.want)
				}
				time.Sleep(5 * time.Millisecond)
			}
			if s := c.Silent(); strings.Contains(s, "\n\n") || len(s) > 400 {
				t.Errorf("Silent() = %q", s)
			}
		})
	}
}

// A token for the host of the endhost API is not for the SNAPs that it names
// elsewhere.
func TestTokensGoToNamedHostsOnly(t *testing.T) {
	cfg := NetworkConfig{EndhostAPIs: []string{"https://api.example.org/x", "http://127.0.0.1:1/"}, SNAPHosts: []string{"Snap.example.org"}}
	for host, want := range map[string]bool{
		"api.example.org": true, "API.example.org": true, "127.0.0.1": true, "snap.example.org": true,
		"example.org": false, "evil.example": false, "xapi.example.org": false, "127.0.0.2": false,
	} {
		if err := cfg.allowsToken(&url.URL{Scheme: "https", Host: host + ":443"}); (err == nil) != want {
			t.Errorf("token to %s: %v", host, err)
		}
	}
}

// A nat forwards datagrams between one host and a SNAP. The port that the SNAP
// sees changes when it is told to.
type nat struct {
	inside *net.UDPConn
	snap   netip.AddrPort
	out    atomic.Pointer[net.UDPConn]
	host   atomic.Pointer[netip.AddrPort]
}

func newNAT(t testing.TB, snap netip.AddrPort) *nat {
	t.Helper()
	inside, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	if err != nil {
		t.Fatal(err)
	}
	n := &nat{inside: inside, snap: snap}
	n.rebind(t)
	t.Cleanup(func() { inside.Close(); n.out.Load().Close() })
	go func() {
		b := make([]byte, 64<<10)
		for {
			k, from, err := inside.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			n.host.Store(&from)
			n.out.Load().WriteToUDPAddrPort(b[:k], n.snap)
		}
	}()
	return n
}

func (n *nat) rebind(t testing.TB) {
	t.Helper()
	out, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	if err != nil {
		t.Fatal(err)
	}
	if old := n.out.Swap(out); old != nil {
		old.Close()
	}
	go func() {
		b := make([]byte, 64<<10)
		for {
			k, _, err := out.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			if to := n.host.Load(); to != nil {
				n.inside.WriteToUDPAddrPort(b[:k], *to)
			}
		}
	}()
}

// A NAT before the client gives it another address again and again: the inner
// connections live on.
func TestAssignedAddressThatChanges(t *testing.T) {
	n := newAPINet(t)
	e := n.startExit(t)
	for len(n.snap.listener.Peers()) == 0 { // so that the exit hears the goodbye
		time.Sleep(time.Millisecond)
	}
	n.stop()
	nat := newNAT(t, n.listen)
	n.plane = nat.inside.LocalAddr().(*net.UDPAddr).AddrPort()
	n.start(t)
	c := startClientOf(t, n.network(t, "client"), e)
	await(t, c.Ready(), "client")
	conn, err := c.DialContext(t.Context(), "tcp", echoServer(t, "127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for range 2 {
		before := c.host.Local()
		nat.rebind(t)
		exchange(t, conn, 50_000)
		if c.host.Local() == before {
			t.Errorf("the address is still %s", before)
		}
	}
}

// Whom a discovery service names is sent the token only if the user said so.
func TestDiscoveredAPIs(t *testing.T) {
	n := newAPINet(t)
	e := n.startExit(t)
	network := n.network(t, "client")
	network.EndhostAPIs, network.Discovery = nil, []string{"http://127.0.0.1:1/", n.url()}
	network.SNAPHosts = []string{"127.0.0.1"}
	c := startClientOf(t, network, e)
	await(t, c.Ready(), "client")

	network = n.network(t, "other")
	network.EndhostAPIs, network.Discovery = nil, []string{n.url()}
	c = startClientOf(t, network, e)
	for deadline := time.Now().Add(20 * time.Second); !strings.Contains(c.Silent(), "401"); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("Silent() = %q, want 401 without a token", c.Silent())
		}
	}
}
