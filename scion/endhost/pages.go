package endhost

import (
	"context"
	"errors"
	"fmt"

	"github.com/snapproxy/snapproxy/scion"
)

const (
	pageSize = 128 // as the Rust SDK asks for
	maxPages = 64
	maxTotal = 2 * maxBody // bytes of all pages together
)

var (
	errPageAgain = errors.New("it repeats a page token")
	errPages     = fmt.Errorf("it has more than %d pages", maxPages)
	errTotal     = fmt.Errorf("its pages have more than %d bytes", maxTotal)
)

// allPages follows the pages of ListSegments.
func (c *Client) allPages(ctx context.Context, src, dst scion.IA) (Segments, error) {
	var all Segments
	request := segmentsRequest{src: src, dst: dst, size: pageSize}
	seen := map[string]bool{}
	for total := 0; ; {
		body, _, err := c.call(ctx, methodSegments, request.append(nil))
		if err != nil {
			return Segments{}, err
		}
		next, err := parseSegments(&all, body)
		total += len(body)
		switch {
		case err != nil:
			return Segments{}, err
		case next == "":
			return all, nil
		case seen[next]:
			return Segments{}, errPageAgain
		case len(seen) == maxPages:
			return Segments{}, errPages
		case total > maxTotal:
			return Segments{}, errTotal
		}
		seen[next] = true
		request.token = next
	}
}

// page returns the part of s that is the page of this size at an offset, in the
// order up, core, down, and the offset of the next one, or 0.
func (s Segments) page(offset, size int) (part Segments, next int) {
	end := min(offset+size, s.Len())
	if offset < 0 || offset >= end {
		return Segments{}, 0
	}
	cut := func(list segmentList, before int) segmentList {
		from := min(max(offset-before, 0), len(list))
		to := min(max(end-before, 0), len(list))
		return list[from:to]
	}
	part.Up = cut(s.Up, 0)
	part.Core = cut(s.Core, len(s.Up))
	part.Down = cut(s.Down, len(s.Up)+len(s.Core))
	if end < s.Len() {
		next = end
	}
	return part, next
}
