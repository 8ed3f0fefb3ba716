package control

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"
)

// HandlerConfig configures a Handler.
type HandlerConfig struct {
	// Verifier judges the tokens.
	Verifier *Verifier
	// Registry takes the keys.
	Registry *Registry
	// DataPlane returns where the SNAP's tunnels end. If its address is
	// unspecified, clients are told the one they have reached the API at; if
	// it has no Control, the URL they have reached.
	DataPlane func() DataPlane
	// Logger receives refusals, at level debug. If nil, nothing is logged.
	Logger *slog.Logger
}

// A Handler serves the service anapaya.snap.v1.SnapControl, behind bearer
// tokens. It bounds neither bodies nor time: a Server does.
type Handler struct {
	cfg    HandlerConfig
	logger *slog.Logger
}

// NewHandler returns a Handler. All of cfg but Logger is needed.
func NewHandler(cfg HandlerConfig) *Handler {
	return &Handler{cfg: cfg, logger: orDiscard(cfg.Logger)}
}

// ServicePath is where a Handler belongs in a [http.ServeMux].
const ServicePath = servicePath

// A Refusal is why a request may not be made. It is a http.Handler that answers
// so.
type Refusal struct{ Err error }

// Error returns the text of the reference's refusals, which clients show.
func (e *Refusal) Error() string { return "SNAP Token validation failed: " + e.Err.Error() }

// Unwrap returns the reason.
func (e *Refusal) Unwrap() error { return e.Err }

// ServeHTTP answers with 401 and a text, as the reference does, or with 503 if
// the token may be good.
func (e *Refusal) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	if errors.Is(e.Err, ErrNoKeys) {
		writeError(w, codeUnavailable, e.Err.Error())
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("WWW-Authenticate", "Bearer")
	w.WriteHeader(http.StatusUnauthorized)
	io.WriteString(w, e.Error())
}

var (
	errNoAuthorization = errors.New("authorization header is missing")
	errNotBearer       = errors.New("authorization header is not a bearer token")
)

// Authorize returns a *Refusal unless the request has a good token.
func (h *Handler) Authorize(r *http.Request) error {
	_, err := h.authorize(r)
	return err
}

func (h *Handler) authorize(r *http.Request) (Claims, error) {
	values := r.Header.Values("Authorization")
	err := errNoAuthorization
	var c Claims
	if len(values) == 1 {
		token, ok := strings.CutPrefix(values[0], bearer)
		if err = errNotBearer; ok {
			c, err = h.cfg.Verifier.Verify(r.Context(), token)
		}
	} else if len(values) > 1 {
		err = errors.New("more than one authorization header")
	}
	if err != nil {
		h.logger.Debug("token refused", "from", r.RemoteAddr, "error", err)
		return Claims{}, &Refusal{err}
	}
	return c, nil
}

// Guard returns a handler that passes on to next what has a good token.
func (h *Handler) Guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := h.authorize(r); err != nil {
			refuse(w, r, err)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func refuse(w http.ResponseWriter, r *http.Request, err error) {
	var refusal *Refusal
	if errors.As(err, &refusal) {
		refusal.ServeHTTP(w, r)
		return
	}
	writeError(w, codeInternal, "")
}

// ServeHTTP serves the two methods of the service.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var serve func(w http.ResponseWriter, r *http.Request, c Claims, body []byte)
	switch r.URL.Path {
	case methodDataPlane:
		serve = h.serveDataPlane
	case methodRegister:
		serve = h.serveRegister
	default:
		http.Error(w, "", http.StatusNotFound)
		return
	}
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "", http.StatusMethodNotAllowed)
		return
	}
	c, err := h.authorize(r)
	if err != nil {
		refuse(w, r, err)
		return
	}
	if !isProto(r.Header.Get("Content-Type")) {
		writeError(w, codeInvalidArgument, "content type is not "+contentType)
		return
	}
	if e := r.Header.Get("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") {
		writeError(w, codeInvalidArgument, "content encoding is not known")
		return
	}
	body, err := io.ReadAll(r.Body)
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		writeStatus(w, http.StatusRequestEntityTooLarge, codeResourceExhausted, "request body is too large")
		return
	case err != nil:
		writeError(w, codeInvalidArgument, "request body cannot be read")
		return
	}
	serve(w, r, c, body)
}

func (h *Handler) serveDataPlane(w http.ResponseWriter, r *http.Request, _ Claims, body []byte) {
	if err := parseEmpty(body); err != nil {
		writeError(w, codeInvalidArgument, err.Error())
		return
	}
	d := h.cfg.DataPlane()
	if local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok && d.Addr.Addr().IsUnspecified() {
		if a, err := netip.ParseAddrPort(local.String()); err == nil {
			d.Addr = netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), d.Addr.Port())
		}
	}
	if d.Control == nil {
		d.Control = reached(r)
	}
	writeMessage(w, dataPlaneAnswer{d.Addr.String(), d.Control.String(), d.Key[:]}.append(nil))
}

// reached is the URL that a request was sent to.
func reached(r *http.Request) *url.URL {
	u := &url.URL{Scheme: "http", Host: r.Host, Path: "/"}
	if r.TLS != nil {
		u.Scheme = "https"
	}
	return u
}

func (h *Handler) serveRegister(w http.ResponseWriter, r *http.Request, c Claims, body []byte) {
	m, err := parseRegistration(body)
	if err != nil {
		writeError(w, codeInvalidArgument, err.Error())
		return
	}
	key, err := m.identity()
	if err != nil {
		writeError(w, codeInvalidArgument, err.Error())
		return
	}
	switch err := h.cfg.Registry.Register(c, key, h.now()); {
	case errors.Is(err, ErrFull):
		h.logger.Warn("identity not registered", "error", err)
		writeError(w, codeResourceExhausted, err.Error())
	case errors.Is(err, ErrRevoked):
		refuse(w, r, &Refusal{err})
	case err != nil: // inside the leeway, the token was good
		writeError(w, codeInvalidArgument, err.Error())
	default:
		writeMessage(w, registered{make([]byte, pskShareSize)}.append(nil))
	}
}

func (h *Handler) now() time.Time { return h.cfg.Verifier.now() }

func writeMessage(w http.ResponseWriter, b []byte) {
	w.Header().Set("Content-Type", contentType)
	w.Write(b)
}

// writeError answers as the reference does (snap.md §4.2).
func writeError(w http.ResponseWriter, code, message string) {
	writeStatus(w, statusOf(code), code, message)
}

func writeStatus(w http.ResponseWriter, status int, code, message string) {
	b, err := json.Marshal(struct {
		Code    string  `json:"code"`
		Message string  `json:"message"`
		Detail  *string `json:"detail"`
	}{code, message, nil})
	if err != nil {
		panic("control: " + err.Error()) // it is only strings
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(b)
}
