//go:build linux

package scionlab

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Crossed returns how many bytes the router that owns an interface of an AS has
// received and sent over it since the router was started.
func (l *Lab) Crossed(ctx context.Context, ia string, id int) (in, out float64, err error) {
	as := l.AS(ia)
	for _, r := range as.routers {
		for _, i := range r.interfaces {
			if i.id == id {
				return crossed(ctx, "http://"+as.metrics(r).String()+"/metrics", id)
			}
		}
	}
	return 0, 0, fmt.Errorf("%s has no interface %d", ia, id)
}

// crossed adds up router_input_bytes_total and router_output_bytes_total.
func crossed(ctx context.Context, url string, id int) (in, out float64, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, 0, err
	}
	res, err := oneRequest.Do(req)
	if err != nil {
		return 0, 0, fmt.Errorf("ask a router for its counters: %w", err)
	}
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	for lines.Scan() {
		name, rest, _ := strings.Cut(lines.Text(), "{")
		labels, value, ok := strings.Cut(rest, "} ")
		if !ok || !strings.Contains(labels, fmt.Sprintf(`interface="%d"`, id)) {
			continue
		}
		n, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return 0, 0, fmt.Errorf("counter %s: %w", name, err)
		}
		switch name {
		case "router_input_bytes_total":
			in += n
		case "router_output_bytes_total":
			out += n
		}
	}
	return in, out, lines.Err()
}

// oneRequest leaves no connection behind; proxies of the environment are not for
// loopback.
var oneRequest = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
