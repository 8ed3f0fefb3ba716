package endhost

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/snapproxy/snapproxy/scion"
)

const (
	methodLookup  = "/proto.control_plane.v1.SegmentLookupService/Segments"
	lookupTimeout = 4 * time.Second // of one control service, if there is another
	maxLookups    = 16              // at a time
)

// A ControlService looks path segments up at the control services of an AS, as
// the reference endhost stack does: up, core and down segments each with a
// question of its own. Answers are kept for a minute. It may be used
// concurrently.
type ControlService struct {
	addrs []netip.AddrPort
	ia    scion.IA
	core  bool
	http  *http.Client
	cache segmentCache
	slots chan struct{} // one for each lookup under way

	mu   sync.Mutex // guards what follows
	good int        // the index of the address that answered last
}

// NewControlService returns the lookup at the control services of ia, given by
// their addresses, which are tried in order. Core says that ia is a core AS.
// It connects to nothing yet.
func NewControlService(addrs []netip.AddrPort, ia scion.IA, core bool) *ControlService {
	return &ControlService{
		addrs: addrs, ia: ia, core: core,
		http:  newHTTP(nil, nil, false),
		slots: make(chan struct{}, maxLookups),
	}
}

// Close closes the connections that wait for another call.
func (c *ControlService) Close() { c.http.CloseIdleConnections() }

// Segments returns the segments of which paths from src to dst can be made. The
// error wraps ErrSource if src is not the AS of the control service. It takes
// 10 seconds at most unless ctx has a deadline.
func (c *ControlService) Segments(ctx context.Context, src, dst scion.IA) (Segments, error) {
	switch {
	case src != c.ia:
		return Segments{}, fmt.Errorf("%w: %s", ErrSource, src)
	case dst.ISD() == 0:
		return Segments{}, fmt.Errorf("look segments up: %s is a wildcard of all ISDs", dst)
	case src == dst:
		return Segments{}, nil
	}
	return c.cache.get(ctx, dst, func(ctx context.Context) (answer, error) {
		ctx, cancel := withTimeout(ctx)
		defer cancel()
		select {
		case c.slots <- struct{}{}:
			defer func() { <-c.slots }()
		case <-ctx.Done():
			return answer{}, fmt.Errorf("look segments to %s up: %w", dst, ctx.Err())
		}
		a, err := c.failOver(ctx, dst)
		if err != nil {
			return answer{}, fmt.Errorf("look segments to %s up: %w", dst, err)
		}
		return a, nil
	})
}

// Routes returns the routes from src to dst, the ones of the fewest hops first.
// It is Segments and Combine.
func (c *ControlService) Routes(ctx context.Context, src, dst scion.IA) ([]*scion.Route, error) {
	segments, err := c.Segments(ctx, src, dst)
	if err != nil {
		return nil, err
	}
	return Combine(src, dst, segments)
}

// failOver asks one control service after the other, beginning with the one
// that answered last.
func (c *ControlService) failOver(ctx context.Context, dst scion.IA) (answer, error) {
	c.mu.Lock()
	good := c.good
	c.mu.Unlock()
	err := errors.New("no control service is known")
	for i := range c.addrs {
		at := (good + i) % len(c.addrs)
		var a answer
		if a, err = c.askOne(ctx, c.addrs[at], dst, i < len(c.addrs)-1); err == nil {
			c.mu.Lock()
			c.good = at
			c.mu.Unlock()
			return a, nil
		}
		err = fmt.Errorf("control service %s: %w", c.addrs[at], err)
		if ctx.Err() != nil {
			break
		}
	}
	return answer{}, err
}

// A lookup is one question to a control service.
type lookup struct {
	src, dst scion.IA
	needed   bool // without an answer to it the others are worth nothing
}

// lookups returns the questions of the reference implementation where it does
// not know which ASes are core (private/segment/segfetcher, splitter.go),
// without those that would be asked twice. Where dst is in another ISD one of
// the last two is refused: dst is a core AS, or it is not.
func (c *ControlService) lookups(dst scion.IA) []lookup {
	anySrc, anyDst := anyOf(c.ia), anyOf(dst)
	if c.core {
		return []lookup{{c.ia, anyDst, false}, {c.ia, dst, false}, {anyDst, dst, false}}
	}
	list := []lookup{{c.ia, anySrc, true}, {anySrc, anyDst, false}, {anySrc, dst, false}}
	if anySrc != anyDst {
		list = append(list, lookup{anyDst, dst, false})
	}
	return list
}

