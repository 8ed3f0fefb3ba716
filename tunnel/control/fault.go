package control

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"unicode"
)

// maxErrorText is how much of a peer's text an error repeats, in characters.
const maxErrorText = 200

// Codes of Connect that we use.
const (
	codeInvalidArgument   = "invalid_argument"
	codeUnauthenticated   = "unauthenticated"
	codePermissionDenied  = "permission_denied"
	codeNotFound          = "not_found"
	codeResourceExhausted = "resource_exhausted"
	codeInternal          = "internal"
	codeUnavailable       = "unavailable"
	codeUnknown           = "unknown"
)

// An Error is what a SNAP answered instead of what it was asked for. For
// errors.Is it is syscall.EACCES if the SNAP refuses the token or wants one.
type Error struct {
	Status  int    // of HTTP
	Code    string // of Connect, such as unavailable; derived from Status if the SNAP named none
	Message string // what the SNAP said, printable and cut to 200 characters
}

// Error returns "code: message" as the SNAP put it, or "HTTP 401: text".
func (e *Error) Error() string { return e.Message }

// Is maps refusals to syscall.EACCES.
func (e *Error) Is(target error) bool {
	return target == syscall.EACCES && (e.Code == codeUnauthenticated || e.Code == codePermissionDenied)
}

// Temporary reports whether the SNAP may well answer later.
func (e *Error) Temporary() bool {
	switch e.Code {
	case codeUnavailable, "deadline_exceeded", codeResourceExhausted, "aborted":
		return true
	}
	return false
}

// parseError makes an Error of an answer that is none of success: Connect's
// JSON if it is that, whatever its content type says, or else the text. The
// token is struck out, lest a SNAP that repeats it puts it into a log.
func parseError(status int, contentType string, body []byte, token string) *Error {
	var named struct{ Code, Message *string }
	if err := json.Unmarshal(body, &named); err == nil && named.Code != nil && named.Message != nil {
		code := printable(*named.Code, 40)
		return &Error{status, code, code + ": " + printable(strike(*named.Message, token), maxErrorText)}
	}
	text := printable(strike(string(body), token), maxErrorText)
	if isHTML(contentType, body) {
		text = "a page of HTML"
	}
	if text == "" {
		text = strings.ToLower(http.StatusText(status))
	}
	return &Error{status, codeOf(status), fmt.Sprintf("HTTP %d: %s", status, text)}
}

// strike removes a token from a text, and whatever else looks like one.
func strike(text, token string) string {
	if token != "" {
		text = strings.ReplaceAll(text, token, "[token]")
	}
	return tokenLike.ReplaceAllString(text, "[token]")
}

// codeOf returns the Connect code that stands for a status, as the clients of
// the Rust SDK derive it (snap.md §4.2).
func codeOf(status int) string {
	switch status {
	case http.StatusBadRequest:
		return codeInvalidArgument
	case http.StatusUnauthorized:
		return codeUnauthenticated
	case http.StatusForbidden:
		return codePermissionDenied
	case http.StatusNotFound:
		return codeNotFound
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return codeUnavailable
	case http.StatusInternalServerError:
		return codeInternal
	}
	return codeUnknown
}

// statusOf returns the status that goes with a code in our answers.
func statusOf(code string) int {
	switch code {
	case codeInvalidArgument:
		return http.StatusBadRequest
	case codeUnauthenticated:
		return http.StatusUnauthorized
	case codePermissionDenied:
		return http.StatusForbidden
	case codeNotFound:
		return http.StatusNotFound
	case codeUnavailable, codeResourceExhausted:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

func isHTML(contentType string, body []byte) bool {
	return strings.HasPrefix(strings.ToLower(contentType), "text/html") || strings.HasPrefix(http.DetectContentType(body), "text/html")
}

// printable returns at most n characters of a stranger's text on one line: what
// is not printable, and what could command a terminal, becomes a space.
func printable(s string, n int) string {
	var b strings.Builder
	space := false
	for _, r := range s {
		if !unicode.IsPrint(r) || unicode.IsSpace(r) {
			space = b.Len() > 0
			continue
		}
		if n--; n < 0 {
			b.WriteString("…")
			break
		}
		if space {
			b.WriteByte(' ')
			space = false
		}
		b.WriteRune(r)
	}
	return b.String()
}
