//go:build interop && linux

package pocketscion

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	// tokenLife is how long tokens are valid in the transfer. They are renewed
	// 60 s before their end.
	tokenLife = 75 * time.Second
	// longestGap is how long a transfer may stand still. It is for a flow that
	// is lost; what is normal is in the test's report.
	longestGap = 20 * time.Second
	// worthTelling is a gap that the report names.
	worthTelling = 300 * time.Millisecond
)

// TestTransferSurvives holds downloads and an upload between a client and an
// exit, both attached to PocketSCION's SNAPs, through new keys of either tunnel,
// tokens that end, and each link going down while the other way exists.
func TestTransferSurvives(t *testing.T) {
	t.Parallel()
	n := startNetwork(t)
	exitTokens, clientTokens := newTokens(t, "exit", tokenLife), newTokens(t, "client", tokenLife)
	p := startPair(t,
		[]string{"--endhost-api", n.api(east), "--token-command", exitTokens.command},
		[]string{"--endhost-api", n.api(west), "--token-command", clientTokens.command})
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "It works") }))
	defer page.Close()
	curl(t, p, page.URL)

	const downloads, uploads = 3, 1
	var flows []*flow
	begin := time.Now()
	for i := range downloads + uploads {
		flows = append(flows, startFlow(t, p.http, begin, i < downloads))
	}
	links := []struct {
		name  string
		ia    string
		iface int
	}{
		{"132#1–212#3", west, 1},
		{"132#2–222#1", west, 2},
		{"212#4–222#2", east, 4},
	}
	for i, l := range links {
		down := begin.Add(transferTime * time.Duration(1+3*i) / 10)
		up := begin.Add(transferTime * time.Duration(3+3*i) / 10)
		<-time.After(time.Until(down))
		n.link(l.ia, l.iface, false)
		t.Logf("%5.1f s: link %s down", time.Since(begin).Seconds(), l.name)
		took := fetch(t, p.http, page.URL)
		t.Logf("%5.1f s: a new connection took %v", time.Since(begin).Seconds(), took.Round(time.Millisecond))
		<-time.After(time.Until(up))
		fetch(t, p.http, page.URL)
		n.link(l.ia, l.iface, true)
		t.Logf("%5.1f s: link %s up", time.Since(begin).Seconds(), l.name)
	}
	<-time.After(time.Until(begin.Add(transferTime)))
	for _, f := range flows {
		close(f.halt)
	}
	var longest time.Duration
	for i, f := range flows {
		gaps, bytes, err := f.end()
		name := fmt.Sprintf("download %d", i+1)
		if i >= downloads {
			name = "upload"
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		slices.SortFunc(gaps, func(a, b gap) int { return int(b.length - a.length) })
		var told []string
		for _, g := range gaps[:min(6, len(gaps))] {
			longest = max(longest, g.length)
			if g.length >= worthTelling {
				told = append(told, fmt.Sprintf("%v until %.1f s", g.length.Round(time.Millisecond), g.end.Seconds()))
			}
		}
		t.Logf("%s: %d bytes; gaps: %s", name, bytes, strings.Join(told, ", "))
	}
	t.Logf("longest gap of %v: %v; tokens drawn: %d by the exit, %d by the client, each good for %v",
		transferTime, longest.Round(time.Millisecond), exitTokens.drawn(), clientTokens.drawn(), tokenLife)
	if longest > longestGap {
		t.Errorf("a transfer stood still for %v", longest)
	}
	if transferTime > tokenLife && min(exitTokens.drawn(), clientTokens.drawn()) < 2 {
		t.Error("a token was not renewed")
	}
	curl(t, p, page.URL)
}

// curl fetches a page with curl, if there is one, by SOCKS and by HTTP.
func curl(t *testing.T, p *pair, page string) {
	t.Helper()
	fetch(t, p.http, page)
	name, err := exec.LookPath("curl")
	if err != nil {
		t.Log("no curl: not tried")
		return
	}
	for _, proxy := range []string{"socks5h://" + p.socks, "http://" + p.http} {
		cmd := exec.Command(name, "-sS", "--max-time", "30", "--noproxy", "", "-x", proxy, page)
		cmd.Env = environ()
		if out, err := cmd.CombinedOutput(); err != nil || string(out) != "It works" {
			t.Errorf("curl -x %s: %q, %v", proxy, out, err)
		}
	}
}

