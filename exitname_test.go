package snapproxy

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// An exit that is given by name is found.
func TestExitByName(t *testing.T) {
	n := newAPINet(t)
	e := n.startExit(t)
	hosts := filepath.Join(t.TempDir(), "hosts")
	write := func(e *Exit) {
		if err := os.WriteFile(hosts, fmt.Appendf(nil, "%s,%s exit.example\n", e.Addr().IA, e.Addr().Host), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(e)
	names, err := NewNames(NamesConfig{HostsFiles: []string{hosts}})
	if err != nil {
		t.Fatal(err)
	}
	c, err := NewClient(ClientConfig{
		NetworkConfig: n.network(t, "client"), ExitName: fmt.Sprintf("exit.example:%d", e.Addr().Port), Names: names, ExitKey: e.PublicKey(),
	})
	if err != nil {
		t.Fatal(err)
	}
	run(t, c.Run)
	await(t, c.Ready(), "client")
	conn, err := c.DialContext(t.Context(), "tcp", echoServer(t, "127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	exchange(t, conn, 10_000)
}
