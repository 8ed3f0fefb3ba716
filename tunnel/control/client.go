package control

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/snapproxy/snapproxy/tunnel/snaptun"
)

// maxAnswer bounds the body of an answer.
const maxAnswer = 64 << 10

// freshKeyDelay is how long a client waits before it shows a refused token
// again: a SNAP may refuse the first use of a key that was just rotated and
// fetch it meanwhile (snap.md §4.7).
const freshKeyDelay = time.Second

// ClientConfig configures a Client.
type ClientConfig struct {
	// URL is the SNAP's control plane: https, or http to the loopback. The
	// calls replace its path.
	URL *url.URL
	// Token returns the bearer token of the moment. If nil, none is sent.
	Token func(ctx context.Context) (string, error)
	// Allow reports why a token must not be sent to a URL, or nil. It is asked
	// for URL and for the URL that the SNAP names to register at, besides
	// CheckTokenURL. If nil, only the host of URL is allowed.
	Allow func(*url.URL) error
	// Proxy is an HTTP proxy for https. If nil, there is none; the environment
	// is never asked.
	Proxy *url.URL
	// TLS is what https is done with. If nil, it is the default. It is cloned.
	TLS *tls.Config
	// Logger receives what is worth knowing about calls. If nil, nothing is
	// logged.
	Logger *slog.Logger
}

// A DataPlane is where a SNAP's tunnels end.
type DataPlane struct {
	Addr    netip.AddrPort    // UDP address
	Control *url.URL          // where to register the tunnel's key; nil: where the data plane was asked for
	Key     snaptun.PublicKey // the SNAP's static key
}

// A Client calls the control plane of one SNAP. Its methods may be called
// concurrently; each call ends after 10 s at the latest.
type Client struct {
	cfg           ClientConfig
	logger        *slog.Logger
	plain, secure *http.Client
	control       atomic.Pointer[url.URL] // where to register

	mu      sync.Mutex // guards what follows
	allowed string     // token that the SNAP took last
}

// NewClient returns a client of the SNAP at cfg.URL.
func NewClient(cfg ClientConfig) (*Client, error) {
	if cfg.URL == nil {
		return nil, errors.New("control plane of the SNAP: no URL")
	}
	c := &Client{cfg: cfg, logger: orDiscard(cfg.Logger)}
	if err := checkURL(cfg.URL); err != nil {
		return nil, fmt.Errorf("control plane of the SNAP: %w", err)
	}
	if err := c.allow(cfg.URL); err != nil {
		return nil, fmt.Errorf("control plane %s: %w", origin(cfg.URL), err)
	}
	c.plain = newHTTPClient(&url.URL{Scheme: "http"}, nil)
	c.secure = newHTTPClient(&url.URL{Scheme: "https"}, cfg.Proxy)
	c.secure.Transport.(*http.Transport).TLSClientConfig = cfg.TLS.Clone()
	return c, nil
}

// allow returns an error if a token must not be sent to u.
func (c *Client) allow(u *url.URL) error {
	if err := CheckTokenURL(u); err != nil {
		return err
	}
	if c.cfg.Allow != nil {
		return c.cfg.Allow(u)
	}
	if u.Hostname() != c.cfg.URL.Hostname() {
		return fmt.Errorf("a token for %s does not go to %s", c.cfg.URL.Hostname(), u.Hostname())
	}
	return nil
}

// Close closes idle connections. The client may still be used.
func (c *Client) Close() {
	c.plain.CloseIdleConnections()
	c.secure.CloseIdleConnections()
}

// URL returns the SNAP's URL. It must not be changed.
func (c *Client) URL() *url.URL { return c.cfg.URL }

// DataPlane asks where the data plane is. Register then goes to the URL that
// the answer names. A data plane without a key, or at an address that is
// nearer to this machine than the SNAP itself, is an error.
func (c *Client) DataPlane(ctx context.Context) (DataPlane, error) {
	token, err := c.token(ctx)
	if err != nil {
		return DataPlane{}, err
	}
	d, err := c.dataPlane(ctx, token)
	if err != nil {
		return DataPlane{}, fmt.Errorf("ask %s for its data plane: %w", origin(c.cfg.URL), err)
	}
	c.control.Store(d.Control)
	return d, nil
}

func (c *Client) dataPlane(ctx context.Context, token string) (d DataPlane, err error) {
	body, from, err := c.call(ctx, c.cfg.URL, methodDataPlane, nil, token)
	if err != nil {
		return d, err
	}
	m, err := parseDataPlaneAnswer(body)
	if err != nil {
		return d, err
	}
	if d.Addr, err = netip.ParseAddrPort(m.addr); err != nil {
		return d, fmt.Errorf("data plane address %q is no address with a port", printable(m.addr, 60))
	}
	d.Addr = netip.AddrPortFrom(d.Addr.Addr().Unmap(), d.Addr.Port())
	if err := checkDataPlane(d.Addr, from); err != nil {
		return d, err
	}
	if len(m.key) != len(d.Key) {
		return d, fmt.Errorf("key of the data plane has %d bytes, not 32", len(m.key))
	}
	copy(d.Key[:], m.key)
	if d.Key.IsZero() {
		return d, errors.New("key of the data plane is all zero")
	}
	d.Control = c.cfg.URL
	if m.control != "" {
		if d.Control, err = parseControl(m.control); err != nil {
			return d, err
		}
		if err := c.allow(d.Control); err != nil {
			return d, fmt.Errorf("it wants keys registered at %s: %w", origin(d.Control), err)
		}
	}
	return d, nil
}

