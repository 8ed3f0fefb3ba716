package endhost

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/snapproxy/snapproxy/scion"
)

const (
	maxRequest     = 64 << 10 // bytes of a body
	serveTimeout   = 30 * time.Second
	defaultPage    = pageSize
	contentTypeKey = "Content-Type"
)

// ErrSource is the error of HandlerConfig.Segments for a source AS that is none
// of the API's own. The caller hears HTTP 400 and the whole error's text.
var ErrSource = errors.New("the source is not an AS of this endhost API")

// HandlerConfig is what a handler answers from. Its functions are called
// concurrently and must heed their ctx, which has 30 seconds at most.
type HandlerConfig struct {
	// Underlays returns the underlays of ia, in which zeros stand for any. If
	// nil, there are none.
	Underlays func(ctx context.Context, ia scion.IA) (Underlays, error)
	// Segments returns the segments from src to dst, or an error that wraps
	// ErrSource. If nil, every source is one that ErrSource is for.
	Segments func(ctx context.Context, src, dst scion.IA) (Segments, error)
	// APIs returns the groups of URLs that discovery names to who sent the
	// request. If nil, none.
	APIs func(*http.Request) [][]string
	// Authorize returns an error, whose text the caller hears with HTTP 401 or
	// which answers itself if it is a http.Handler, if
	// a request may not be answered. Discovery is open. If nil, all is.
	Authorize func(*http.Request) error
	// Logger hears why an answer was an error of ours, or a segment was left
	// out. If nil, nobody does.
	Logger *slog.Logger
}

// handler serves the endhost API.
type handler struct {
	HandlerConfig
	log *slog.Logger
}

// NewHandler returns a handler that serves ListUnderlays, ListSegments (which
// answers to its old name ListPaths, too) and GetEndhostApis at the root.
// Answers are what the strictest known decoder, that of the Rust SDK, can bear:
// segments that it could not are left out, and a page holds them all unless a
// caller asked for less than 128 at a time.
func NewHandler(config HandlerConfig) http.Handler {
	h := &handler{HandlerConfig: config, log: config.Logger}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /"+methodUnderlays, h.authorized(h.underlays))
	mux.HandleFunc("POST /"+methodSegments, h.authorized(h.segments))
	mux.HandleFunc("POST /"+methodPaths, h.authorized(h.segments))
	mux.HandleFunc("POST /"+methodAPIs, h.apis)
	return mux
}

func (h *handler) authorized(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if h.Authorize != nil {
			if err := h.Authorize(r); err != nil {
				var answer http.Handler
				if errors.As(err, &answer) {
					answer.ServeHTTP(w, r)
				} else {
					writeText(w, http.StatusUnauthorized, err.Error())
				}
				return
			}
		}
		ctx, cancel := context.WithTimeout(r.Context(), serveTimeout)
		defer cancel()
		next(w, r.WithContext(ctx))
	}
}

func (h *handler) underlays(w http.ResponseWriter, r *http.Request) {
	body, _, ok := readRequest(w, r, false)
	if !ok {
		return
	}
	ia, err := parseUnderlaysRequest(body)
	if err != nil {
		writeError(w, http.StatusBadRequest, "invalid_argument", err.Error())
		return
	}
	var u Underlays
	if h.Underlays != nil {
		if u, err = h.Underlays(r.Context(), ia); err != nil {
			h.log.Warn("underlays could not be listed", "isd_as", ia, "error", err)
			writeError(w, http.StatusServiceUnavailable, "unavailable", "the underlays are not known at the moment")
			return
		}
	}
	writeProto(w, appendUnderlays(nil, u))
}

func (h *handler) segments(w http.ResponseWriter, r *http.Request) {
	body, _, ok := readRequest(w, r, false)
	if !ok {
		return
	}
	request, err := parseSegmentsRequest(body)
	offset := 0
	if err == nil && request.token != "" {
		offset, err = parsePageToken(request.token)
	}
	if err != nil {
		writeError(w, http.StatusBadRequest, "invalid_argument", err.Error())
		return
	}
	var s Segments
	err = fmt.Errorf("%w: %s", ErrSource, request.src)
	if h.Segments != nil {
		s, err = h.Segments(r.Context(), request.src, request.dst)
	}
	switch {
	case errors.Is(err, ErrSource):
		writeText(w, http.StatusBadRequest, err.Error())
		return
	case err != nil:
		h.log.Warn("segments could not be listed", "to", request.dst, "error", err)
		writeText(w, http.StatusInternalServerError, "the segments are not known at the moment")
		return
	}
	s, refused := decodable(s)
	if refused.count > 0 {
		h.log.Warn("segments left out of an answer", "to", request.dst, "count", refused.count, "first_reason", refused.first)
	}
	var next string
	if request.size > 0 && request.size < defaultPage || offset > 0 {
		size := int(request.size)
		if size <= 0 {
			size = defaultPage
		}
		var at int
		if s, at = s.page(offset, size); at > 0 {
			next = strconv.Itoa(at)
		}
	}
	writeProto(w, appendSegments(nil, s, next))
}

