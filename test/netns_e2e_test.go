//go:build e2e && linux

package test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// nobody is who the roles run as, without a single capability.
var nobody = []string{"setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--no-new-privs",
	"--bounding-set", "-all", "--inh-caps", "-all"}

// needRoot skips tests that make namespaces where that is not possible.
func needRoot(t *testing.T, tools ...string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("not root: no network namespaces to be made")
	}
	for _, name := range append(tools, "ip", "setpriv") {
		tool(t, name)
	}
}

// A netns is a network namespace with nothing but loopback in it, until links
// are made.
type netns struct {
	t    *testing.T
	name string
}

func newNetns(t *testing.T, role string) *netns {
	t.Helper()
	n := &netns{t, fmt.Sprintf("sp-%d-%s-%s", os.Getpid(), filepath.Base(tempDir(t)), role)}
	if out, err := exec.Command("ip", "netns", "add", n.name).CombinedOutput(); err != nil {
		t.Skipf("no network namespaces here: %s", out)
	}
	t.Cleanup(func() { exec.Command("ip", "netns", "del", n.name).Run() })
	n.ip("link", "set", "lo", "up")
	return n
}

// ip runs ip in the namespace.
func (n *netns) ip(args ...string) {
	n.t.Helper()
	if out, err := exec.Command("ip", append([]string{"-n", n.name}, args...)...).CombinedOutput(); err != nil {
		n.t.Fatalf("ip %v: %v: %s", args, err, out)
	}
}

// link joins two namespaces by a link with an address at each end.
func (n *netns) link(addr string, to *netns, toAddr string) {
	n.t.Helper()
	here, there := "to-"+suffix(to.name), "to-"+suffix(n.name)
	n.ip("link", "add", here, "type", "veth", "peer", "name", there, "netns", to.name)
	n.ip("addr", "add", addr, "dev", here)
	n.ip("link", "set", here, "up")
	to.ip("addr", "add", toAddr, "dev", there)
	to.ip("link", "set", there, "up")
}

func suffix(s string) string { return s[strings.LastIndexByte(s, '-')+1:] }

// do calls f in a thread inside the namespace. Sockets that it opens stay there.
func (n *netns) do(f func() error) error {
	done := make(chan error)
	go func() {
		// The thread is not given back: it ends with the goroutine.
		runtime.LockOSThread()
		file, err := os.Open("/run/netns/" + n.name)
		if err == nil {
			defer file.Close()
			err = unix.Setns(int(file.Fd()), unix.CLONE_NEWNET)
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

func (n *netns) listen(addr string) (ln net.Listener) {
	n.t.Helper()
	if err := n.do(func() (err error) { ln, err = net.Listen("tcp", addr); return err }); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { ln.Close() })
	return ln
}

func (n *netns) wire(addr string) *wire {
	n.t.Helper()
	var c net.Conn
	if err := n.do(func() (err error) { c, err = net.DialTimeout("tcp", addr, patience); return err }); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return newWire(n.t, c)
}

// command is a command in the namespace, run by nobody.
func (n *netns) command(args ...string) *exec.Cmd {
	return exec.Command("ip", slices.Concat([]string{"netns", "exec", n.name}, nobody, args)...)
}

// traced is command with a trace of its network and file calls in a file, and
// with a hosts file of its own if hosts is not "".
func (n *netns) traced(trace, hosts string, args ...string) *exec.Cmd {
	script := `exec "$@"`
	if hosts != "" {
		// ip has made a mount namespace.
		script = fmt.Sprintf(`mount --bind %q /etc/hosts && exec "$@"`, hosts)
	}
	return exec.Command("ip", slices.Concat([]string{"netns", "exec", n.name, "sh", "-c", script, "sh",
		"strace", "-D", "-f", "-qq", "-s", "256", "-e", "trace=%network,open,openat", "-o", trace}, nobody, args)...)
}
