package control

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"
)

var anyPort = netip.MustParseAddrPort("127.0.0.1:0")

// startServer runs a server and returns its URL.
func startServer(t *testing.T, cfg ServerConfig) (*Server, string) {
	t.Helper()
	if !cfg.Listen.IsValid() {
		cfg.Listen = anyPort
	}
	s, err := NewServer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return s, s.URL(s.Addr().String()).String()
}

// protocols are a client of one HTTP version in the clear.
func protocols(t *testing.T, set func(*http.Protocols)) *http.Client {
	t.Helper()
	p := new(http.Protocols)
	set(p)
	tr := &http.Transport{Protocols: p}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

func http1(p *http.Protocols) { p.SetHTTP1(true) }
func h2c(p *http.Protocols)   { p.SetUnencryptedHTTP2(true) }

func TestServerSpeaksBothVersionsInTheClear(t *testing.T) {
	_, u := startServer(t, ServerConfig{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Proto) })})
	for want, set := range map[string]func(*http.Protocols){"HTTP/1.1": http1, "HTTP/2.0": h2c} {
		resp, err := protocols(t, set).Get(u)
		if err != nil {
			t.Fatal(err)
		}
		if got := string(bodyOf(t, resp)); got != want {
			t.Errorf("%s, want %s", got, want)
		}
		resp.Body.Close()
	}
}

// A rawCodec lets a stock Connect client carry bytes.
type rawCodec struct{}

func (rawCodec) Name() string                    { return "proto" }
func (rawCodec) Marshal(m any) ([]byte, error)   { return *m.(*[]byte), nil }
func (rawCodec) Unmarshal(b []byte, m any) error { *m.(*[]byte) = bytes.Clone(b); return nil }

func TestStockConnectClient(t *testing.T) {
	h, r := newHandler(t, samplePlane)
	_, u := startServer(t, ServerConfig{Handler: h})
	body := newRegistration(keyOf(1)).append(nil)
	for name, set := range map[string]func(*http.Protocols){"HTTP/1.1": http1, "h2c": h2c} {
		t.Run(name, func(t *testing.T) {
			c := connect.NewClient[[]byte, []byte](protocols(t, set), u+methodRegister, connect.WithCodec(rawCodec{}))
			request := connect.NewRequest(&body)
			request.Header().Set("Authorization", "Bearer "+goodToken(t))
			answer, err := c.CallUnary(t.Context(), request)
			if err != nil || len(*answer.Msg) != 34 || !r.Authorized(keyOf(1), testTime) {
				t.Errorf("%v, %v", answer, err)
			}
			bad := []byte{0xff}
			request = connect.NewRequest(&bad)
			request.Header().Set("Authorization", "Bearer "+goodToken(t))
			if _, err := c.CallUnary(t.Context(), request); connect.CodeOf(err) != connect.CodeInvalidArgument || !strings.Contains(err.Error(), "not the message") {
				t.Errorf("%v", err)
			}
			if _, err := c.CallUnary(t.Context(), connect.NewRequest(&body)); connect.CodeOf(err) != connect.CodeUnauthenticated {
				t.Errorf("without a token: %v", err)
			}
		})
	}
}

func TestServerBoundsBodies(t *testing.T) {
	h, _ := newHandler(t, samplePlane)
	_, u := startServer(t, ServerConfig{Handler: h})
	r := request(methodRegister, make([]byte, maxBody+1), goodToken(t))
	r.RequestURI = ""
	r.URL = mustURL(u + methodRegister)
	resp, err := protocols(t, http1).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("HTTP %d", resp.StatusCode)
	}
}

func TestServerBoundsHeaders(t *testing.T) {
	served := false
	_, u := startServer(t, ServerConfig{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { served = true })})
	for name, set := range map[string]func(*http.Protocols){"HTTP/1.1": http1, "h2c": h2c} {
		r, err := http.NewRequestWithContext(t.Context(), "POST", u, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+strings.Repeat("x", 17<<10))
		resp, err := protocols(t, set).Do(r)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
				t.Errorf("%s: HTTP %d", name, resp.StatusCode)
			}
		}
	}
	if served {
		t.Error("it was served")
	}
}

