package netstack

import (
	"regexp"
	"testing"

	"gvisor.dev/gvisor/pkg/buffer"
)

func TestDatagramsWaitWhenTheQueueIsFull(t *testing.T) {
	q := newOutbound()
	item := func() outItem { return outItem{raw: buffer.NewViewSize(outboundLimit / 4), size: outboundLimit / 4} }
	for range 4 {
		if !q.push(item()) {
			t.Fatal("refused")
		}
	}
	pushed := make(chan bool)
	go func() {
		pushed <- q.push(item())
		pushed <- q.push(item())
	}()
	select {
	case <-pushed:
		t.Fatal("the fifth did not wait")
	default:
	}
	if last := item(); q.tryPush(last) {
		t.Error("tryPush took what would have had to wait")
	} else {
		last.release()
	}
	if !q.push(segmentOf(1, 0)) {
		t.Error("TCP was refused beside datagrams")
	}
	items := takeAll(q, 5)
	for range 2 {
		if !<-pushed {
			t.Error("refused after there was room")
		}
	}
	if items = append(items, takeAll(q, 2)...); len(items) != 7 {
		t.Errorf("took %d", len(items))
	}
}

func TestQueueIsBounded(t *testing.T) {
	q := newOutbound()
	i := segmentOf(1, 0)
	i.size = outboundMost - itemCost
	if !q.push(i) {
		t.Fatal("refused")
	}
	if last := segmentOf(1, 0); q.push(last) {
		t.Error("took more than the most")
	} else {
		last.release()
	}
	takeAll(q, 1)
	if !q.push(segmentOf(1, 0)) {
		t.Error("refused although all was taken")
	}
}

func TestTakeWithoutWaiting(t *testing.T) {
	q := newOutbound()
	if items, ok := q.take(nil, false); !ok || len(items) != 0 {
		t.Errorf("took %d, %v", len(items), ok)
	}
}

func TestClosedQueueLetsEverybodyGo(t *testing.T) {
	q := newOutbound()
	pushed, taken := make(chan bool), make(chan bool)
	go func() {
		ok := true
		for ok {
			ok = q.push(outItem{raw: buffer.NewViewSize(outboundLimit), size: outboundLimit})
		}
		pushed <- ok
	}()
	q.take(nil, true)
	q.close()
	if <-pushed {
		t.Error("pushed to a closed queue")
	}
	go func() {
		_, ok := q.take(nil, true)
		taken <- ok
	}()
	if <-taken {
		t.Error("took from a closed queue")
	}
}

// takeAll takes n items.
func takeAll(q *outbound, n int) (all []outItem) {
	for len(all) < n {
		items, ok := q.take(nil, true)
		if !ok {
			return all
		}
		all = append(all, items...)
	}
	return all
}

func TestEveryReasonHasAName(t *testing.T) {
	snake := regexp.MustCompile(`^[a-z0-9]+(_[a-z0-9]+)*$`)
	seen := make(map[string]bool)
	for r, name := range reasonNames {
		if !snake.MatchString(name) || seen[name] {
			t.Errorf("reason %d is named %q", r, name)
		}
		seen[name] = true
	}
}