// fetch fetches a page over a new connection and returns how long that took.
func fetch(t *testing.T, proxy, page string) time.Duration {
	t.Helper()
	begin := time.Now()
	r, err := proxied(proxy, patience).Get(page)
	if err != nil {
		t.Errorf("fetch: %v", err)
		return time.Since(begin)
	}
	defer r.Body.Close()
	if b, err := io.ReadAll(r.Body); err != nil || string(b) != "It works" {
		t.Errorf("fetch: %q, %v", b, err)
	}
	return time.Since(begin)
}

// proxied is an HTTP client whose every request takes a new connection through a
// proxy.
func proxied(proxy string, timeout time.Duration) *http.Client {
	return &http.Client{
		Timeout:   timeout,
		Transport: &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: proxy}), DisableKeepAlives: true},
	}
}

// A flow is a TCP connection through the tunnel in which one side writes a
// record of numbers every few milliseconds and the other checks them.
type flow struct {
	halt chan struct{} // closed to end the writer
	done chan struct{} // closed when the reader has ended

	mu    sync.Mutex // guards what follows
	gaps  []gap
	bytes int
	err   error
}

// A gap is a time in which nothing came.
type gap struct{ length, end time.Duration } // end counts from the begin of the transfer

const (
	recordSize  = 4096
	recordPause = 20 * time.Millisecond
)

// startFlow connects through an HTTP proxy to a server of the test's own.
func startFlow(t *testing.T, proxy string, begin time.Time, download bool) *flow {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	near, err := net.Dial("tcp", proxy)
	if err != nil {
		t.Fatal(err)
	}
	near.SetDeadline(time.Now().Add(patience))
	fmt.Fprintf(near, "CONNECT %s HTTP/1.1\r\nHost: %[1]s\r\n\r\n", l.Addr())
	in := bufio.NewReader(near)
	if r, err := http.ReadResponse(in, &http.Request{Method: http.MethodConnect}); err != nil || r.StatusCode != http.StatusOK {
		t.Fatalf("CONNECT answered by %v, %v", r, err)
	}
	near.SetDeadline(time.Time{})
	l.(*net.TCPListener).SetDeadline(time.Now().Add(patience))
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { near.Close(); far.Close() })

	f := &flow{halt: make(chan struct{}), done: make(chan struct{})}
	if download {
		go f.write(far)
		go f.read(in, begin)
	} else {
		go f.write(near)
		go f.read(bufio.NewReader(far), begin)
	}
	return f
}

// end waits for the end of the flow and returns what the reader saw.
func (f *flow) end() ([]gap, int, error) {
	select {
	case <-f.done:
	case <-time.After(patience):
		f.fail(errors.New("its end does not come"))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.gaps, f.bytes, f.err
}

func (f *flow) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		f.err = err
	}
}

func (f *flow) write(c net.Conn) {
	tick := time.NewTicker(recordPause)
	defer tick.Stop()
	record := make([]byte, recordSize)
	for number := uint64(0); ; {
		for i := 0; i < len(record); i += 8 {
			binary.BigEndian.PutUint64(record[i:], number)
			number++
		}
		if _, err := c.Write(record); err != nil {
			f.fail(fmt.Errorf("write: %w", err))
			return
		}
		select {
		case <-f.halt:
			c.(*net.TCPConn).CloseWrite()
			return
		case <-tick.C:
		}
	}
}

func (f *flow) read(r io.Reader, begin time.Time) {
	defer close(f.done)
	b := make([]byte, 8)
	last := time.Now()
	for number := uint64(0); ; number++ {
		n, err := io.ReadFull(r, b[:8])
		if n == 0 && errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			f.fail(fmt.Errorf("read after %d bytes: %w", 8*number, err))
			return
		}
		if got := binary.BigEndian.Uint64(b); got != number {
			f.fail(fmt.Errorf("number %d where %d was to come", got, number))
			return
		}
		now := time.Now()
		f.mu.Lock()
		f.bytes += n
		if now.Sub(last) > 50*time.Millisecond {
			f.gaps = append(f.gaps, gap{now.Sub(last), now.Sub(begin)})
		}
		f.mu.Unlock()
		last = now
	}
}