func TestServerBoundsConnections(t *testing.T) {
	s, _ := startServer(t, ServerConfig{MaxConns: 2, Handler: http.NotFoundHandler()})
	ask := func(c net.Conn) error {
		if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			return err
		}
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err == nil {
			resp.Body.Close()
		}
		return err
	}
	dial := func() net.Conn {
		c, err := net.Dial("tcp", s.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	a, b := dial(), dial()
	for _, c := range []net.Conn{a, b} {
		if err := ask(c); err != nil {
			t.Fatal(err)
		}
	}
	if err := ask(dial()); err == nil {
		t.Error("a third connection is answered")
	}
	a.Close()
	for { // until the server has seen it
		c := dial()
		err := ask(c)
		c.Close()
		if err == nil {
			break
		}
	}
}

func TestConnectionsOfOneHost(t *testing.T) {
	l := newLimitedListener(nil, 10, 2)
	a, b := netip.MustParsePrefix("192.0.2.1/32"), netip.MustParsePrefix("2001:db8::/64")
	for _, tt := range []struct {
		host netip.Prefix
		want bool
	}{{a, true}, {a, true}, {a, false}, {b, true}, {netip.Prefix{}, true}, {netip.Prefix{}, true}, {netip.Prefix{}, true}} {
		if got := l.enter(tt.host); got != tt.want {
			t.Errorf("%v enters: %v", tt.host, got)
		}
	}
	l.leave(a)
	if !l.enter(a) {
		t.Error("no room is made")
	}
	for addr, want := range map[string]string{
		"192.0.2.1:1": "192.0.2.1/32", "[::ffff:192.0.2.1]:1": "192.0.2.1/32", "[2001:db8::1]:1": "2001:db8::/64",
		"127.0.0.1:1": "invalid Prefix", "[::1]:1": "invalid Prefix",
	} {
		if got := source(net.TCPAddrFromAddrPort(netip.MustParseAddrPort(addr))).String(); got != want {
			t.Errorf("source of %s is %s", addr, got)
		}
	}
}

func TestServerOffTheLoopback(t *testing.T) {
	for _, listen := range []string{"0.0.0.0:0", "[::]:0"} {
		if _, err := NewServer(ServerConfig{Listen: netip.MustParseAddrPort(listen)}); err != ErrInsecure {
			t.Errorf("%s: %v", listen, err)
		}
	}
	s, err := NewServer(ServerConfig{Listen: netip.MustParseAddrPort("0.0.0.0:0"), Insecure: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := NewServer(ServerConfig{Listen: netip.AddrPortFrom(anyPort.Addr(), s.Addr().Port()), Insecure: true}); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("taken port: %v", err)
	}
}

func TestServerEndsRequestsThatGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		h := bounded(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
		serve(h, request("/", nil, ""))
		if d := time.Since(began); d != requestTimeout {
			t.Errorf("after %v", d)
		}
	})
}

