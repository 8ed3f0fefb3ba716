package endhost

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"
	"github.com/scionproto/scion/pkg/proto/control_plane"
	"github.com/scionproto/scion/pkg/proto/control_plane/v1/control_planeconnect"

	"github.com/snapproxy/snapproxy/scion"
)

// lookupServer is the lookup of a control service, on the reference's own
// transport: it knows segments by the question that they answer.
type lookupServer struct {
	known map[string]segmentList // by "src dst" and the type, as in "111 1-0 up"
	mu    sync.Mutex
	asked []string
}

func (s *lookupServer) Segments(_ context.Context, r *connect.Request[control_plane.SegmentsRequest]) (*connect.Response[control_plane.SegmentsResponse], error) {
	short := strings.NewReplacer("1-ff00:0:", "", "2-ff00:0:", "")
	question := short.Replace(fmt.Sprint(scion.IA(r.Msg.SrcIsdAs), " ", scion.IA(r.Msg.DstIsdAs)))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, question)
	answer := &control_plane.SegmentsResponse{Segments: map[int32]*control_plane.SegmentsResponse_Segments{}}
	found := false
	for name, kind := range map[string]control_plane.SegmentType{
		"up": control_plane.SegmentType_SEGMENT_TYPE_UP, "core": control_plane.SegmentType_SEGMENT_TYPE_CORE, "down": control_plane.SegmentType_SEGMENT_TYPE_DOWN,
	} {
		if list, ok := s.known[question+" "+name]; ok {
			found = true
			segments := &control_plane.SegmentsResponse_Segments{}
			for _, p := range list {
				segments.Segments = append(segments.Segments, theirs(p))
			}
			answer.Segments[int32(kind)] = segments
		}
	}
	if !found {
		return nil, errors.New("invalid request")
	}
	return connect.NewResponse(answer), nil
}

func (s *lookupServer) start(t *testing.T) netip.AddrPort {
	_, h := control_planeconnect.NewSegmentLookupServiceHandler(s)
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return addrOf(t, server)
}

