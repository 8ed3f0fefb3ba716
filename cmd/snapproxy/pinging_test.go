package main

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func init() {
	maps.Copy(samples, map[string]string{"count": "7", "hosts": "hosts", "interval": "200ms", "json": "true", "size": "100", "timeout": "3s"})
}

// An echoing is a network for a pinging: what comes back for each request, and
// how long after it.
type echoing map[uint16][]struct {
	after time.Duration
	echo  echo
}

func (n echoing) run(ctx context.Context, p *pinging) string {
	var out bytes.Buffer
	echoes := make(chan echo, 16)
	p.echoes, p.out = echoes, &out
	if p.send == nil {
		p.send = func(sequence uint16) error {
			for _, back := range n[sequence] {
				go func() {
					time.Sleep(back.after)
					e := back.echo
					e.sequence, e.at, e.size, e.from = sequence, time.Now(), 100, "1-ff00:0:112,10.0.0.5"
					echoes <- e
				}()
			}
			return nil
		}
	}
	p.run(ctx)
	p.summary("1-ff00:0:112,10.0.0.5")
	synctest.Wait()
	return out.String()
}

func TestPingCountsWhatComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := echoing{
			1: {{after: 10 * time.Millisecond}},
			2: {{after: 20 * time.Millisecond}, {after: 30 * time.Millisecond}},
			3: {{after: 5 * time.Millisecond, echo: echo{problem: "interface 1-ff00:0:110#2 is down"}}},
			4: {{after: 2500 * time.Millisecond}},
			6: {{after: 30 * time.Millisecond}},
		}
		p := &pinging{count: 6, interval: time.Second, timeout: 2 * time.Second}
		got := n.run(t.Context(), p)
		want := `100 bytes from 1-ff00:0:112,10.0.0.5: seq=1 time=10.000 ms
100 bytes from 1-ff00:0:112,10.0.0.5: seq=2 time=20.000 ms
100 bytes from 1-ff00:0:112,10.0.0.5: seq=2 time=30.000 ms (duplicate)
from 1-ff00:0:112,10.0.0.5: seq=3 interface 1-ff00:0:110#2 is down
seq=4 no answer in 2s
100 bytes from 1-ff00:0:112,10.0.0.5: seq=6 time=30.000 ms
100 bytes from 1-ff00:0:112,10.0.0.5: seq=4 time=2500.000 ms (late)
seq=5 no answer in 2s

--- 1-ff00:0:112,10.0.0.5 ping statistics ---
6 packets transmitted, 4 received, +1 duplicates, +1 errors, 33.33% packet loss, time 6000 ms
rtt min/avg/max/mdev = 10.000/640.000/2500.000/1073.895 ms
`
		if got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	})
}

func TestPingEndsWithTheLastAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		n := echoing{1: {{after: time.Millisecond}}, 2: {{after: time.Millisecond}}}
		n.run(t.Context(), &pinging{count: 2, interval: time.Second, timeout: time.Minute})
		if took := time.Since(began); took != time.Second+time.Millisecond {
			t.Errorf("it took %v", took)
		}
	})
}

func TestAnInterruptedPingPrintsStatistics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(3500*time.Millisecond, cancel)
		got := echoing{2: {{after: time.Millisecond}}}.run(ctx, &pinging{interval: time.Second, timeout: time.Minute})
		if want := "4 packets transmitted, 1 received, 75% packet loss, time 3500 ms\n"; !strings.Contains(got, want) {
			t.Errorf("got\n%s\nwant %s", got, want)
		}
	})
}

func TestPingSaysWhatIsNotSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pinging{count: 2, interval: time.Second, timeout: time.Second, send: func(uint16) error { return errors.New("network is down") }}
		got := echoing{}.run(t.Context(), p)
		if !strings.Contains(got, "seq=2 not sent: network is down\n") || !strings.Contains(got, "2 packets transmitted, 0 received, +2 errors, 100% packet loss") || strings.Contains(got, "rtt") {
			t.Errorf("got\n%s", got)
		}
	})
}

// TestALongPingForgets: what came after 256 others is no answer any more, and
// sequence numbers begin again.
func TestALongPingForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := echoing{0: {{after: time.Millisecond}}, 3: {{after: 5 * time.Second}}}
		p := &pinging{sent: 65530, count: 65530 + 600, interval: 10 * time.Millisecond, timeout: time.Second}
		n.run(t.Context(), p)
		if p.received != 1 || p.duplicates != 0 || len(p.requests) > maxPingRequests {
			t.Errorf("%d received, %d duplicates, %d remembered", p.received, p.duplicates, len(p.requests))
		}
	})
}

func TestPingReadsTimesAsPingDoes(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"1": time.Second, "0.2": 200 * time.Millisecond, "200ms": 200 * time.Millisecond, "1m": time.Minute,
		"0": 0, "-1": 0, "": 0, "s": 0, "0.001": 0, "1e9999": 0,
	} {
		got, err := parseInterval(text)
		if err == nil && got != want || (err == nil) != (want != 0) {
			t.Errorf("%q is %v, %v; want %v", text, got, err, want)
		}
	}
}
