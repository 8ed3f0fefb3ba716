package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"time"
)

// A pinging is a run of echo requests, one each interval, and what came of
// them.
//
//	request ── answer                  received
//	   │ ├──── another answer          duplicate
//	   │ └──── SCMP error              error
//	   └────── timeout: said once; an answer may still come
type pinging struct {
	count    int // of requests; 0: until ctx ends
	interval time.Duration
	timeout  time.Duration
	send     func(sequence uint16) error
	echoes   <-chan echo
	out      io.Writer

	began      time.Time
	requests   []pingRequest // from the oldest that may be answered
	sent       int
	received   int
	duplicates int
	errors     int
	rtt        rttStatistics
}

// A pingRequest is an echo request that was sent.
type pingRequest struct {
	sequence uint16
	at       time.Time
	over     bool // there was an answer or an error
	late     bool // there was none in time
}

// An echo is what came back for a request.
type echo struct {
	sequence uint16
	at       time.Time
	size     int    // bytes of the SCION packet
	from     string // who answers
	problem  string // what an SCMP error says; "": an answer
}

// maxPingRequests is how many requests are remembered, as scion.Echo does.
const maxPingRequests = 256

// run sends requests until ctx ends or as many as were wanted are answered or
// given up.
func (p *pinging) run(ctx context.Context) {
	p.began = time.Now()
	next := time.NewTimer(0)
	defer next.Stop()
	late := time.NewTimer(p.timeout)
	defer late.Stop()
	for !p.done() {
		select {
		case <-ctx.Done():
			p.drain()
			return
		case <-next.C:
			p.request()
			if p.count == 0 || p.sent < p.count {
				next.Reset(p.interval)
			}
		case e := <-p.echoes:
			p.take(e)
		case <-late.C:
		}
		late.Reset(p.giveUp(time.Now()))
	}
}

// done reports whether all was sent and nothing is awaited.
func (p *pinging) done() bool {
	if p.count == 0 || p.sent < p.count {
		return false
	}
	for _, r := range p.requests {
		if !r.over && !r.late {
			return false
		}
	}
	return true
}

func (p *pinging) request() {
	p.sent++
	r := pingRequest{sequence: uint16(p.sent), at: time.Now()}
	if err := p.send(r.sequence); err != nil {
		p.errors++
		r.over = true
		fmt.Fprintf(p.out, "seq=%d not sent: %v\n", r.sequence, err)
	}
	if len(p.requests) == maxPingRequests {
		p.requests = append(p.requests[:0], p.requests[1:]...)
	}
	p.requests = append(p.requests, r)
}

// drain takes what has come by now.
func (p *pinging) drain() {
	for {
		select {
		case e := <-p.echoes:
			p.take(e)
		default:
			return
		}
	}
}

func (p *pinging) take(e echo) {
	for i := range p.requests {
		r := &p.requests[i]
		if r.sequence != e.sequence {
			continue
		}
		note := ""
		if r.late {
			note = " (late)"
		}
		switch {
		case e.problem != "":
			if !r.over {
				p.errors++
				fmt.Fprintf(p.out, "from %s: seq=%d %s\n", e.from, e.sequence, e.problem)
			}
			r.over = true
			return
		case r.over:
			p.duplicates++
			note = " (duplicate)"
		default:
			p.received++
			p.rtt.add(e.at.Sub(r.at))
		}
		r.over = true
		fmt.Fprintf(p.out, "%d bytes from %s: seq=%d time=%s ms%s\n", e.size, e.from, e.sequence, millis(e.at.Sub(r.at)), note)
		return
	}
}

// giveUp says which requests have no answer in time, and returns how long it
// is to the next that may have none.
func (p *pinging) giveUp(now time.Time) time.Duration {
	next := p.timeout
	for i := range p.requests {
		r := &p.requests[i]
		if r.over || r.late {
			continue
		}
		if left := r.at.Add(p.timeout).Sub(now); left > 0 {
			next = min(next, left)
			continue
		}
		r.late = true
		fmt.Fprintf(p.out, "seq=%d no answer in %v\n", r.sequence, p.timeout)
	}
	return next
}

// summary writes the statistics, as ping does.
func (p *pinging) summary(to string) {
	fmt.Fprintf(p.out, "\n--- %s ping statistics ---\n%d packets transmitted, %d received, ", to, p.sent, p.received)
	if p.duplicates > 0 {
		fmt.Fprintf(p.out, "+%d duplicates, ", p.duplicates)
	}
	if p.errors > 0 {
		fmt.Fprintf(p.out, "+%d errors, ", p.errors)
	}
	loss := 0.0
	if p.sent > 0 {
		loss = 100 * float64(p.sent-p.received) / float64(p.sent)
	}
	fmt.Fprintf(p.out, "%.4g%% packet loss, time %d ms\n", loss, time.Since(p.began).Milliseconds())
	if p.received > 0 {
		fmt.Fprintf(p.out, "rtt min/avg/max/mdev = %s ms\n", &p.rtt)
	}
}

// rttStatistics are those of round-trip times.
type rttStatistics struct {
	n           int
	least, most time.Duration
	sum, square float64 // of nanoseconds
}

func (s *rttStatistics) add(d time.Duration) {
	if s.n == 0 || d < s.least {
		s.least = d
	}
	s.most = max(s.most, d)
	s.n++
	s.sum += float64(d)
	s.square += float64(d) * float64(d)
}

// String returns least, average, most and standard deviation in milliseconds.
func (s *rttStatistics) String() string {
	average := s.sum / float64(s.n)
	deviation := math.Sqrt(max(0, s.square/float64(s.n)-average*average))
	return fmt.Sprintf("%s/%s/%s/%s", millis(s.least), millis(time.Duration(average)), millis(s.most), millis(time.Duration(deviation)))
}
