//go:build unix

package test

import (
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// A volume is how much a transfer test carries.
type volume struct {
	stream   int64 // bytes each way in one stream
	parallel int   // streams at once
	each     int64 // bytes each way in each of them
}

func TestTransferArrivesWhole(t *testing.T) {
	t.Parallel()
	testTransfer(t, volume{stream: 64 << 20, parallel: 50, each: 1 << 20})
}

// testTransfer carries a volume over processes of its own and wants them to
// hold as much afterwards as before.
func testTransfer(t *testing.T, v volume) {
	tp := build(t, layout{})
	mirror := serveTCP(t, "127.0.0.1:0", hashThenSend)
	carry(t, connectSOCKS(t, tp.socks, mirror.addr), 1<<10) // what is made once is made now
	connectHTTP(t, tp.http, mirror.addr).Close()
	before := tp.settle(t, nil)

	begin := time.Now()
	carry(t, connectSOCKS(t, tp.socks, mirror.addr), v.stream)
	took := time.Since(begin)
	t.Logf("%d MiB each way in %.1f s: %.0f MiB/s", v.stream>>20, took.Seconds(), float64(2*v.stream>>20)/took.Seconds())

	begin = time.Now()
	var wg sync.WaitGroup
	for i := range v.parallel {
		wg.Go(func() {
			if i%2 == 0 {
				carry(t, connectSOCKS(t, tp.socks, mirror.addr), v.each)
			} else {
				carry(t, connectHTTP(t, tp.http, mirror.addr), v.each)
			}
		})
	}
	wg.Wait()
	took = time.Since(begin)
	t.Logf("%d streams of %d MiB each way in %.1f s: %.0f MiB/s", v.parallel, v.each>>20, took.Seconds(), float64(2*int64(v.parallel)*v.each>>20)/took.Seconds())
	tp.settle(t, before)
	for _, role := range tp.roles() {
		t.Logf("%s: peak memory %s, %s threads, %d descriptors before and after, %s CPU seconds", role.cmd.Args[1],
			procStatus(role, "VmHWM"), procStatus(role, "Threads"), before[role], cpuSeconds(role))
	}
}

// hashThenSend reads a size, takes so many bytes, answers with their hash, and
// then sends as many of its own followed by their hash. It does both at once.
func hashThenSend(c *net.TCPConn) {
	var size int64
	if _, err := fmt.Fscanf(c, "%d\n", &size); err != nil {
		return
	}
	done := make(chan hash.Hash)
	go func() {
		h := sha256.New()
		io.Copy(h, io.LimitReader(c, size))
		done <- h
	}()
	h := sha256.New()
	io.Copy(io.MultiWriter(c, h), io.LimitReader(randomBytes(uint64(size)), size))
	c.Write(h.Sum(nil))
	c.Write((<-done).Sum(nil))
	c.CloseWrite()
}

// carry is the other side of hashThenSend.
func carry(t *testing.T, w *wire, size int64) {
	t.Helper()
	w.SetDeadline(time.Now().Add(8 * time.Minute))
	sent, received := sha256.New(), sha256.New()
	var wg sync.WaitGroup
	wg.Go(func() {
		fmt.Fprintf(w.TCPConn, "%d\n", size)
		if n, err := io.Copy(io.MultiWriter(w.TCPConn, sent), io.LimitReader(randomBytes(7), size)); err != nil {
			t.Errorf("sent %d of %d bytes: %v", n, size, err)
		}
		w.CloseWrite()
	})
	n, err := io.Copy(received, io.LimitReader(w, size))
	if err != nil || n != size {
		t.Errorf("received %d of %d bytes: %v", n, size, err)
	}
	wg.Wait()
	sums, err := io.ReadAll(w)
	if err != nil || string(sums) != string(received.Sum(nil))+string(sent.Sum(nil)) {
		t.Errorf("hashes of %d bytes each way: %d bytes that differ, %v", size, len(sums), err)
	}
	w.Close()
}

// randomBytes is an endless stream that no compression shortens.
func randomBytes(seed uint64) io.Reader {
	var key [32]byte
	key[0] = byte(seed)
	return rand.NewChaCha8(key)
}

func (tp *topology) roles() []*process { return []*process{tp.snap, tp.exit, tp.client} }

// settle waits until the roles hold no more descriptors than before, and
// returns how many they hold. If before is nil, it waits until the number no
// longer falls.
func (tp *topology) settle(t *testing.T, before map[*process]int) map[*process]int {
	t.Helper()
	count := func() map[*process]int {
		held := map[*process]int{}
		for _, role := range tp.roles() {
			held[role] = descriptors(t, role)
		}
		return held
	}
	held := count()
	eventually(patience, func() bool {
		last := held
		held = count()
		for role, n := range held {
			if before == nil && n < last[role] || before != nil && n > before[role] {
				return false
			}
		}
		return true
	})
	for role, n := range before {
		if held[role] > n {
			t.Errorf("%s holds %d descriptors, %d before", role.cmd.Args[1], held[role], n)
		}
	}
	return held
}

// descriptors is how many descriptors a process holds. Without /proc the test
// is skipped.
func descriptors(t *testing.T, p *process) int {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.cmd.Process.Pid))
	if err != nil {
		t.Skipf("no /proc to count descriptors in: %v", err)
	}
	return len(entries)
}

// procStatus is a field of /proc/PID/status.
func procStatus(p *process, field string) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	m := regexp.MustCompile(`(?m)^` + field + `:\s*(.*)$`).FindSubmatch(b)
	if err != nil || m == nil {
		return "unknown"
	}
	return string(m[1])
}

// cpuSeconds is the time that a process has had of the cores, of 100 ticks a
// second as everywhere.
func cpuSeconds(p *process) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	if err != nil || len(fields) < 13 {
		return "unknown"
	}
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return fmt.Sprintf("%d.%02d", (user+system)/100, (user+system)%100)
}

// memory is the resident memory of a process in KiB, or of its peak.
func memory(t *testing.T, p *process, field string) int {
	t.Helper()
	n, err := strconv.Atoi(strings.TrimSuffix(procStatus(p, field), " kB"))
	if err != nil {
		t.Skipf("no /proc to read memory from: %v", err)
	}
	return n
}
