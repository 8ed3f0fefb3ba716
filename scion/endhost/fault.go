package endhost

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

// An Error is what a server answered instead of what it was asked for. It is
// syscall.EACCES for errors.Is if the server wanted another token or none of us.
type Error struct {
	Status  int    // of HTTP
	Code    string // of Connect, such as unavailable; derived from Status if the server named none
	Message string // what the server said, printable and cut to 200 characters
}

// Error returns "code: message" as the server put it, or "HTTP 401: text".
func (e *Error) Error() string { return e.Message }

// Is maps refusals to syscall.EACCES.
func (e *Error) Is(target error) bool {
	return target == syscall.EACCES && (e.Code == "unauthenticated" || e.Code == "permission_denied")
}

// Temporary reports whether the server may well answer later.
func (e *Error) Temporary() bool {
	switch e.Code {
	case "unavailable", "deadline_exceeded", "resource_exhausted", "aborted":
		return true
	}
	return false
}

// parseError makes an Error of an answer that is none of success: Connect's
// JSON if it is that, whatever its content type says, or else the text.
func parseError(status int, contentType string, body []byte) *Error {
	var named struct{ Code, Message *string }
	if err := json.Unmarshal(body, &named); err == nil && named.Code != nil && named.Message != nil {
		code := printable(*named.Code, 40)
		return &Error{status, code, code + ": " + printable(*named.Message, maxErrorText)}
	}
	text := printable(string(body), maxErrorText)
	if isHTML(contentType, body) {
		text = "a page of HTML"
	}
	if text == "" {
		text = strings.ToLower(http.StatusText(status))
	}
	return &Error{status, codeOf(status), fmt.Sprintf("HTTP %d: %s", status, text)}
}

// codeOf returns the Connect code that stands for a status, as the clients of
// the Rust SDK derive it.
func codeOf(status int) string {
	switch status {
	case http.StatusBadRequest:
		return "invalid_argument"
	case http.StatusUnauthorized:
		return "unauthenticated"
	case http.StatusForbidden:
		return "permission_denied"
	case http.StatusNotFound:
		return "not_found"
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return "unavailable"
	case http.StatusInternalServerError:
		return "internal"
	}
	return "unknown"
}

func isHTML(contentType string, body []byte) bool {
	return strings.HasPrefix(contentType, "text/html") || strings.HasPrefix(http.DetectContentType(body), "text/html")
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