// anyOf returns the wildcard of the core ASes of an ISD.
func anyOf(ia scion.IA) scion.IA { return ia &^ (1<<48 - 1) }

// askOne asks a control service all the questions at once.
func (c *ControlService) askOne(ctx context.Context, addr netip.AddrPort, dst scion.IA, hurry bool) (answer, error) {
	if hurry {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, lookupTimeout)
		defer cancel()
	}
	questions := c.lookups(dst)
	answers, errs := make([]Segments, len(questions)), make([]error, len(questions))
	var group sync.WaitGroup
	for i, q := range questions {
		group.Go(func() { answers[i], errs[i] = c.ask(ctx, addr, q) })
	}
	group.Wait()
	var all answer
	answered := 0
	for i, q := range questions {
		switch {
		case errs[i] == nil && !q.needed:
			answered++
		case errs[i] != nil && q.needed:
			return answer{}, errs[i]
		case errs[i] != nil && !isRefusal(errs[i]):
			all.partial = true
		}
		all.segments.Up = append(all.segments.Up, answers[i].Up...)
		all.segments.Core = append(all.segments.Core, answers[i].Core...)
		all.segments.Down = append(all.segments.Down, answers[i].Down...)
	}
	switch {
	case answered == 0:
		return answer{}, errs[len(errs)-1]
	case all.segments.Len() > maxSegments:
		return answer{}, errSegmentCount
	}
	all.segments = Segments{Up: distinct(all.segments.Up), Core: distinct(all.segments.Core), Down: distinct(all.segments.Down)}
	// A control service that has just begun may not know all of them yet.
	if _, err := Combine(c.ia, dst, all.segments); err != nil {
		all.partial = true
	}
	return all, nil
}

// distinct returns the segments without repetitions: questions overlap.
func distinct(list segmentList) segmentList {
	seen := map[string]bool{}
	return slices.DeleteFunc(list, func(s *PathSegment) bool {
		var id strings.Builder
		id.Write(s.Info)
		for _, e := range s.Entries {
			id.Write(e.HeaderAndBody)
		}
		again := seen[id.String()]
		seen[id.String()] = true
		return again
	})
}

// isRefusal reports whether a server answered, and will not do so otherwise soon.
func isRefusal(err error) bool {
	var answered *Error
	return errors.As(err, &answered) && !answered.Temporary()
}

func (c *ControlService) ask(ctx context.Context, addr netip.AddrPort, q lookup) (Segments, error) {
	u := url.URL{Scheme: "http", Host: addr.String(), Path: methodLookup}
	body, _, err := call(ctx, c.http, &u, "", q.append(nil))
	if err != nil {
		return Segments{}, err
	}
	var s Segments
	err = parseLookup(&s, body)
	return s, err
}

func (q lookup) append(b []byte) []byte {
	return appendNumber(appendNumber(b, 1, uint64(q.src)), 2, uint64(q.dst))
}

// parseLookup appends the segments of a SegmentsResponse to s: field 1 is a map
// of types to messages with the segments in field 1.
func parseLookup(s *Segments, b []byte) error {
	return eachField(b, func(f field) error {
		if f.num != 1 {
			return nil
		}
		entry, err := f.message()
		if err != nil {
			return err
		}
		var kind int32
		var list []byte
		err = eachField(entry, func(f field) (err error) {
			switch f.num {
			case 1:
				var v uint64
				v, err = f.uint64()
				kind = int32(v)
			case 2:
				list, err = f.message()
			}
			return err
		})
		if err != nil {
			return err
		}
		part := s.part(kind)
		if part == nil {
			return nil
		}
		return eachField(list, func(f field) error {
			if f.num != 1 {
				return nil
			}
			return s.append(part, f)
		})
	})
}

// part returns the list of a SegmentType of proto/control_plane/v1/seg.proto.
func (s *Segments) part(kind int32) *segmentList {
	switch kind {
	case 1:
		return &s.Up
	case 2:
		return &s.Down
	case 3:
		return &s.Core
	}
	return nil
}
