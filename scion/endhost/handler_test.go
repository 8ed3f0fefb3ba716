package endhost

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/snapproxy/snapproxy/scion"
)

func TestHandlerAnswersAsTheRustOne(t *testing.T) {
	w := newWorld(t)
	segments := Segments{Up: w.segments(t, "110 1>2 111")}
	down := errors.New("the control service at 10.0.0.1 is gone")
	h := NewHandler(HandlerConfig{
		Underlays: func(_ context.Context, ia scion.IA) (Underlays, error) {
			if ia == as("112") {
				return Underlays{}, down
			}
			return Underlays{}, nil
		},
		Segments: func(_ context.Context, src, dst scion.IA) (Segments, error) {
			switch {
			case src != as("111"):
				return Segments{}, ErrSource
			case dst == as("112"):
				return Segments{}, down
			}
			return segments, nil
		},
		APIs: func(*http.Request) [][]string { return [][]string{{"http://a.example", "", "http://b.example"}, {}} },
		Authorize: func(r *http.Request) error {
			if r.Header.Get("Authorization") == "Bearer bad" {
				return errors.New("SNAP Token validation failed: expired")
			}
			return nil
		},
	})
	ask := func(src, dst string) string {
		return string(segmentsRequest{as(src), as(dst), 128, ""}.append(nil))
	}
	good := appendSegments(nil, segments, "")
	const apisJSON = `{"groups":[{"apis":[{"address":"http://a.example"},{"address":"http://b.example"}]},{"apis":[]}]}`
	const apisProto = "\x0a\x28\x0a\x12\x0a\x10http://a.example\x0a\x12\x0a\x10http://b.example\x0a\x00"
	tests := []struct {
		name               string
		method, path       string
		contentType, token string
		body               string
		status             int
		wantType, want     string
	}{
		{"underlays", "POST", methodUnderlays, contentProto, "", "", 200, contentProto, "\x0a\x00\x12\x00"},
		{"underlays of an AS", "POST", methodUnderlays, contentProto, "", "\x08\x01", 200, contentProto, "\x0a\x00\x12\x00"},
		{"another spelling of the type", "POST", methodUnderlays, "Application/Proto; charset=utf-8", "", "", 200, contentProto, "\x0a\x00\x12\x00"},
		{"a parameter that is none", "POST", methodUnderlays, "application/proto;;=", "", "", 200, contentProto, "\x0a\x00\x12\x00"},
		{"unknown fields", "POST", methodUnderlays, contentProto, "", "\x5a\x01x\x65abcd", 200, contentProto, "\x0a\x00\x12\x00"},
		{"no type", "POST", methodUnderlays, "", "", "", 400, contentJSON, `{"code":"invalid_argument","message":"invalid content type: expected application/proto, got \"\"","detail":null}`},
		{"JSON", "POST", methodUnderlays, contentJSON, "", "{}", 400, contentJSON, `{"code":"invalid_argument","message":"invalid content type: expected application/proto, got \"application/json\"","detail":null}`},
		{"nonsense", "POST", methodUnderlays, contentProto, "", "\x08", 400, contentJSON, `{"code":"invalid_argument","message":"malformed message: unexpected EOF","detail":null}`},
		{"much", "POST", methodUnderlays, contentProto, "", strings.Repeat("x", maxRequest+1), 413, contentJSON, `{"code":"resource_exhausted","message":"http: request body too large","detail":null}`},
		{"GET", "GET", methodUnderlays, contentProto, "", "", 405, "text/plain; charset=utf-8", "Method Not Allowed\n"},
		{"an unknown method", "POST", "scion.endhost.v1.UnderlayService/Drop", contentProto, "", "", 404, "text/plain; charset=utf-8", "404 page not found\n"},
		{"underlays that are not known", "POST", methodUnderlays, contentProto, "", string(appendUnderlaysRequest(nil, as("112"))), 503, contentJSON, `{"code":"unavailable","message":"the underlays are not known at the moment","detail":null}`},
		{"a bad token", "POST", methodUnderlays, contentProto, "bad", "", 401, "", "SNAP Token validation failed: expired"},
		{"segments", "POST", methodSegments, contentProto, "", ask("111", "110"), 200, contentProto, string(good)},
		{"segments by the old name", "POST", methodPaths, contentProto, "", ask("111", "110"), 200, contentProto, string(good)},
		{"segments with a bad token", "POST", methodPaths, contentProto, "bad", ask("111", "110"), 401, "", "SNAP Token validation failed: expired"},
		{"segments from elsewhere", "POST", methodSegments, contentProto, "", ask("110", "111"), 400, "", "the source is not an AS of this endhost API"},
		{"segments that are not known", "POST", methodSegments, contentProto, "", ask("111", "112"), 500, "", "the segments are not known at the moment"},
		{"a token of another API", "POST", methodSegments, contentProto, "", ask("111", "110") + "\x22\x01x", 400, contentJSON, `{"code":"invalid_argument","message":"the page token is not one of this API","detail":null}`},
		{"discovery", "POST", methodAPIs, contentProto, "bad", "", 200, contentProto, apisProto},
		{"discovery in JSON", "POST", methodAPIs, contentJSON, "", "{}", 200, contentJSON, apisJSON},
		{"discovery in a text", "POST", methodAPIs, "text/plain", "", "{}", 400, contentJSON, `{"code":"invalid_argument","message":"invalid content type: expected application/proto, got \"text/plain\"","detail":null}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest(tt.method, "/"+tt.path, strings.NewReader(tt.body))
			if tt.contentType != "" {
				r.Header.Set("Content-Type", tt.contentType)
			}
			if tt.token != "" {
				r.Header.Set("Authorization", "Bearer "+tt.token)
			}
			rec := httptest.NewRecorder()
			h.ServeHTTP(rec, r)
			got := rec.Result()
			if got.StatusCode != tt.status || got.Header.Get("Content-Type") != tt.wantType || rec.Body.String() != tt.want {
				t.Errorf("got %d %q %q\nwant %d %q %q", got.StatusCode, got.Header.Get("Content-Type"), rec.Body, tt.status, tt.wantType, tt.want)
			}
		})
	}
}

func TestHandlerOfNothing(t *testing.T) {
	c := clientOf(t, NewHandler(HandlerConfig{}), "")
	if _, err := c.Underlays(t.Context(), 0); err == nil || !strings.HasSuffix(err.Error(), errNoUnderlays.Error()) {
		t.Errorf("underlays: %v", err)
	}
	if _, err := c.Segments(t.Context(), as("111"), as("112")); err == nil || !strings.Contains(err.Error(), "HTTP 400: the source is not") {
		t.Errorf("segments: %v", err)
	}
}

// TestHandlerLeavesOutWhatStrictDecodersRefuse: one of them fails the whole
// answer at the Rust SDK.
func TestHandlerLeavesOutWhatStrictDecodersRefuse(t *testing.T) {
	w := newWorld(t)
	good := w.segment(t, "110 1>2 111")
	d := drawn{bytes.Repeat([]byte{15}, 40)}                                                    // a MAC of seven bytes, and an egress at the end
	infoless := &PathSegment{[]byte("\x10\x80\x80\x04"), good.Entries}                          // segment_id 65536
	early := &PathSegment{[]byte("\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), good.Entries} // timestamp -1
	unsigned := &PathSegment{good.Info, make([]SignedEntry, 2)}
	c := clientOf(t, NewHandler(HandlerConfig{Segments: func(context.Context, scion.IA, scion.IA) (Segments, error) {
		return Segments{
			Up:   segmentList{unsigned, nil, good, infoless},
			Core: segmentList{d.segment(w.made), early},
			Down: segmentList{good, {}},
		}, nil
	}}), "")
	s, err := c.Segments(t.Context(), as("111"), as("112"))
	if err != nil || len(s.Up) != 1 || len(s.Core) != 0 || len(s.Down) != 1 {
		t.Errorf("got %d up, %d core, %d down, %v", len(s.Up), len(s.Core), len(s.Down), err)
	}
}

func TestHandlerPages(t *testing.T) {
	w := newWorld(t)
	var all Segments
	for range 150 {
		all.Up = append(all.Up, w.segment(t, "110 1>2 111"))
	}
	all.Core = w.segments(t, "210 1>2 110")
	all.Down = w.segments(t, "210 1>2 211", "210 3>4 211")
	h := NewHandler(HandlerConfig{Segments: func(context.Context, scion.IA, scion.IA) (Segments, error) { return all, nil }})
	for _, size := range []int32{-1, 0, 1, 7, 64, 127, 128, 1000} {
		var got Segments
		request := segmentsRequest{as("111"), as("211"), size, ""}
		pages := 0
		for {
			rec := httptest.NewRecorder()
			r := httptest.NewRequest("POST", "/"+methodSegments, bytes.NewReader(request.append(nil)))
			r.Header.Set("Content-Type", contentProto)
			h.ServeHTTP(rec, r)
			before := got.Len()
			next, err := parseSegments(&got, rec.Body.Bytes())
			if err != nil || rec.Code != 200 {
				t.Fatal(rec.Code, err)
			}
			pages++
			if n := got.Len() - before; size > 0 && size < pageSize && n > int(size) {
				t.Errorf("a page of %d has %d segments", size, n)
			}
			if next == "" {
				break
			}
			request.token = next
		}
		if ids(got) != ids(all) {
			t.Errorf("pages of %d do not make the whole", size)
		}
		if (size <= 0 || size >= pageSize) && pages != 1 {
			t.Errorf("page size %d: %d pages; clients that follow none must get all", size, pages)
		}
	}
}

func TestDiscover(t *testing.T) {
	var path, token string
	var inner http.Handler
	c := clientOf(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path, token = r.URL.Path, r.Header.Get("Authorization")
		inner.ServeHTTP(w, r)
	}), "secret")
	inner = NewHandler(HandlerConfig{APIs: func(*http.Request) [][]string {
		return [][]string{{"http://127.0.0.1:1/x/", "ftp://a"}, {"nonsense"}, {"https://api.example"}}
	}})
	groups, err := Discover(t.Context(), c.config, parsed(t, c.config.URL.String()+"/some/where"))
	if err != nil || len(groups) != 2 || groups[0][0].String() != "http://127.0.0.1:1/x/" || groups[1][0].Host != "api.example" {
		t.Errorf("got %v, %v", groups, err)
	}
	if path != "/"+methodAPIs || token != "" {
		t.Errorf("asked %s with %q", path, token)
	}
	for want, apis := range map[string][][]string{
		"it names no endhost API":                       nil,
		`endhost API "nonsense": the scheme is neither`: {{"nonsense"}},
		"too many elements":                             make([][]string, maxGroups+1),
	} {
		inner = NewHandler(HandlerConfig{APIs: func(*http.Request) [][]string { return apis }})
		if _, err := Discover(t.Context(), ClientConfig{}, c.config.URL); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	if _, err := Discover(t.Context(), ClientConfig{}, parsed(t, "http://127.0.0.1:1")); err == nil || !strings.HasPrefix(err.Error(), "discover endhost APIs at http://127.0.0.1:1/: ") {
		t.Errorf("nobody there: %v", err)
	}
}

func TestPublicDiscoveryNamesNoLoopback(t *testing.T) {
	b := appendAPIs(nil, [][]string{{"http://127.0.0.1:1", "https://10.0.0.1", "https://api.example"}})
	groups, refused, err := parseAPIs(b, ScopePublic)
	if err != nil || len(groups) != 1 || len(groups[0]) != 1 || refused == nil || !strings.Contains(refused.Error(), "127.0.0.1 is a loopback address, named by a public API") {
		t.Errorf("got %v, %v, %v", groups, refused, err)
	}
}

func FuzzParseAPIs(f *testing.F) {
	f.Add(appendAPIs(nil, [][]string{{"http://127.0.0.1:1", ""}, {"https://api.example/x/"}, {}}), 0)
	f.Fuzz(func(t *testing.T, b []byte, by int) {
		groups, refused, err := parseAPIs(b, Scope(by&3))
		if err == nil && refused == nil && len(groups) == 0 {
			t.Error("nothing, and no reason")
		}
		for _, g := range groups {
			for _, u := range g {
				if err := checkURL(u); err != nil || len(g) > maxGroupAPIs || len(groups) > maxGroups {
					t.Errorf("%s: %v", u, err)
				}
			}
		}
	})
}

func FuzzParseError(f *testing.F) {
	f.Add(401, "text/plain", []byte(`{"code":"unauthenticated","message":"x"}`))
	f.Add(502, "text/html", []byte("<html>"))
	f.Add(0, "", []byte("\x1b[2J\xff\u202e"))
	f.Fuzz(func(t *testing.T, status int, contentType string, body []byte) {
		text := parseError(status, contentType, body).Error()
		if n := len([]rune(text)); n > maxErrorText+60 {
			t.Errorf("%d characters", n)
		}
		for _, r := range text {
			if r < ' ' || r == 0x7f || r == 0x9b || r == 0x202e {
				t.Errorf("%q has %U", text, r)
			}
		}
	})
}

// FuzzHandler holds that no request makes the handler fail, and that it answers
// as it says.
func FuzzHandler(f *testing.F) {
	w := newWorld(f)
	all := Segments{w.segments(f, "110 1>2 111"), nil, w.segments(f, "110 1>2 112")}
	h := NewHandler(HandlerConfig{
		Segments: func(context.Context, scion.IA, scion.IA) (Segments, error) { return all, nil },
		APIs:     func(*http.Request) [][]string { return [][]string{{"http://a"}} },
	})
	f.Add(0, contentProto, []byte("\x08\x01"))
	f.Add(1, contentProto, segmentsRequest{1, 2, 1, "1"}.append(nil))
	f.Add(3, contentJSON, []byte("{}"))
	f.Fuzz(func(t *testing.T, method int, contentType string, body []byte) {
		r := httptest.NewRequest("POST", "/"+[]string{methodUnderlays, methodSegments, methodPaths, methodAPIs}[method&3], bytes.NewReader(body))
		r.Header.Set("Content-Type", contentType)
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, r)
		switch media := rec.Header().Get("Content-Type"); {
		case rec.Code == 200 && media == contentProto:
		case (rec.Code == 200 || rec.Code == 400 || rec.Code == 413) && media == contentJSON:
			if !json.Valid(rec.Body.Bytes()) {
				t.Errorf("not JSON: %q", rec.Body)
			}
		default:
			t.Errorf("answered %d %s", rec.Code, media)
		}
	})
}