// A pipeListener accepts connections that need no network.
type pipeListener struct {
	conns chan net.Conn
	done  chan struct{}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error   { close(l.done); return nil }
func (l *pipeListener) Addr() net.Addr { return net.TCPAddrFromAddrPort(anyPort) }

func TestServerDoesNotWaitForTheSlow(t *testing.T) {
	for _, tt := range []struct {
		name, says string
		after      time.Duration
	}{
		{"nothing", "", headerTimeout},
		{"half a header", "POST / HTTP/1.1\r\nHost: x\r\n", headerTimeout},
		{"half a body", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf", bodyTimeout},
		{"nothing more", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", idleTimeout},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := &pipeListener{make(chan net.Conn), make(chan struct{})}
				s, err := NewServer(ServerConfig{Listen: anyPort, Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
					io.Copy(io.Discard, r.Body)
				})})
				if err != nil {
					t.Fatal(err)
				}
				s.Close()
				s.tcp = l
				ctx, cancel := context.WithCancel(t.Context())
				ended := make(chan error)
				go func() { ended <- s.Run(ctx) }()
				client, server := net.Pipe()
				l.conns <- server
				began := time.Now()
				go io.WriteString(client, tt.says)
				io.Copy(io.Discard, client)
				if d := time.Since(began); d < tt.after || d > tt.after+time.Second {
					t.Errorf("hung up after %v, want %v", d, tt.after)
				}
				cancel()
				if err := <-ended; err != nil {
					t.Error(err)
				}
				client.Close()
			})
		})
	}
}

// writeCertificate writes a certificate for 127.0.0.1 whose name is cn.
func writeCertificate(t *testing.T, dir, cn string) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: cn}, IPAddresses: []net.IP{{127, 0, 0, 1}},
		NotBefore: time.Unix(0, 0), NotAfter: farFuture,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for name, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certFile, keyFile
}

func TestServerOverTLS(t *testing.T) {
	cert, key := writeCertificate(t, t.TempDir(), "one")
	_, u := startServer(t, ServerConfig{CertFile: cert, KeyFile: key, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.Proto, " ", reached(r).Scheme)
	})})
	if !strings.HasPrefix(u, "https://") {
		t.Errorf("URL %s", u)
	}
	for want, set := range map[string]func(*http.Protocols){"HTTP/1.1 https": http1, "HTTP/2.0 https": func(p *http.Protocols) { p.SetHTTP2(true) }} {
		c := protocols(t, set)
		c.Transport.(*http.Transport).TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
		resp, err := c.Get(u)
		if err != nil {
			t.Fatal(err)
		}
		if got := string(bodyOf(t, resp)); got != want {
			t.Errorf("%s, want %s", got, want)
		}
		resp.Body.Close()
	}
}

func TestCertificateIsFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		var lines logLines
		c, err := loadCertificate(mustFiles(writeCertificate(t, dir, "one")), filepath.Join(dir, "key.pem"), lines.logger())
		if err != nil {
			t.Fatal(err)
		}
		name := func() string {
			t.Helper()
			time.Sleep(certificatePoll)
			pair, err := c.get(nil)
			if err != nil {
				t.Fatal(err)
			}
			return pair.Leaf.Subject.CommonName
		}
		stamp := time.Unix(1, 0)
		touch := func() {
			t.Helper()
			stamp = stamp.Add(time.Second)
			for _, f := range []string{"cert.pem", "key.pem"} {
				if err := os.Chtimes(filepath.Join(dir, f), stamp, stamp); err != nil {
					t.Fatal(err)
				}
			}
		}
		if got := name(); got != "one" {
			t.Errorf("at first %s", got)
		}
		writeCertificate(t, dir, "two")
		touch()
		if got := name(); got != "two" {
			t.Errorf("then %s", got)
		}
		if err := os.WriteFile(filepath.Join(dir, "cert.pem"), []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
		touch()
		if got := name(); got != "two" || strings.Count(lines.String(), "level=WARN") != 1 {
			t.Errorf("with a bad file %s; says %s", got, &lines)
		}
	})
}

func mustFiles(cert, _ string) string { return cert }

func TestCertificatesThatCannotBe(t *testing.T) {
	dir := t.TempDir()
	cert, key := writeCertificate(t, dir, "one")
	for _, pair := range [][2]string{{cert, ""}, {"", key}, {key, cert}, {cert, filepath.Join(dir, "nowhere")}} {
		if s, err := NewServer(ServerConfig{Listen: anyPort, CertFile: pair[0], KeyFile: pair[1]}); err == nil {
			s.Close()
			t.Errorf("%q passes", pair)
		}
	}
}
