package endhost

import (
	"testing"
	"time"

	"github.com/scionproto/scion/pkg/addr"
	"github.com/scionproto/scion/pkg/segment"
	"github.com/scionproto/scion/pkg/segment/extensions/staticinfo"
	"github.com/scionproto/scion/pkg/segment/iface"

	"github.com/snapproxy/snapproxy/scion"
)

func TestLatenciesAddUp(t *testing.T) {
	type announced = map[iface.ID]time.Duration
	var l latencies
	announce := func(ia string, egress uint16, across, between announced) {
		e := segment.ASEntry{Local: addr.IA(as(ia))}
		e.HopEntry.HopField.ConsEgress = egress
		e.Extensions.StaticInfo = &staticinfo.Extension{Latency: staticinfo.LatencyInfo{Intra: across, Inter: between}}
		l.add(&e)
	}
	announce("110", 1, announced{8: 3, 9: 4}, announced{1: 100})
	announce("110", 8, announced{1: 5}, announced{8: 200, 7: -1})
	announce("111", 0, nil, announced{2: 90, 6: maxLatency + 1})
	l.add(&segment.ASEntry{Local: addr.IA(as("120"))})
	tests := []struct {
		name  string
		route []scion.Interface
		want  time.Duration
	}{
		{"a link announced at both ends", []scion.Interface{{IA: as("111"), ID: 2}, {IA: as("110"), ID: 1}}, 100},
		{"an AS between two links", []scion.Interface{{IA: as("111"), ID: 2}, {IA: as("110"), ID: 1}, {IA: as("110"), ID: 8}, {IA: as("120"), ID: 9}}, 305},
		{"the way back", []scion.Interface{{IA: as("120"), ID: 9}, {IA: as("110"), ID: 8}, {IA: as("110"), ID: 1}, {IA: as("111"), ID: 2}}, 305},
		{"an AS that says nothing", []scion.Interface{{IA: as("111"), ID: 2}, {IA: as("110"), ID: 1}, {IA: as("110"), ID: 7}, {IA: as("120"), ID: 9}}, 0},
		{"a link that takes hours", []scion.Interface{{IA: as("111"), ID: 6}, {IA: as("113"), ID: 1}}, 0},
		{"inside an AS", nil, 0},
	}
	for _, tt := range tests {
		if got := l.of(tt.route); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
}
