package snapproxy

import "testing"

func TestTunnelsOfOneKeyAreBounded(t *testing.T) {
	var tunnels snapTunnels
	one, other := newKey(t).PublicKey(), newKey(t).PublicKey()
	for i := range uint16(maxTunnelsEach) {
		for range 2 { // counted once
			if !tunnels.add(origin(i), one) {
				t.Fatalf("tunnel %d is one too many", i)
			}
		}
	}
	last := origin(maxTunnelsEach)
	if tunnels.add(last, one) || tunnels.has(last) {
		t.Error("there is no bound")
	}
	if !tunnels.add(last, other) || !tunnels.has(last) {
		t.Error("another key's tunnel is refused")
	}
	if tunnels.remove(origin(7)); tunnels.has(origin(7)) || !tunnels.add(origin(8000), one) {
		t.Error("the place of one that is gone stays taken")
	}
	if !tunnels.add(origin(9), other) || !tunnels.add(origin(8001), one) { // a newcomer at its origin
		t.Error("the place of one that was replaced stays taken")
	}
	for i := range uint16(9000) {
		tunnels.remove(origin(i))
	}
	if len(tunnels.keys)+len(tunnels.count) != 0 {
		t.Errorf("%d tunnels, %d keys are left", len(tunnels.keys), len(tunnels.count))
	}
}
