//go:build interop && linux

package pocketscion

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
)

// TestDirectUnderlay is a client and an exit at PocketSCION's routers, without a
// SNAP, and the inner tunnel with a peer at either end of it.
func TestDirectUnderlay(t *testing.T) {
	t.Parallel()
	n := startNetwork(t, "--underlay", "udp")
	direct := func(ia string) []string { return []string{"--underlay", "udp", "--endhost-api", n.api(ia)} }
	p := startPair(t, append(direct(east), "--bind", "127.0.0.1:0"), append(direct(west), "--bind", "127.0.0.1:0"))
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "It works") }))
	defer page.Close()
	curl(t, p, page.URL)

	private, public := newPeerKey(t)
	writeFile(t, p.file("authorized_keys"), p.clientKey.String()+"\n"+public+"\n")
	p.exit.reload()
	a := askExit(t, p.exit.awaitLine(0), "--key", private, "--prefer", "udp", "--endhost-api", n.api(west), "--ping-bytes", "9000")
	if a.Ping.Error != "" {
		t.Errorf("ping of the exit: %s", a.Ping.Error)
	}
}
