//go:build linux

package scionlab

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// anyCore stands for all core ASes of the ISD in a request for segments.
const anyCore = "1-0"

// A wish is how many segments a control service must know.
type wish struct {
	of, src, dst string
	count        int
}

// What there is once every AS knows its paths. Segments of the own AS come
// first: a control service remembers for a while what others have answered.
var wishes = []wish{
	{Leaf1, Leaf1, anyCore, 1},
	{Leaf2, Leaf2, anyCore, 2},
	{isdAS(110), isdAS(110), isdAS(120), 1},
	{isdAS(120), isdAS(120), isdAS(110), 1},
	{isdAS(110), isdAS(110), Leaf1, 1},
	{isdAS(110), isdAS(110), Leaf2, 1},
	{isdAS(120), isdAS(120), Leaf2, 1},
	{Leaf1, anyCore, anyCore, 1},
	{Leaf2, anyCore, anyCore, 1},
	{Leaf1, anyCore, Leaf2, 2},
	{Leaf2, anyCore, Leaf1, 1},
}

// AwaitPaths waits until the control services know all segments there are.
func (l *Lab) AwaitPaths(ctx context.Context) error {
	for _, w := range wishes {
		for {
			got, err := l.AS(w.of).segments(ctx, w.src, w.dst)
			if err == nil && got >= w.count {
				break
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("%s knows %d of %d segments from %s to %s (%v): %w", w.of, got, w.count, w.src, w.dst, err, ctx.Err())
			case <-time.After(100 * time.Millisecond):
			}
		}
	}
	return nil
}

// segments asks the control service of the AS for segments and counts them.
func (as *AS) segments(ctx context.Context, src, dst string) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	body, err := json.Marshal(map[string]string{"srcIsdAs": number(src), "dstIsdAs": number(dst)})
	if err != nil {
		return 0, err
	}
	url := "http://" + as.ControlService().String() + "/proto.control_plane.v1.SegmentLookupService/Segments"
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := oneRequest.Do(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("control service answers %s", res.Status)
	}
	var answer struct {
		Segments map[string]struct{ Segments []json.RawMessage }
	}
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil {
		return 0, err
	}
	count := 0
	for _, of := range answer.Segments {
		count += len(of.Segments)
	}
	return count, nil
}

// number is an ISD-AS of this network as the unsigned integer that requests
// hold: ISD (16 bits), AS (48 bits).
func number(ia string) string {
	if ia == anyCore {
		return fmt.Sprint(uint64(1) << 48)
	}
	var isd, a, b, c uint64
	fmt.Sscanf(ia, "%d-%x:%x:%x", &isd, &a, &b, &c)
	return fmt.Sprint(isd<<48 | a<<32 | b<<16 | c)
}
