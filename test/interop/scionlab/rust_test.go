//go:build linux

package scionlab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// rustPeer names the program of ../pocketscion, a host on the Rust SDK.
const rustPeer = "SCIONLAB_RUST_PEER"

// The Rust client attaches to a SNAP of ours, and its datagrams come back whole
// from every kind of host.
func TestRustClientOnOurSNAP(t *testing.T) {
	peer := rust(t)
	l := lab(t)
	near, far := startSNAP(t, l.AS(Leaf1)), startSNAP(t, l.AS(Leaf2))
	for _, tt := range []struct{ name, to string }{
		{"Rust server on the same SNAP", peer.echo(t, near)},
		{"Rust server on another AS's SNAP", peer.echo(t, far)},
		{"reference host behind routers", serveEcho(t, l.AS(Leaf2)).addr},
		{"reference host in the same AS's core", serveEcho(t, l.AS(isdAS(110))).addr},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out, said, err := peer.run(t, "client", "--endhost-api", near.api(), "--token", tokenText(t, near),
				"--to", tt.to, "--count", "10000", "--min", "1", "--max", "1200")
			t.Logf("%s", out)
			var tally struct {
				Sent, Echoed, Lost, Corrupt, Unexpected, Strangers int
			}
			if err != nil || json.Unmarshal(out, &tally) != nil {
				t.Fatalf("%v: %s", err, said)
			}
			if tally.Sent != 10000 || tally.Echoed != tally.Sent || tally.Corrupt+tally.Unexpected+tally.Strangers+tally.Lost != 0 {
				t.Errorf("of 10000 datagrams not all come back whole: %s", out)
			}
		})
	}
}

// A token that is signed with another key is refused, and there is no tunnel.
func TestRustClientWithAWrongToken(t *testing.T) {
	peer := rust(t)
	l := lab(t)
	near, other := startSNAP(t, l.AS(Leaf1)), startSNAP(t, l.AS(Leaf2))
	out, said, err := peer.run(t, "client", "--endhost-api", near.api(), "--token", tokenText(t, other),
		"--to", serveEcho(t, l.AS(Leaf2)).addr, "--count", "1")
	if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) {
		t.Errorf("with a wrong token: %v, %s", err, out)
	}
	t.Logf("the Rust client says: %s", said)
	if !strings.Contains(said, "401") && !strings.Contains(strings.ToLower(said), "unauthenticated") && !strings.Contains(said, "Unauthorized") {
		t.Error("the Rust client does not tell of a 401")
	}
}

// A rustProgram is the path of the program.
type rustProgram string

func rust(t *testing.T) rustProgram {
	t.Helper()
	name := os.Getenv(rustPeer)
	if name == "" {
		t.Skipf("no Rust peer: %s does not name the program of test/interop/pocketscion", rustPeer)
	}
	return rustProgram(name)
}

// echo starts an echo server on a SNAP and returns its address.
func (r rustProgram) echo(t *testing.T, on *snap) string {
	t.Helper()
	return startPeer(t, string(r), "echo", "--endhost-api", on.api(), "--token", tokenText(t, on)).line()
}

// run runs the program to its end.
func (r rustProgram) run(t *testing.T, args ...string) (stdout []byte, stderr string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, string(r), args...)
	cmd.Env = environ()
	var said bytes.Buffer
	cmd.Stderr = &said
	stdout, err = cmd.Output()
	return stdout, said.String(), err
}

func tokenText(t *testing.T, s *snap) string {
	t.Helper()
	b, err := os.ReadFile(s.token(t))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}