func addrOf(t *testing.T, server *httptest.Server) netip.AddrPort {
	a, err := netip.ParseAddrPort(strings.TrimPrefix(server.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestControlServiceAsksAsTheReferenceDoes(t *testing.T) {
	w := newWorld(t)
	known := map[string]segmentList{
		"111 1-0 up":   w.segments(t, "110 1>2 111"),
		"1-0 1-0 core": nil,
		"1-0 112 down": w.segments(t, "110 3>4 112"),
		"1-0 110 core": nil,
		"1-0 2-0 core": w.segments(t, "210 20>10 110"),
		"1-0 210 core": w.segments(t, "210 20>10 110"),
		"2-0 211 down": w.segments(t, "210 3>4 211"),
		"110 112 down": w.segments(t, "110 3>4 112"),
		"110 1-0 core": nil,
		"110 2-0 core": w.segments(t, "210 20>10 110"),
	}
	tests := []struct {
		name      string
		src, dst  string
		core      bool
		questions []string
		want      string
	}{
		{"in the ISD", "111", "112", false, []string{"111 1-0", "1-0 1-0", "1-0 112"}, "111 2>1 110 3>4 112"},
		{"to its core", "111", "110", false, []string{"111 1-0", "1-0 1-0", "1-0 110"}, "111 2>1 110"},
		{"to another ISD", "111", "211", false, []string{"111 1-0", "1-0 2-0", "1-0 211", "2-0 211"}, "111 2>1 110 10>20 210 3>4 211"},
		{"to its core from afar", "111", "210", false, []string{"111 1-0", "1-0 2-0", "1-0 210", "2-0 210"}, "111 2>1 110 10>20 210"},
		{"from a core AS", "110", "112", true, []string{"110 1-0", "110 112", "1-0 112"}, "110 3>4 112"},
		{"from a core AS to another ISD", "110", "211", true, []string{"110 2-0", "110 211", "2-0 211"}, "110 10>20 210 3>4 211"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			server := &lookupServer{known: known}
			c := newControlService(t, as(tt.src), tt.core, server.start(t))
			routes, err := c.Routes(t.Context(), as(tt.src), as(tt.dst))
			if err != nil || len(routes) != 1 || shorten(routes[0]) != tt.want {
				t.Fatalf("got %v, %v, want %s", routes, err, tt.want)
			}
			if err := travel(routes[0]); err != nil {
				t.Error(err)
			}
			slices.Sort(server.asked)
			slices.Sort(tt.questions)
			if !slices.Equal(server.asked, tt.questions) {
				t.Errorf("asked %q, want %q", server.asked, tt.questions)
			}
			if _, err := c.Routes(t.Context(), as(tt.src), as(tt.dst)); err != nil || len(server.asked) != len(tt.questions) {
				t.Errorf("the second time: %v, asked %q again", err, server.asked[len(tt.questions):])
			}
		})
	}
}

func TestControlServiceDropsRepetitions(t *testing.T) {
	w := newWorld(t)
	down := w.segments(t, "110 3>4 112", "110 5>6 112")
	server := &lookupServer{known: map[string]segmentList{
		"110 1-0 core": nil, "110 112 down": down[:1], "1-0 112 down": down,
	}}
	c := newControlService(t, as("110"), true, server.start(t))
	if s, err := c.Segments(t.Context(), as("110"), as("112")); err != nil || len(s.Down) != 2 {
		t.Errorf("got %d down segments, %v, want 2", len(s.Down), err)
	}
}

func TestControlServiceFailsOver(t *testing.T) {
	w := newWorld(t)
	server := &lookupServer{known: map[string]segmentList{
		"111 1-0 up": w.segments(t, "110 1>2 111"), "1-0 1-0 core": nil, "1-0 112 down": w.segments(t, "110 3>4 112"), "1-0 113 down": w.segments(t, "110 5>6 113"),
	}}
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	broken := httptest.NewServer(text(502, "text/html", "<html>"))
	defer broken.Close()
	c := newControlService(t, as("111"), false, addrOf(t, gone), addrOf(t, broken), server.start(t))
	for _, dst := range []string{"112", "113"} {
		if routes, err := c.Routes(t.Context(), as("111"), as(dst)); err != nil || len(routes) != 1 {
			t.Errorf("to %s: %v, %v", dst, routes, err)
		}
	}
	if c.good != 2 {
		t.Errorf("it begins with control service %d, want the one that answered", c.good)
	}
}

func TestControlServiceSaysWhatIsWrong(t *testing.T) {
	broken := httptest.NewServer(text(503, "application/json", `{"code":"unavailable","message":"starting"}`))
	defer broken.Close()
	c := newControlService(t, as("111"), false, addrOf(t, broken))
	_, err := c.Segments(t.Context(), as("111"), as("112"))
	if want := "look segments to 1-ff00:0:112 up: control service " + addrOf(t, broken).String() + ": unavailable: starting"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if _, err := c.Segments(t.Context(), as("113"), as("112")); !errors.Is(err, ErrSource) {
		t.Errorf("from another AS: %v", err)
	}
	if _, err := c.Segments(t.Context(), as("111"), 0); err == nil {
		t.Error("to anywhere: no error")
	}
	if s, err := c.Segments(t.Context(), as("111"), as("111")); err != nil || s.Len() != 0 {
		t.Errorf("inside the AS: %v", err)
	}
	none := newControlService(t, as("111"), false)
	if _, err := none.Segments(t.Context(), as("111"), as("112")); err == nil || !strings.HasSuffix(err.Error(), "no control service is known") {
		t.Errorf("without a control service: %v", err)
	}
}

func TestControlServiceAsksEvenIfOneQuestionFails(t *testing.T) {
	w := newWorld(t)
	server := &lookupServer{known: map[string]segmentList{
		"111 1-0 up": w.segments(t, "110 1>2 111"), "1-0 112 down": w.segments(t, "110 3>4 112"),
	}}
	c := newControlService(t, as("111"), false, server.start(t))
	if routes, err := c.Routes(t.Context(), as("111"), as("112")); err != nil || len(routes) != 1 {
		t.Errorf("without core segments: %v, %v", routes, err)
	}
	delete(server.known, "111 1-0 up")
	c = newControlService(t, as("111"), false, server.start(t))
	if routes, err := c.Routes(t.Context(), as("111"), as("112")); err == nil {
		t.Errorf("without up segments: %v", routes)
	}
}

// A control service that has just begun knows some of the segments; what leads
// nowhere is not kept as if it were all.
func TestControlServiceThatKnowsNoWholePath(t *testing.T) {
	w := newWorld(t)
	server := &lookupServer{known: map[string]segmentList{"111 1-0 up": w.segments(t, "110 1>2 111")}}
	addr := server.start(t)
	c := newControlService(t, as("111"), false, addr)
	a, err := c.askOne(t.Context(), addr, as("112"), false)
	if err == nil && !a.partial {
		t.Errorf("%d segments without a path are the whole answer", a.segments.Len())
	}
	server.known["1-0 112 down"] = w.segments(t, "110 3>4 112")
	if a, err := c.askOne(t.Context(), addr, as("112"), false); err != nil || a.partial {
		t.Errorf("with a path: partial %t, %v", a.partial, err)
	}
}

func TestCacheKeepsForAMinute(t *testing.T) {
	w := newWorld(t)
	one := Segments{Up: w.segments(t, "110 1>2 111")}
	broken := errors.New("broken")
	tests := []struct {
		name string
		a    answer
		err  error
		keep time.Duration
	}{
		{"whole", answer{segments: one}, nil, time.Minute},
		{"partial", answer{segments: one, partial: true}, nil, 5 * time.Second},
		{"empty", answer{}, nil, 5 * time.Second},
		{"an error", answer{}, broken, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var c segmentCache
				asked := 0
				get := func() {
					s, err := c.get(t.Context(), as("112"), func(context.Context) (answer, error) { asked++; return tt.a, tt.err })
					if s.Len() != tt.a.segments.Len() || err != tt.err {
						t.Errorf("got %d segments, %v", s.Len(), err)
					}
				}
				get()
				if tt.keep > 0 {
					time.Sleep(tt.keep - 1) // of the bubble
					get()
				}
				if asked != 1 {
					t.Errorf("asked %d times before %v", asked, tt.keep)
				}
				time.Sleep(time.Nanosecond)
				get()
				if asked != 2 {
					t.Errorf("asked %d times after %v", asked, tt.keep)
				}
			})
		})
	}
}

func TestCacheAsksOnceForMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c segmentCache
		impatient, cancel := context.WithCancel(t.Context())
		release := make(chan struct{})
		asked := 0
		fetch := func(ctx context.Context) (answer, error) {
			asked++
			select {
			case <-release:
				return answer{segments: Segments{Up: segmentList{nil}}}, nil
			case <-ctx.Done():
				return answer{}, ctx.Err()
			}
		}
		errs := make(chan error, 10)
		go func() { _, err := c.get(impatient, as("112"), fetch); errs <- err }()
		synctest.Wait()
		for range 8 {
			go func() { _, err := c.get(t.Context(), as("112"), fetch); errs <- err }()
		}
		synctest.Wait()
		if asked != 1 {
			t.Fatalf("asked %d times", asked)
		}
		cancel()
		if err := <-errs; !errors.Is(err, context.Canceled) {
			t.Errorf("the impatient one: %v", err)
		}
		synctest.Wait()
		if asked != 2 {
			t.Errorf("asked %d times, want again by one of those who still wait", asked)
		}
		if _, err := c.get(impatient, as("112"), fetch); !errors.Is(err, context.Canceled) {
			t.Errorf("one who has gone already: %v", err)
		}
		close(release)
		for range 8 {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
	})
}

func TestCacheIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c segmentCache
		get := func(i, size int) {
			c.get(t.Context(), scion.IA(1<<48|i), func(context.Context) (answer, error) {
				return answer{segments: Segments{Up: make(segmentList, size)}}, nil
			})
		}
		for i := range 200 {
			get(i, 1)
			time.Sleep(time.Millisecond)
		}
		if len(c.entries) != maxCached || c.entries[1<<48|199] == nil {
			t.Errorf("%d entries, want the newest %d", len(c.entries), maxCached)
		}
		for i := range 20 {
			get(1000+i, 1000)
			time.Sleep(time.Millisecond)
		}
		if len(c.entries) != 8 {
			t.Errorf("%d entries of 1000 segments, want 8", len(c.entries))
		}
		time.Sleep(time.Hour)
		get(0, 1)
		if len(c.entries) != 1 {
			t.Errorf("%d entries after an hour, want 1", len(c.entries))
		}
	})
}

func newControlService(t *testing.T, ia scion.IA, core bool, addrs ...netip.AddrPort) *ControlService {
	c := NewControlService(addrs, ia, core)
	t.Cleanup(c.Close)
	return c
}
