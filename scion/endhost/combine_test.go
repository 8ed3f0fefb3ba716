package endhost

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestCombineFindsEveryKindOfPath(t *testing.T) {
	tests := []struct {
		name           string
		src, dst       string
		up, core, down []string
		want           []string
	}{
		{"up, core and down", "111", "211",
			[]string{"110 1>2 111"}, []string{"210 20>10 110"}, []string{"210 3>4 211"},
			[]string{"111 2>1 110 10>20 210 3>4 211"}},
		{"up and down through one core AS", "111", "112",
			[]string{"110 1>2 111"}, nil, []string{"110 3>4 112"},
			[]string{"111 2>1 110 3>4 112"}},
		{"a shortcut where up and down meet", "113", "114",
			[]string{"110 1>2 111 3>4 113"}, nil, []string{"110 1>2 111 5>6 114"},
			[]string{"113 4>3 111 5>6 114"}},
		{"to an AS on the way up", "113", "111",
			[]string{"110 1>2 111 3>4 113"}, nil, []string{"110 1>2 111"},
			[]string{"113 4>3 111"}},
		{"from an AS on the way down", "111", "113",
			[]string{"110 1>2 111"}, nil, []string{"110 1>2 111 3>4 113"},
			[]string{"111 3>4 113"}},
		{"a peering link", "111", "121",
			[]string{"110 1>2 111"}, []string{"120 9>8 110"}, []string{"120 1>2 121"},
			[]string{"111 100>101 121", "111 2>1 110 8>9 120 1>2 121"}},
		{"a peering link from above", "113", "122",
			[]string{"110 1>2 111 3>4 113"}, nil, []string{"120 1>2 121 3>4 122"},
			[]string{"113 4>3 111 100>101 121 3>4 122"}},
		{"core only", "110", "210", nil, []string{"210 20>10 110", "210 21>1 120 2>11 110"}, nil,
			[]string{"110 10>20 210", "110 11>2 120 1>21 210"}},
		{"core and down", "110", "211", nil, []string{"210 20>10 110"}, []string{"210 3>4 211"},
			[]string{"110 10>20 210 3>4 211"}},
		{"up and core", "111", "210", []string{"110 1>2 111"}, []string{"210 20>10 110"}, nil,
			[]string{"111 2>1 110 10>20 210"}},
		{"up only", "111", "110", []string{"110 1>2 111", "110 3>5 111"}, nil, nil,
			[]string{"111 2>1 110", "111 5>3 110"}},
		{"down only", "110", "111", nil, nil, []string{"110 1>2 111"},
			[]string{"110 1>2 111"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.link("111", 100, "121", 101)
			s := Segments{w.segments(t, tt.up...), w.segments(t, tt.core...), w.segments(t, tt.down...)}
			routes, err := Combine(as(tt.src), as(tt.dst), s)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, r := range routes {
				got = append(got, shorten(r))
				if err := travel(r); err != nil {
					t.Errorf("%s: %v", shorten(r), err)
				}
				if want := w.made.Add(64 * 24 * time.Hour / 256); !r.Expiry.Equal(want) {
					t.Errorf("%s expires at %v, want %v", shorten(r), r.Expiry, want)
				}
				if r.Src != as(tt.src) || r.Dst != as(tt.dst) || r.Latency != 0 {
					t.Errorf("%s: from %s to %s, latency %v", shorten(r), r.Src, r.Dst, r.Latency)
				}
			}
			slices.Sort(got)
			slices.Sort(tt.want)
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestCombineSaysWhatASesAnnounce(t *testing.T) {
	w := newWorld(t)
	w.latency = true
	w.link("111", 100, "121", 101)
	s := Segments{
		w.segments(t, "110 1>2 111 3>4 113"),
		w.segments(t, "120 9>8 110"),
		w.segments(t, "120 1>2 121"),
	}
	routes, err := Combine(as("113"), as("121"), s)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, r := range routes {
		got[shorten(r)] = fmt.Sprint(r.MTU, r.Latency)
	}
	want := map[string]string{
		"113 4>3 111 100>101 121":             "1400 21ms", // two links and 111 between them
		"113 4>3 111 2>1 110 8>9 120 1>2 121": "1450 0s",   // no AS tells of its inside between two segments
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestCombineInsideAnAS(t *testing.T) {
	routes, err := Combine(as("111"), as("111"), Segments{})
	if err != nil || len(routes) != 1 || routes[0].Path != nil || routes[0].MTU == 0 {
		t.Errorf("got %v, %v, want one route without a path", routes, err)
	}
}

func TestCombineKeepsTheGood(t *testing.T) {
	w := newWorld(t)
	old := *w
	old.made = w.made.Add(-7 * time.Hour)
	young := *w
	young.made = w.made.Add(2 * time.Hour)
	long := "110"
	for i := range 70 {
		long += fmt.Sprintf(" 1>2 1%02x", 0x20+i)
	}
	long += " 1>2 111"
	up := w.segments(t, "110 1>2 111")
	down := w.segments(t, "110 3>4 112")
	tests := []struct {
		name string
		add  *PathSegment
		want string
	}{
		{"expired", old.segment(t, "110 5>6 111"), "it has expired"},
		{"from the future", young.segment(t, "110 5>6 111"), "is the clock right?"},
		{"of another AS", w.segment(t, "110 5>6 113"), "it ends in 1-ff00:0:113, not in 1-ff00:0:111"},
		{"looping", w.segment(t, "110 5>6 113 7>8 110 9>9 111"), "it loops: it visits 1-ff00:0:110 twice"},
		{"long", w.segment(t, long), "it has more than 63 ASes"},
		{"of one AS", w.segment(t, "111"), "it has fewer than two ASes"},
		{"leaving its ISD", w.segment(t, "210 5>6 111"), "it leaves its ISD"},
		{"without an interface", w.segment(t, "110 0>6 111"), "an AS in the middle has no interface"},
		{"empty", &PathSegment{}, "malformed"},
		{"nil", nil, "it is empty"},
		{"without a signed part", &PathSegment{Info: up[0].Info, Entries: make([]SignedEntry, 2)}, "malformed"},
		{"not chained", &PathSegment{Info: up[0].Info, Entries: up[0].Entries[1:]}, "malformed"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			routes, refused, err := combineNow(as("111"), as("112"), Segments{Up: append(segmentList{tt.add}, up...), Down: down})
			if err != nil || len(routes) != 1 || shorten(routes[0]) != "111 2>1 110 3>4 112" {
				t.Fatalf("with one that is %s: %v, %v", tt.name, routes, err)
			}
			if refused.count != 1 || !strings.Contains(refused.first.Error(), tt.want) {
				t.Errorf("refused %d: %v, want one: %s", refused.count, refused.first, tt.want)
			}
			_, err = Combine(as("111"), as("112"), Segments{Up: segmentList{tt.add}, Down: down})
			if !errors.Is(err, syscall.ENETUNREACH) || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("with nothing else: %v, want ENETUNREACH in one line with %q", err, tt.want)
			}
		})
	}
}

func TestCombineRefusesRoutesThatLoop(t *testing.T) {
	// The up segment and the down segment both run through 113, which is no
	// shortcut here as the core segment between them is taken as well.
	w := newWorld(t)
	s := Segments{
		w.segments(t, "110 1>2 113 3>4 111"),
		w.segments(t, "120 9>8 110"),
		w.segments(t, "120 1>5 113 6>7 112"),
	}
	routes, err := Combine(as("111"), as("112"), s)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range routes {
		if got := shorten(r); got != "111 4>3 113 6>7 112" {
			t.Errorf("got %s", got)
		}
	}
}

func TestCombineDoesNotMindPeersThatMakeNoSense(t *testing.T) {
	w := newWorld(t)
	w.link("111", 0, "121", 101)
	w.link("111", 102, "121", 0)
	w.link("111", 103, "111", 104)
	s := Segments{Up: w.segments(t, "110 1>2 111"), Down: w.segments(t, "110 3>4 112")}
	routes, err := Combine(as("111"), as("112"), s)
	if err != nil || len(routes) != 1 {
		t.Errorf("got %v, %v", routes, err)
	}
}

func TestCombineBoundsItsWork(t *testing.T) {
	// 300 segments of each kind that all meet would be 27 million paths.
	w := newWorld(t)
	var s Segments
	for i := range 300 {
		s.Up = append(s.Up, w.segment(t, fmt.Sprintf("110 %d>%d 111", i+1, i+1)))
		s.Core = append(s.Core, w.segment(t, fmt.Sprintf("210 %d>%d 110", i+301, i+301)))
		s.Down = append(s.Down, w.segment(t, fmt.Sprintf("210 %d>%d 211", i+1, i+1)))
	}
	c := checked(as("111"), as("211"), s, time.Now())
	if got := c.work(maxWork); got <= maxWork {
		t.Fatalf("the work is %d: not enough for this test", got)
	}
	if got := c.within(maxWork).work(maxWork); got > maxWork {
		t.Errorf("the work is %d after all", got)
	}
	routes, err := Combine(as("111"), as("211"), s)
	if err != nil || len(routes) != maxRoutes {
		t.Errorf("got %d routes, %v, want %d", len(routes), err, maxRoutes)
	}
}

func TestCombineTakesTheNewerOfTheSameHops(t *testing.T) {
	w := newWorld(t)
	old := *w
	old.made = w.made.Add(-time.Hour)
	s := Segments{
		Up:   segmentList{old.segment(t, "110 1>2 111"), w.segment(t, "110 1>2 111"), old.segment(t, "110 1>2 111")},
		Down: w.segments(t, "110 3>4 112"),
	}
	routes, err := Combine(as("111"), as("112"), s)
	if err != nil || len(routes) != 1 {
		t.Fatal(routes, err)
	}
	if want := w.made.Add(64 * 24 * time.Hour / 256); !routes[0].Expiry.Equal(want) {
		t.Errorf("expires at %v, want %v", routes[0].Expiry, want)
	}
}

func TestCombineSaysWhyThereIsNoPath(t *testing.T) {
	w := newWorld(t)
	tests := []struct {
		name string
		s    Segments
		want string
	}{
		{"nothing", Segments{}, "no path to 1-ff00:0:112: there are no segments: "},
		{"no way", Segments{Up: w.segments(t, "110 1>2 111"), Core: w.segments(t, "120 1>2 110")}, "none of 2 segments leads there"},
		{"no meeting", Segments{Up: w.segments(t, "110 1>2 111"), Down: w.segments(t, "120 1>2 112")}, "the 2 segments do not meet"},
	}
	for _, tt := range tests {
		_, err := Combine(as("111"), as("112"), tt.s)
		if !errors.Is(err, syscall.ENETUNREACH) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
	if _, err := Combine(0, as("112"), Segments{}); !errors.Is(err, syscall.ENETUNREACH) {
		t.Errorf("from anywhere: %v", err)
	}
}

func FuzzCombine(f *testing.F) {
	w := newWorld(f)
	w.latency = true
	w.link("111", 100, "121", 101)
	now := w.made
	for _, s := range []Segments{
		{w.segments(f, "110 1>2 111"), w.segments(f, "120 9>8 110"), w.segments(f, "120 1>2 121")},
		{w.segments(f, "110 1>2 112 3>4 111"), nil, w.segments(f, "110 1>2 112 5>6 121")},
	} {
		f.Add(appendSegments(nil, s, ""))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var s Segments
		if _, err := parseSegments(&s, b); err != nil {
			return
		}
		checkCombined(t, s, now)
	})
}

func BenchmarkCombine(b *testing.B) {
	w := newWorld(b)
	var s Segments
	for i := range 10 {
		s.Up = append(s.Up, w.segment(b, fmt.Sprintf("110 %d>%d 111 3>4 113", i+1, i+1)))
		s.Core = append(s.Core, w.segment(b, fmt.Sprintf("210 %d>%d 110", i+301, i+301)))
		s.Down = append(s.Down, w.segment(b, fmt.Sprintf("210 %d>%d 211", i+1, i+1)))
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Combine(as("113"), as("211"), s); err != nil {
			b.Fatal(err)
		}
	}
}
