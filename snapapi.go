package snapproxy

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"

	"github.com/snapproxy/snapproxy/scion"
	"github.com/snapproxy/snapproxy/scion/endhost"
	"github.com/snapproxy/snapproxy/tunnel/control"
)

// SNAPAPIConfig configures a SNAPAPI.
type SNAPAPIConfig struct {
	// SNAP is the SNAP whose data plane is named. It is run by the caller.
	SNAP *SNAP
	// Listen is the TCP address of the API; port 0 takes a free one.
	Listen netip.AddrPort
	// CertFile and KeyFile are PEM files for TLS, read again when they change.
	// If empty, the API speaks http: on loopback, and elsewhere if Insecure.
	CertFile, KeyFile string
	Insecure          bool
	// URL is where clients reach the API. If nil, where the request says that it
	// was sent, over TLS if the API speaks that.
	URL *url.URL
	// Verifier judges tokens; Registry is where keys are bound to them.
	Verifier *control.Verifier
	Registry *control.Registry
	// DataPlane is where clients reach the data plane. If zero, the address that
	// the SNAP listens on; if that is a wildcard, the one that they reach the API
	// at.
	DataPlane netip.AddrPort
	// Logger receives what happens to the API. If nil, nothing is logged.
	Logger *slog.Logger
}

// A SNAPAPI serves the control plane of a SNAP and an endhost API on one
// listener, both to who has a token.
type SNAPAPI struct {
	cfg    SNAPAPIConfig
	logger *slog.Logger
	server *control.Server
	paths  *endhost.ControlService // nil: there are no other ASes
}

// NewSNAPAPI binds the listener. Run must be called, which closes it.
func NewSNAPAPI(cfg SNAPAPIConfig) (*SNAPAPI, error) {
	a := &SNAPAPI{cfg: cfg, logger: orDiscard(cfg.Logger)}
	if t := cfg.SNAP.cfg.Topology; t != nil {
		a.paths = endhost.NewControlService(t.ControlServices, t.IA, t.Core)
	}
	mux := http.NewServeMux()
	snap := control.NewHandler(control.HandlerConfig{
		Verifier: cfg.Verifier, Registry: cfg.Registry, DataPlane: a.dataPlane, Logger: a.logger,
	})
	mux.Handle(control.ServicePath, snap)
	mux.Handle("/", endhost.NewHandler(endhost.HandlerConfig{
		Underlays: a.underlays, Segments: a.segments, APIs: a.apis, Authorize: snap.Authorize, Logger: a.logger,
	}))
	var err error
	a.server, err = control.NewServer(control.ServerConfig{
		Listen: cfg.Listen, Handler: withRequest(mux), CertFile: cfg.CertFile, KeyFile: cfg.KeyFile,
		Insecure: cfg.Insecure, Logger: a.logger,
	})
	return a, err
}

// Addr returns the address that the API listens on, with its real port.
func (a *SNAPAPI) Addr() netip.AddrPort { return a.server.Addr() }

// URL returns the URL of the API at HOST:PORT.
func (a *SNAPAPI) URL(host string) *url.URL { return a.server.URL(host) }

// Run serves requests until ctx ends.
func (a *SNAPAPI) Run(ctx context.Context) error {
	a.logger.Info("SNAP API listening", "url", a.URL(a.Addr().String()))
	return a.server.Run(ctx)
}

// reached returns the URL by which who sent a request reaches the API.
func (a *SNAPAPI) reached(r *http.Request) *url.URL {
	if a.cfg.URL != nil {
		return a.cfg.URL
	}
	return a.URL(r.Host)
}

// requestKey is where a context holds the request that it is of.
type requestKey struct{}

// withRequest lets what serves a request see how the client reached us: that
// is where it will reach the rest, whatever is between.
func withRequest(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), requestKey{}, r)))
	})
}

// dataPlane says where the data plane is. The handler replaces an unspecified
// address by the one at which a client reached us.
func (a *SNAPAPI) dataPlane() control.DataPlane {
	addr := a.cfg.DataPlane
	if !addr.IsValid() {
		addr = a.cfg.SNAP.Addr()
	}
	return control.DataPlane{Addr: addr, Control: a.cfg.URL, Key: a.cfg.SNAP.PublicKey()}
}

// underlays offers the SNAP to hosts of its AS, and not the routers: hosts prefer those, and reach
// only the ones of their own network.
func (a *SNAPAPI) underlays(ctx context.Context, ia scion.IA) (endhost.Underlays, error) {
	own := a.cfg.SNAP.IA()
	if ia.ISD() != 0 && ia.ISD() != own.ISD() || ia.AS() != 0 && ia.AS() != own.AS() {
		return endhost.Underlays{}, nil
	}
	r := ctx.Value(requestKey{}).(*http.Request)
	return endhost.Underlays{SNAPs: []endhost.SNAP{{URL: a.reached(r), IAs: []scion.IA{own}}}}, nil
}

// apis names this one to who discovers.
func (a *SNAPAPI) apis(r *http.Request) [][]string { return [][]string{{a.reached(r).String()}} }

func (a *SNAPAPI) segments(ctx context.Context, src, dst scion.IA) (endhost.Segments, error) {
	if src != a.cfg.SNAP.IA() {
		return endhost.Segments{}, fmt.Errorf("%w: this is the SNAP of %s", endhost.ErrSource, a.cfg.SNAP.IA())
	}
	if a.paths == nil || src == dst {
		return endhost.Segments{}, nil
	}
	return a.paths.Segments(ctx, src, dst)
}
