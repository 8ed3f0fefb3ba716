package endhost

import (
	"testing"
	"time"

	"github.com/snapproxy/snapproxy/scion"
)

func TestLatenciesAddUp(t *testing.T) {
	type microseconds = map[uint64]uint32
	var l latencies
	announce := func(ia string, egress uint16, across, between microseconds) {
		l.add(&asEntry{ia: as(ia), hop: hopField{out: egress}, latency: announced{across, between}})
	}
	announce("110", 1, microseconds{8: 3, 9: 4}, microseconds{1: 100})
	announce("110", 8, microseconds{1: 5}, microseconds{8: 200})
	announce("111", 0, nil, microseconds{2: 90, 6: uint32(maxLatency/time.Microsecond) + 1})
	l.add(&asEntry{ia: as("120")})
	tests := []struct {
		name  string
		route []scion.Interface
		want  time.Duration
	}{
		{"a link announced at both ends", []scion.Interface{{IA: as("111"), ID: 2}, {IA: as("110"), ID: 1}}, 100 * time.Microsecond},
		{"an AS between two links", []scion.Interface{{IA: as("111"), ID: 2}, {IA: as("110"), ID: 1}, {IA: as("110"), ID: 8}, {IA: as("120"), ID: 9}}, 305 * time.Microsecond},
		{"the way back", []scion.Interface{{IA: as("120"), ID: 9}, {IA: as("110"), ID: 8}, {IA: as("110"), ID: 1}, {IA: as("111"), ID: 2}}, 305 * time.Microsecond},
		{"an AS that says nothing", []scion.Interface{{IA: as("111"), ID: 2}, {IA: as("110"), ID: 1}, {IA: as("110"), ID: 7}, {IA: as("120"), ID: 9}}, 0},
		{"a link that takes hours", []scion.Interface{{IA: as("111"), ID: 6}, {IA: as("113"), ID: 1}}, 0},
		{"inside an AS", nil, 0},
	}
	for _, tt := range tests {
		if got := l.of(tt.route); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}
