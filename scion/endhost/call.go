package endhost

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync/atomic"
	"time"
)

const (
	contentProto = "application/proto"
	contentJSON  = "application/json"
	userAgent    = "snapproxy"

	maxBody        = 4 << 20 // of an answer
	maxErrorBody   = 8 << 10
	maxHeader      = 64 << 10
	defaultTimeout = 10 * time.Second
)

var errBody = fmt.Errorf("the answer is longer than %d bytes", maxBody)

// call posts a request to a method and returns the body of the answer, and the
// scope of the address that gave it.
func call(ctx context.Context, h *http.Client, u *url.URL, token string, request []byte) (body []byte, by Scope, err error) {
	var scope atomic.Int32
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		scope.Store(int32(scopeOfConn(info.Conn)))
	}})
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), bytes.NewReader(request))
	if err != nil {
		return nil, 0, err
	}
	req.Header.Set("Content-Type", contentProto)
	req.Header.Set("User-Agent", userAgent)
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := h.Do(req)
	if err != nil {
		var wrapped *url.Error
		if errors.As(err, &wrapped) {
			err = wrapped.Err // the callers say what was asked of whom
		}
		return nil, 0, err
	}
	defer resp.Body.Close()
	body, err = readAnswer(resp, token)
	return body, Scope(scope.Load()), err
}

// readAnswer returns the body of a successful answer and makes an error of any
// other. Some servers repeat the token that they refuse; the error does not.
func readAnswer(resp *http.Response, token string) ([]byte, error) {
	contentType := resp.Header.Get("Content-Type")
	if 300 <= resp.StatusCode && resp.StatusCode < 400 {
		return nil, fmt.Errorf("HTTP %d: it redirects to %s, and redirects are not followed",
			resp.StatusCode, quoteURL(resp.Header.Get("Location")))
	}
	if resp.StatusCode != http.StatusOK {
		body, err := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
		if err != nil && len(body) == 0 {
			return nil, fmt.Errorf("read the answer: %w", err)
		}
		if token != "" {
			body = bytes.ReplaceAll(body, []byte(token), []byte("…"))
		}
		return nil, parseError(resp.StatusCode, contentType, body)
	}
	media, _, err := mime.ParseMediaType(contentType)
	switch {
	case err == nil && media == "text/html":
		return nil, errors.New("the answer is a page of HTML, not of this API (a captive portal?)")
	case err != nil || media != contentProto:
		return nil, fmt.Errorf("the answer is of type %q, not %s", printable(contentType, 80), contentProto)
	}
	if coding := resp.Header.Get("Content-Encoding"); coding != "" && !strings.EqualFold(coding, "identity") {
		return nil, fmt.Errorf("the answer is compressed (%q), which was not asked for", printable(coding, 40))
	}
	if resp.ContentLength > maxBody {
		return nil, errBody
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read the answer: %w", err)
	case len(body) > maxBody:
		return nil, errBody
	}
	return body, nil
}
