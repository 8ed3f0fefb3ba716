//go:build e2e && linux

package test

import (
	"fmt"
	"io"
	"net"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Ten thousand connections at the same moment are all answered or refused, and
// those that follow find what the first have given back.
func TestACrowdIsAnsweredAndForgotten(t *testing.T) {
	crowd := 10000
	if n := files(t); n < 2*crowd+1000 { // both ends are ours
		crowd = (n - 1000) / 2
		t.Logf("RLIMIT_NOFILE is %d: %d connections instead of 10000", n, crowd)
	}
	tp := build(t, layout{})
	small := newSmallFlows(t, tp)
	small.pass()
	before := tp.settle(t, nil)
	o := serveTCP(t, "127.0.0.1:0", answerAll)
	// What one of a crowd may cost in KiB: the buffers of a relay above all, which
	// a collection or two later are still there.
	const each = 160
	for _, target := range []string{o.addr, closedPort(t), o.addr, o.addr} {
		c := gather(tp.socks, target, crowd, true)
		c.report(t)
		if target == o.addr && c.outcomes["whole"] == 0 {
			t.Error("nobody of a crowd gets through")
		}
		small.pass()
		tp.settle(t, before)
		for role := range before {
			peak := memory(t, role, "VmHWM")
			t.Logf("%s: %d MiB at most", role.cmd.Args[1], peak>>10)
			if peak > each*crowd+64<<10 {
				t.Errorf("%s takes %d KiB for %d connections at once", role.cmd.Args[1], peak, crowd)
			}
		}
	}
	for role := range before {
		tp.rests(t, role)
	}
}

// With too few descriptors, connections wait or are refused, the log says why,
// and it goes on when there are some again.
func TestACrowdBeyondTheDescriptors(t *testing.T) {
	tp := build(t, layout{noClient: true})
	args := append([]string{"-c", `ulimit -n 100; exec "$0" client "$@"`, program(t)}, tp.clientFlags()...)
	tp.client = launch(t, exec.Command(tool(t, "sh"), args...))
	tp.client.awaitReady()
	tp.listener = listenerOf(tp.client)
	small := newSmallFlows(t, tp)
	small.pass()
	before := descriptors(t, tp.client)
	c := gather(tp.socks, echoServer(t).addr, 400, false)
	c.report(t)
	if c.outcomes["whole"] == 0 {
		t.Error("nobody gets through")
	}
	tp.client.says("too many open files")
	small.pass()
	if !eventually(patience, func() bool { return descriptors(t, tp.client) <= before }) {
		t.Errorf("%d descriptors are left, %d before", descriptors(t, tp.client), before)
	}
}

// answerAll answers with the same until the end. (What io.Copy
// takes to splice would be two more descriptors.)
func answerAll(c *net.TCPConn) {
	var b [64]byte
	for {
		n, err := c.Read(b[:])
		if err != nil {
			return
		}
		c.Write(b[:n])
	}
}

// files is how many files we may open, after all has been asked for.
func files(t *testing.T) int {
	t.Helper()
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		t.Fatal(err)
	}
	const wanted = 32 << 10
	if l.Cur < wanted {
		l.Cur, l.Max = wanted, max(l.Max, wanted)
		unix.Setrlimit(unix.RLIMIT_NOFILE, &l) // what root may
		unix.Getrlimit(unix.RLIMIT_NOFILE, &l)
	}
	return int(l.Cur)
}

// crowded is what became of a crowd.
type crowded struct {
	n        int
	took     time.Duration
	outcomes map[string]int
}

// gather opens n connections through a SOCKS proxy at the same moment and
// exchanges a little on each. If they stay, they are held until all have been
// answered.
func gather(proxy, target string, n int, stay bool) *crowded {
	c := &crowded{n: n, outcomes: map[string]int{}}
	var mu sync.Mutex // guards c.outcomes
	var all, answered sync.WaitGroup
	answered.Add(n)
	begin := time.Now()
	for range n {
		all.Go(func() {
			conn, outcome := visit(proxy, target)
			mu.Lock()
			c.outcomes[outcome]++
			mu.Unlock()
			answered.Done()
			if stay {
				answered.Wait()
			}
			if conn != nil {
				conn.SetLinger(0)
				conn.Close()
			}
		})
	}
	answered.Wait()
	c.took = time.Since(begin)
	all.Wait()
	return c
}

// report wants nobody to have been left without an answer.
func (c *crowded) report(t *testing.T) {
	t.Helper()
	t.Logf("%d connections at once: %v in %.1f s", c.n, c.outcomes, c.took.Seconds())
	for outcome, n := range c.outcomes {
		if strings.HasPrefix(outcome, noAnswer) {
			t.Errorf("%d of %d connections hang (%s)", n, c.n, outcome)
		}
	}
}

// visit is one of a crowd. It says how it ended, and returns the connection if
// it stands.
func visit(proxy, target string) (*net.TCPConn, string) {
	d := net.Dialer{Timeout: 2 * patience}
	conn, err := d.Dial("tcp", proxy)
	if err != nil {
		return nil, ending("not accepted", err)
	}
	c := conn.(*net.TCPConn)
	c.SetDeadline(time.Now().Add(2 * patience))
	head := make([]byte, 2+4)
	if _, err := io.WriteString(c, noAuthGreeting+request(cmdConnect, target)); err != nil {
		return c, ending("closed", err)
	}
	if _, err := io.ReadFull(c, head); err != nil {
		return c, ending("closed", err)
	}
	if head[3] != repGranted {
		return c, fmt.Sprintf("reply %d", head[3])
	}
	rest := make([]byte, map[byte]int{1: 4, 4: 16}[head[5]]+2)
	if _, err := io.ReadFull(c, rest); err != nil {
		return c, ending("closed after its reply", err)
	}
	if _, err := io.WriteString(c, "here"); err != nil {
		return c, ending("cut", err)
	}
	if _, err := io.ReadFull(c, head[:4]); err != nil {
		return c, ending("cut", err)
	}
	return c, "whole"
}

const noAnswer = "no answer: "

// ending is how a conversation ended with an error: by one, or by nothing.
func ending(how string, err error) string {
	if isTimeout(err) {
		return noAnswer + how
	}
	return how
}
