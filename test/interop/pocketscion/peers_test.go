//go:build interop && linux

package pocketscion

import (
	"slices"
	"testing"
	"time"
)

// TestPeersReachEachOther has nothing of ours in it: if it fails, the machine
// or the peers are at fault.
func TestPeersReachEachOther(t *testing.T) {
	t.Parallel()
	n := startNetwork(t)
	server := startPeer(t, append([]string{"echo"}, n.stack(east)...)...)
	echo(t, 1000, 1200, server.awaitLine(0), n.stack(west)...)

	end := startPeer(t, append([]string{"far-end"}, n.stack(east)...)...).awaitLine(0)
	a := askExit(t, end, slices.Concat(n.stack(west), []string{"--ping-bytes", "9000"})...)
	if a.Ping.Error != "" || a.Ping.Bytes != 9000 {
		t.Errorf("ping of the far end: %+v", a.Ping)
	}
}

// An exitAnswer is what the peers' edge-client prints.
type exitAnswer struct {
	Local string
	Ping  struct {
		Bytes, MS int
		Error     string
	}
	DNS struct {
		Rcode, Answers int
		Error          string
	}
}

// askExit pings an exit that has said ready, and asks its DNS service.
func askExit(t *testing.T, ready string, flags ...string) (a exitAnswer) {
	t.Helper()
	args := slices.Concat([]string{"edge-client", "--exit", flagOf(ready, "--exit"), "--exit-key", flagOf(ready, "--exit-key")}, flags)
	parse(t, runPeer(t, time.Minute, args...), &a)
	return a
}
