package main

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/snapproxy/snapproxy"
	"github.com/snapproxy/snapproxy/scion"
	"github.com/snapproxy/snapproxy/tunnel/snaptun"
)

// TestFetch fetches the page that an exit serves, through a SNAP and an exit
// of the same process.
func TestFetch(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	run := func(what string, run func(context.Context) error) {
		running.Go(func() {
			if err := run(ctx); err != nil {
				t.Errorf("%s: %v", what, err)
				cancel()
			}
		})
	}

	ia, err := scion.ParseIA("1-ff00:0:110")
	if err != nil {
		t.Fatal(err)
	}
	loopback := netip.MustParseAddrPort("127.0.0.1:0")
	everybody := func(snaptun.PublicKey, time.Time) bool { return true }
	snap, err := snapproxy.NewSNAP(snapproxy.SNAPConfig{IA: ia, Listen: loopback, PrivateKey: newKey(t), Authorize: everybody})
	if err != nil {
		t.Fatal(err)
	}
	run("SNAP", snap.Run)
	exit, err := snapproxy.NewExit(snapproxy.ExitConfig{
		NetworkConfig: snapproxy.NetworkConfig{SNAP: snap.Addr().String(), SNAPKey: snap.PublicKey(), IA: ia, Bind: loopback},
		PrivateKey:    newKey(t), Authorize: everybody,
		Page: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "the page") }),
	})
	if err != nil {
		t.Fatal(err)
	}
	run("exit", exit.Run)
	select {
	case <-exit.Ready():
	case <-ctx.Done():
		t.Fatal("the exit is not ready: ", exit.Silent())
	}

	cfg := snapproxy.ClientConfig{
		NetworkConfig: snapproxy.NetworkConfig{SNAP: snap.Addr().String(), SNAPKey: snap.PublicKey(), IA: ia},
		Exit:          exit.Addr(), ExitKey: exit.PublicKey(),
	}
	var page strings.Builder
	if err := fetch(ctx, cfg, "http://demo.snapproxy.internal/", &page); err != nil {
		t.Fatal(err)
	}
	if page.String() != "the page" {
		t.Errorf("fetched %q", &page)
	}
}

func newKey(t *testing.T) snaptun.PrivateKey {
	t.Helper()
	k, err := snaptun.NewPrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}
