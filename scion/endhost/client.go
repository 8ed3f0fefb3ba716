package endhost

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"

	"github.com/snapproxy/snapproxy/scion"
)

const (
	methodUnderlays = "scion.endhost.v1.UnderlayService/ListUnderlays"
	methodSegments  = "scion.endhost.v1.SegmentsService/ListSegments"
	methodPaths     = "scion.endhost.v1.PathService/ListPaths" // its name up to 0.4.0 of the Rust SDK
	methodAPIs      = "endhost.discovery.v1.EndhostApiDiscoveryService/GetEndhostApis"
)

// ClientConfig is what a Client is made of.
type ClientConfig struct {
	// URL is the endhost API: see ParseURL. A path that ends with a slash is
	// kept, one that does not loses its last element, as with any relative
	// reference.
	URL *url.URL
	// Token returns the bearer token of a call. If nil, none is sent. A token
	// goes only to the host of URL, over https or to the loopback.
	Token func(ctx context.Context) (string, error)
	// Proxy is an HTTP or SOCKS5 proxy to go through. If nil, there is none:
	// the environment, which may well name this program, is not asked.
	Proxy *url.URL
	// TLS is the configuration for https. If nil, the roots of the system are
	// trusted.
	TLS *tls.Config
	// Logger hears what was refused of an answer of which the rest is used. If
	// nil, nobody does.
	Logger *slog.Logger
}

// A Client asks one endhost API. Its methods may be called concurrently; each
// takes 10 seconds at most unless ctx has a deadline of its own.
type Client struct {
	config ClientConfig
	http   *http.Client
	log    *slog.Logger
}

// NewClient returns a client of the endhost API that config names. It connects
// to nothing yet.
func NewClient(config ClientConfig) (*Client, error) {
	if config.URL == nil {
		return nil, errors.New("endhost API: no URL")
	}
	if err := checkURL(config.URL); err != nil {
		return nil, fmt.Errorf("endhost API %s: %w", quoteURL(config.URL.Redacted()), err)
	}
	plain := config.URL.Scheme == "http"
	if config.Token != nil {
		if err := checkToken(config.URL, config.Proxy); err != nil {
			return nil, fmt.Errorf("endhost API %s: %w", config.URL, err)
		}
	}
	log := config.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Client{
		config: config,
		http:   newHTTP(config.Proxy, config.TLS, config.Token != nil && plain),
		log:    log,
	}, nil
}

// URL returns the URL of the API. It must not be changed.
func (c *Client) URL() *url.URL { return c.config.URL }

// Close closes the connections that wait for another call.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// call calls a method of the API.
func (c *Client) call(ctx context.Context, method string, request []byte) (body []byte, by Scope, err error) {
	var token string
	if c.config.Token != nil {
		if token, err = c.config.Token(ctx); err != nil {
			return nil, 0, fmt.Errorf("get a token: %w", err)
		}
	}
	u := *c.config.URL
	body, by, err = call(ctx, c.http, u.ResolveReference(&url.URL{Path: method}), token, request)
	if err != nil {
		return nil, 0, err
	}
	if c.config.Proxy != nil { // the connection says where the proxy is
		by, _ = scopeOfHost(u.Hostname())
	}
	return body, by, nil
}

// wrap says of an error what was asked of which API.
func (c *Client) wrap(doing string, err error) error {
	return fmt.Errorf("%s at endhost API %s: %w", doing, c.config.URL, err)
}

// Underlays returns the underlays by which hosts of ia reach the network; zeros
// in ia stand for any. What makes no sense is left out; an answer of which
// nothing is left is an error.
func (c *Client) Underlays(ctx context.Context, ia scion.IA) (Underlays, error) {
	ctx, cancel := withTimeout(ctx)
	defer cancel()
	body, by, err := c.call(ctx, methodUnderlays, appendUnderlaysRequest(nil, ia))
	if err != nil {
		return Underlays{}, c.wrap("list underlays", err)
	}
	underlays, refused, err := parseUnderlays(body, ia, by)
	if err == nil && refused != nil {
		if len(underlays.SNAPs)+len(underlays.Routers) == 0 {
			err = refused
		} else {
			c.log.Warn("underlays of an endhost API left out", "api", c.config.URL.Host, "reason", refused)
		}
	}
	if err != nil {
		return Underlays{}, c.wrap("list underlays", err)
	}
	return underlays, nil
}

// Segments returns the segments of which paths from src to dst can be made, all
// pages of them. They are decoded and bounded in number, and not yet checked:
// see Combine.
func (c *Client) Segments(ctx context.Context, src, dst scion.IA) (Segments, error) {
	ctx, cancel := withTimeout(ctx)
	defer cancel()
	segments, err := c.allPages(ctx, src, dst)
	if err != nil {
		return Segments{}, c.wrap(fmt.Sprintf("list segments to %s", dst), err)
	}
	return segments, nil
}

// Routes returns the routes from src to dst, the ones of the fewest hops first.
// It is Segments and Combine.
func (c *Client) Routes(ctx context.Context, src, dst scion.IA) ([]*scion.Route, error) {
	if src == dst {
		return Combine(src, dst, Segments{})
	}
	segments, err := c.Segments(ctx, src, dst)
	if err != nil {
		return nil, err
	}
	routes, refused, err := combineNow(src, dst, segments)
	if err != nil {
		return nil, c.wrap("list segments", err)
	}
	if refused.count > 0 {
		c.log.Warn("segments of an endhost API left out", "api", c.config.URL.Host, "to", dst,
			"count", refused.count, "first_reason", refused.first)
	}
	return routes, nil
}