// Register registers the key of a tunnel with the token of the moment: with the
// SNAP, or where the last DataPlane said. It may be called as often as one
// likes; the key is registered until the token expires, or until another key
// is registered with the same token.
func (c *Client) Register(ctx context.Context, key snaptun.PublicKey) error {
	token, err := c.token(ctx)
	if err != nil {
		return err
	}
	return c.register(ctx, key, token)
}

// register is Register with a given token.
func (c *Client) register(ctx context.Context, key snaptun.PublicKey, token string) error {
	u := c.control.Load()
	if u == nil {
		u = c.cfg.URL
	}
	body, _, err := c.call(ctx, u, methodRegister, newRegistration(key).append(nil), token)
	if err == nil {
		var m registered
		if m, err = parseRegistered(body); err == nil && len(m.pskShare) != pskShareSize {
			err = fmt.Errorf("psk share has %d bytes, not 32", len(m.pskShare))
		}
	}
	if err != nil {
		return fmt.Errorf("register with %s: %w", origin(u), err)
	}
	return nil
}

func (c *Client) token(ctx context.Context) (string, error) {
	if c.cfg.Token == nil {
		return "", nil
	}
	return c.cfg.Token(ctx)
}

// call makes a call, and makes it once more if a token is refused that was
// never taken. It also returns the scope of the SNAP's address.
func (c *Client) call(ctx context.Context, u *url.URL, method string, body []byte, token string) ([]byte, scope, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	answer, from, err := c.post(ctx, u, method, body, token)
	var refusal *Error
	if errors.As(err, &refusal) && refusal.Status == http.StatusUnauthorized && token != "" && !c.known(token) {
		c.logger.Debug("token refused, trying once more", "url", origin(u), "error", err)
		select {
		case <-ctx.Done():
			return nil, from, err
		case <-time.After(freshKeyDelay):
		}
		answer, from, err = c.post(ctx, u, method, body, token)
	}
	if err == nil {
		c.mu.Lock()
		c.allowed = token
		c.mu.Unlock()
	}
	return answer, from, err
}

func (c *Client) known(token string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return token == c.allowed
}

func (c *Client) post(ctx context.Context, base *url.URL, method string, body []byte, token string) ([]byte, scope, error) {
	from := scopeOfHost(base)
	trace := &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { from = c.scopeOf(base, i.Conn) }}
	r, err := http.NewRequestWithContext(httptrace.WithClientTrace(ctx, trace), http.MethodPost, join(base, method), bytes.NewReader(body))
	if err != nil {
		return nil, from, err
	}
	r.Header.Set("Content-Type", contentType)
	r.Header.Set("User-Agent", "snapproxy")
	if token != "" {
		r.Header.Set("Authorization", bearer+token)
	}
	client := c.secure
	if base.Scheme == "http" {
		client = c.plain
	}
	resp, err := client.Do(r)
	if err != nil {
		return nil, from, unwrapURL(err)
	}
	defer resp.Body.Close()
	if err := redirection(resp); err != nil {
		return nil, from, err
	}
	answer, err := readAll(resp.Body, maxAnswer)
	typ := resp.Header.Get("Content-Type")
	switch {
	case err != nil:
		return nil, from, fmt.Errorf("read the answer: %w", err)
	case resp.StatusCode < 200 || resp.StatusCode > 299:
		return nil, from, parseError(resp.StatusCode, typ, answer, token)
	case isHTML(typ, answer):
		return nil, from, errors.New("answers a page of HTML (is this the URL of a SNAP?)")
	case !isProto(typ):
		return nil, from, fmt.Errorf("answers content type %q, not %s (is this the URL of a SNAP?)", printable(typ, 60), contentType)
	}
	return answer, from, nil
}

// scopeOfHost returns the scope of a host of a URL: public if it is a name.
func scopeOfHost(u *url.URL) scope {
	if a, err := netip.ParseAddr(u.Hostname()); err == nil {
		return scopeOf(a)
	}
	return public
}

// scopeOf returns the scope of the far end of a connection to u. What is behind
// a proxy counts as public unless u has an address.
func (c *Client) scopeOf(u *url.URL, conn net.Conn) scope {
	if tcp, ok := conn.RemoteAddr().(*net.TCPAddr); ok && (c.cfg.Proxy == nil || u.Scheme == "http") {
		return scopeOf(tcp.AddrPort().Addr())
	}
	return scopeOfHost(u)
}

const (
	contentType = "application/proto"
	bearer      = "Bearer "
)

// isProto reports whether a content type is that of Connect's messages.
func isProto(typ string) bool {
	t, _, err := mime.ParseMediaType(typ)
	return err == nil && t == contentType
}

// join replaces the path of base.
func join(base *url.URL, method string) string {
	return (&url.URL{Scheme: base.Scheme, Host: base.Host, Path: method}).String()
}

// origin is how errors and logs name a URL: without path and user.
func origin(u *url.URL) string {
	return printable((&url.URL{Scheme: u.Scheme, Host: u.Host}).String(), maxErrorText)
}

func orDiscard(l *slog.Logger) *slog.Logger {
	if l == nil {
		return slog.New(slog.DiscardHandler)
	}
	return l
}
