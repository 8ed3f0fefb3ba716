package endhost

import (
	"context"
	"errors"
	"fmt"
	"net/url"
)

const (
	maxGroups    = 32
	maxGroupAPIs = 32
)

var errNoAPIs = errors.New("it names no endhost API")

// Discover asks a discovery service, at the root of the host of u, for endhost
// APIs. They come in groups: those of one are equals, and the groups are to be
// tried in order. Of config, Proxy, TLS and Logger are heeded; no token is sent.
func Discover(ctx context.Context, config ClientConfig, u *url.URL) ([][]*url.URL, error) {
	root := *u
	root.Path, root.RawPath = "/", ""
	config.URL, config.Token = &root, nil
	c, err := NewClient(config)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	ctx, cancel := withTimeout(ctx)
	defer cancel()
	body, by, err := c.call(ctx, methodAPIs, nil)
	if err != nil {
		return nil, fmt.Errorf("discover endhost APIs at %s: %w", &root, err)
	}
	groups, refused, err := parseAPIs(body, by)
	if err == nil && len(groups) == 0 {
		err = refused
	}
	if err != nil {
		return nil, fmt.Errorf("discover endhost APIs at %s: %w", &root, err)
	}
	if refused != nil {
		c.log.Warn("endhost APIs of a discovery service left out", "service", root.Host, "reason", refused)
	}
	return groups, nil
}

// parseAPIs parses a GetEndhostApisResponse of a service of the given scope. It
// leaves out what makes no sense and returns the first reason for it.
func parseAPIs(b []byte, by Scope) (groups [][]*url.URL, refused, err error) {
	count := 0
	err = eachField(b, func(f field) error {
		if f.num != 1 {
			return nil
		}
		if count++; count > maxGroups {
			return errTooMany
		}
		m, err := f.message()
		if err != nil {
			return err
		}
		texts, err := appendStrings(nil, m, maxGroupAPIs)
		if err != nil {
			return err
		}
		var group []*url.URL
		for _, text := range texts {
			u, err := parseURL(text)
			if err == nil {
				err = checkNamed(u, by)
			}
			if err == nil {
				group = append(group, u)
			} else if refused == nil {
				refused = fmt.Errorf("endhost API %s: %w", quoteURL(text), err)
			}
		}
		if len(group) > 0 {
			groups = append(groups, group)
		}
		return nil
	})
	if refused == nil && len(groups) == 0 {
		refused = errNoAPIs
	}
	return groups, refused, err
}
