package netstack

import (
	"regexp"
	"testing"

	"gvisor.dev/gvisor/pkg/buffer"
)

func TestFullQueueMakesSendersWait(t *testing.T) {
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
	items, ok := q.take(nil)
	if !ok || len(items) != 4 {
		t.Fatalf("took %d, %v", len(items), ok)
	}
	for range 2 {
		if !<-pushed {
			t.Error("refused after there was room")
		}
	}
	items, ok = q.take(items)
	if !ok || len(items) != 2 {
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
	q.take(nil)
	q.close()
	if <-pushed {
		t.Error("pushed to a closed queue")
	}
	go func() {
		_, ok := q.take(nil)
		taken <- ok
	}()
	if <-taken {
		t.Error("took from a closed queue")
	}
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
