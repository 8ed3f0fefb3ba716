//go:build linux

package scionlab

import (
	"context"
	"os"
	"testing"
	"time"
)

// A flow goes on after all hop fields that it began with have expired: routers
// forward none that has.
func TestFlowOutlivesItsPath(t *testing.T) {
	if os.Getenv("SCIONLAB_LONG") == "" {
		t.Skip("takes 7 minutes, the least that a path lives: SCIONLAB_LONG is not set")
	}
	shared := lab(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	l, err := Start(ctx, Config{Tools: shared.Tools, Dir: t.TempDir(), Life: life, Short: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	p := connect(t, attachSNAP(t, l.AS(Leaf1)), attachSNAP(t, l.AS(Leaf2)))
	f := startFlow(t, p.proxy)
	f.goesOn(enough)
	begin := time.Now()
	f.longestGap()
	for time.Since(begin) < 400*time.Second {
		f.goesOn(enough)
	}
	f.end()
	t.Logf("longest gap %v", f.longestGap().Round(time.Millisecond))
}
