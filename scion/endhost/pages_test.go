package endhost

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

func TestClientFollowsPages(t *testing.T) {
	w := newWorld(t)
	all := Segments{
		w.segments(t, "110 1>2 111", "110 3>4 111", "110 5>6 111"),
		w.segments(t, "210 1>2 110"),
		w.segments(t, "210 1>2 211", "210 3>4 211", "210 5>6 211", "210 7>8 211"),
	}
	for size := 1; size <= all.Len()+1; size++ {
		pages := 0
		c := clientOf(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			request := requestOf(t, r)
			if request.src != as("111") || request.dst != as("211") || request.size != pageSize {
				t.Errorf("page %d: asked %+v", pages, request)
			}
			offset := 0
			if request.token != "" {
				fmt.Sscanf(request.token, "page at %d", &offset)
			}
			pages++
			part, next := all.page(offset, size)
			token := ""
			if next > 0 {
				token = fmt.Sprintf("page at %d", next)
			}
			answerSegments(w, part, token)
		}), "")
		got, err := c.Segments(t.Context(), as("111"), as("211"))
		if err != nil || ids(got) != ids(all) || pages != (all.Len()+size-1)/size {
			t.Errorf("%d pages of %d: %v, got %s, want %s", pages, size, err, ids(got), ids(all))
		}
	}
}

func TestClientRefusesPagesWithoutEnd(t *testing.T) {
	w := newWorld(t)
	one := Segments{Up: w.segments(t, "110 1>2 111")}
	var many Segments
	for range 100 {
		many.Down = append(many.Down, one.Up...)
	}
	tests := []struct {
		name string
		page func(n int) (Segments, string)
		want string
	}{
		{"the same token", func(int) (Segments, string) { return one, "again" }, "it repeats a page token"},
		{"two tokens in turn", func(n int) (Segments, string) { return one, fmt.Sprint(n % 2) }, "it repeats a page token"},
		{"empty pages", func(n int) (Segments, string) { return Segments{}, fmt.Sprint(n) }, "it has more than 64 pages"},
		{"segments", func(n int) (Segments, string) { return many, fmt.Sprint(n) }, "it has more than 1000 segments"},
		{"a long token", func(int) (Segments, string) { return one, strings.Repeat("x", 5000) }, "its page token is too long"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n := 0
			c := clientOf(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				s, token := tt.page(n)
				n++
				answerSegments(w, s, token)
			}), "")
			_, err := c.Segments(t.Context(), as("111"), as("211"))
			want := fmt.Sprintf("list segments to 2-ff00:0:211 at endhost API %s: %s", c.URL(), tt.want)
			if err == nil || err.Error() != want {
				t.Errorf("got %v, want %s", err, want)
			}
		})
	}
}

func TestClientRefusesMegabytes(t *testing.T) {
	w := newWorld(t)
	padded := w.segment(t, "110 1>2 111")
	padded.Entries[0].Signature = make([]byte, maxEntry-2000)
	n := 0
	c := clientOf(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		n++
		var s Segments
		for range 60 {
			s.Up = append(s.Up, padded)
		}
		answerSegments(w, s, fmt.Sprint(n))
	}), "")
	if _, err := c.Segments(t.Context(), as("111"), as("211")); err == nil || !strings.HasSuffix(err.Error(), "its pages have more than 8388608 bytes") {
		t.Errorf("got %v", err)
	}
}

func TestParseSegmentsBoundsThem(t *testing.T) {
	tests := []struct {
		name string
		b    []byte
		want error
	}{
		{"segments", repeated(appendMessage(nil, 2, nil), maxSegments+1), errSegmentCount},
		{"numbers", appendNumber(nil, 1, 7), errWireType},
		{"a token that is none", appendMessage(nil, 4, []byte{0xff}), errNotText},
	}
	for _, tt := range tests {
		var s Segments
		if _, err := parseSegments(&s, tt.b); err != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
}

func TestParseSegmentsKeepsTheGood(t *testing.T) {
	w := newWorld(t)
	good := appendSegments(nil, Segments{Up: w.segments(t, "110 1>2 111")}, "")
	entry := appendMessage(nil, 1, appendMessage(nil, 1, []byte("x")))
	for name, bad := range map[string][]byte{
		"too many AS entries":         appendMessage(nil, 1, repeated(appendMessage(nil, 2, entry), maxEntries+1)),
		"a long entry":                appendMessage(nil, 1, appendMessage(nil, 2, make([]byte, maxEntry+1))),
		"an entry without its signed": appendMessage(nil, 1, appendMessage(nil, 2, nil)),
		"half an entry":               appendMessage(nil, 1, []byte{0x12, 0x05}),
	} {
		var s Segments
		if _, err := parseSegments(&s, append(bad, good...)); err != nil || len(s.Up) != 2 {
			t.Errorf("%s: %d segments, %v", name, len(s.Up), err)
			continue
		}
		routes, refused, err := combineNow(as("111"), as("110"), s)
		if err != nil || len(routes) != 1 || refused.count != 1 {
			t.Errorf("%s: %v, %v, refused %d", name, routes, err, refused.count)
		}
	}
}

func TestPageOutside(t *testing.T) {
	s := Segments{Up: make(segmentList, 3)}
	for _, offset := range []int{-1, 3, 4, 1 << 40} {
		if part, next := s.page(offset, 2); part.Len() != 0 || next != 0 {
			t.Errorf("page at %d: %d segments, next %d", offset, part.Len(), next)
		}
	}
}

func FuzzParseSegments(f *testing.F) {
	w := newWorld(f)
	f.Add(appendSegments(nil, Segments{w.segments(f, "110 1>2 111"), nil, w.segments(f, "110 1>2 111 3>4 112")}, "next"))
	f.Add(segmentsRequest{as("111"), as("112"), -1, "token"}.append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		var s Segments
		if next, err := parseSegments(&s, b); err == nil {
			var s2 Segments
			_, err := parseSegments(&s2, appendSegments(nil, s, next))
			if err != nil || ids(s) != ids(s2) {
				t.Errorf("written and read again: %v", err)
			}
			kept, refused := decodable(s)
			if kept.Len()+refused.count != s.Len() {
				t.Errorf("%d kept and %d refused of %d", kept.Len(), refused.count, s.Len())
			}
		}
		if r, err := parseSegmentsRequest(b); err == nil {
			if again, err := parseSegmentsRequest(r.append(nil)); err != nil || again != r {
				t.Errorf("written and read again: %+v, %v, want %+v", again, err, r)
			}
		}
		parseLookup(&Segments{}, b)
	})
}

func requestOf(t testing.TB, r *http.Request) segmentsRequest {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Error(err)
	}
	request, err := parseSegmentsRequest(b)
	if err != nil {
		t.Error(err)
	}
	return request
}

func answerSegments(w http.ResponseWriter, s Segments, next string) {
	writeProto(w, appendSegments(nil, s, next))
}

// ids tells segments apart.
func ids(s Segments) string {
	var b strings.Builder
	for _, list := range []segmentList{s.Up, s.Core, s.Down} {
		for _, segment := range list {
			fmt.Fprintf(&b, "%x/%d ", segment.Info, len(segment.Entries))
		}
		b.WriteString("| ")
	}
	return b.String()
}

func repeated(b []byte, n int) []byte { return []byte(strings.Repeat(string(b), n)) }