// parsePageToken parses a page token of ours: an offset.
func parsePageToken(s string) (int, error) {
	v, err := strconv.ParseUint(s, 10, 31)
	if err != nil {
		return 0, errors.New("the page token is not one of this API")
	}
	return int(v), nil
}

func (h *handler) apis(w http.ResponseWriter, r *http.Request) {
	_, asJSON, ok := readRequest(w, r, true)
	if !ok {
		return
	}
	var groups [][]string
	if h.APIs != nil {
		groups = h.APIs(r)
	}
	if asJSON {
		writeJSON(w, http.StatusOK, jsonAPIs(groups))
		return
	}
	writeProto(w, appendAPIs(nil, groups))
}

// The JSON form of a GetEndhostApisResponse.
type (
	apisJSON struct {
		Groups []groupJSON `json:"groups"`
	}
	groupJSON struct {
		APIs []apiJSON `json:"apis"`
	}
	apiJSON struct {
		Address string `json:"address"`
	}
)

func jsonAPIs(groups [][]string) apisJSON {
	answer := apisJSON{Groups: []groupJSON{}}
	for _, g := range groups {
		group := groupJSON{APIs: []apiJSON{}}
		for _, api := range g {
			if api != "" {
				group.APIs = append(group.APIs, apiJSON{api})
			}
		}
		answer.Groups = append(answer.Groups, group)
	}
	return answer
}

// readRequest reads the body of a request of a type that is served. If it is
// not ok, it has answered.
func readRequest(w http.ResponseWriter, r *http.Request, orJSON bool) (body []byte, asJSON, ok bool) {
	media, _, err := mime.ParseMediaType(r.Header.Get(contentTypeKey))
	if err != nil { // a type with bad parameters: they do not matter
		media, _, _ = strings.Cut(r.Header.Get(contentTypeKey), ";")
		media = strings.ToLower(strings.TrimSpace(media))
	}
	asJSON = orJSON && media == contentJSON
	if media != contentProto && !asJSON {
		writeError(w, http.StatusBadRequest, "invalid_argument",
			fmt.Sprintf("invalid content type: expected %s, got %q", contentProto, printable(media, 80)))
		return nil, false, false
	}
	body, err = io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	var tooLong *http.MaxBytesError
	switch {
	case errors.As(err, &tooLong):
		writeError(w, http.StatusRequestEntityTooLarge, "resource_exhausted", tooLong.Error())
		return nil, false, false
	case err != nil:
		writeError(w, http.StatusBadRequest, "invalid_argument", "the body could not be read")
		return nil, false, false
	}
	return body, asJSON, true
}

func writeProto(w http.ResponseWriter, body []byte) {
	w.Header().Set(contentTypeKey, contentProto)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.Write(body) // whoever asked has gone if this fails
}

// writeError answers with an error as Connect has it.
func writeError(w http.ResponseWriter, status int, code, message string) {
	writeJSON(w, status, struct {
		Code    string  `json:"code"`
		Message string  `json:"message"`
		Detail  *string `json:"detail"` // the Rust SDK writes a null here
	}{code, message, nil})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		status, body = http.StatusInternalServerError, []byte(`{"code":"internal","message":"the answer could not be encoded"}`)
	}
	w.Header().Set(contentTypeKey, contentJSON)
	w.WriteHeader(status)
	w.Write(body)
}

// writeText answers with text of no type, as the Rust SDK's servers do for what
// is not an error of a handler.
func writeText(w http.ResponseWriter, status int, text string) {
	w.Header()[contentTypeKey] = nil
	w.WriteHeader(status)
	io.WriteString(w, text)
}
