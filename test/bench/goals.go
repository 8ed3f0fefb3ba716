package main

import "fmt"

// A Goal is what is wanted of a value, and what it was.
type Goal struct {
	Name  string  `json:"name"`
	Want  string  `json:"want"`
	Got   float64 `json:"got"`
	Unit  string  `json:"unit,omitempty"`
	Known bool    `json:"known"` // false: it was not measured
	Met   bool    `json:"met"`
}

// A bound is the value that a goal sets.
type bound struct {
	atLeast bool
	value   float64
}

func (b bound) String() string {
	if b.atLeast {
		return fmt.Sprintf(">= %g", b.value)
	}
	return fmt.Sprintf("<= %g", b.value)
}

func (b bound) holds(v float64) bool { return b.atLeast && v >= b.value || !b.atLeast && v <= b.value }

func atLeast(v float64) bound { return bound{true, v} }
func atMost(v float64) bound  { return bound{false, v} }

// judge compares what was found with the goals.
func (r *Report) judge() (goals []Goal) {
	goal := func(name string, want bound, unit string, got float64, known bool) {
		goals = append(goals, Goal{name, want.String() + unit, got, unit, known, known && want.holds(got)})
	}
	ratio := func(name string, want bound, scenario, metric, of, to string) {
		x := r.ratio(scenario, metric, of, to)
		if x == nil {
			x = new(Ratio)
		}
		goal(name, want, "x", x.Median, len(x.Rounds) > 0)
	}
	value := func(name string, want bound, unit, scenario, metric, system string) {
		v, ok := r.median(scenario, metric, system)
		goal(name, want, unit, v, ok)
	}
	for _, way := range []string{"download", "upload"} {
		ratio(way+", one stream, three processes, to the pair", atLeast(3), way, "throughput", "separate", "pair")
	}
	for _, way := range []string{"download", "upload"} {
		ratio(way+", one stream, SNAP and exit in one process, to the pair", atLeast(4), way, "throughput", "serve", "pair")
	}
	for _, way := range []string{"download", "upload"} {
		for _, system := range []string{"separate", "serve"} {
			floor, ok := r.median("floors", "sum", system)
			got, has := r.median(way, "CPU", system)
			if floor == 0 {
				ok, floor = false, 1
			}
			goal(way+", CPU of "+system+" to the sum of its floors", atMost(1.5), "x", got/floor, ok && has)
		}
	}
	for _, way := range []string{"download", "upload"} {
		ratio(way+", 20 ms, to kernel TCP", atLeast(.9), way+", 20 ms", "throughput", "separate", "kernel")
	}
	for _, way := range []string{"download", "upload"} {
		ratio(way+", 100 ms and 0.1 % loss, to the pair", atLeast(5), way+", 100 ms, 0.1 % loss", "throughput", "separate", "pair")
	}
	ratio("connection to first byte, p50, to the pair", atMost(.3), "connections", "first byte p50", "separate", "pair")
	ratio("connection to first byte, p99, to the pair", atMost(.3), "connections", "first byte p99", "separate", "pair")
	ratio("connections per second, to the pair", atLeast(3), "connections", "connections", "separate", "pair")
	value("connection to first byte beside a stream, to idle", atMost(3), "x", "beside a stream", "first byte p50 to idle", "separate")
	ratio("SNAP, packets between two of its tunnels when flooded, to the Rust gateway", atLeast(2.5), gatewayScenario(0), "delivered", "SNAP", rustGateway)
	ratio("SNAP, CPU of a packet at 60000/s, to the Rust gateway", atMost(.45), gatewayScenario(60000), "CPU per packet", "SNAP", rustGateway)
	value("SNAP handshakes per core-second, to the X25519 floor", atLeast(.7), "x", "SNAP", "handshakes to floor", "separate")
	if n := r.mostTunnels(); n > 0 {
		scenario := tunnelScenario(n)
		value(fmt.Sprintf("memory of each of %d tunnels", n), atMost(20), " KB", scenario, "memory per tunnel", "separate")
		value(fmt.Sprintf("cost of a packet at %d tunnels, to that at 10", n), atMost(1.3), "x", scenario, "CPU per packet to 10", "separate")
	}
	value("RSS of an idle client", atMost(25), " MB", "idle", "RSS", "separate")
	value("CPU of an idle client", atMost(.2), " %", "idle", "share of a core", "separate")
	value("ready after start", atMost(300), " ms", "idle", "ready", "separate")
	value("200 streams at once, the fastest to the slowest", atMost(2), "x", "200 streams", "fairness", "separate")
	value("200 streams at once, their sum to one stream", atLeast(.9), "x", "200 streams", "to one stream", "separate")
	value("200 streams at once, peak RSS of the client", atMost(150), " MB", "200 streams", "peak RSS of client", "separate")
	value("stripped binary", atMost(20), " MB", "binary", "size", "separate")
	return goals
}

func tunnelScenario(n int) string { return fmt.Sprintf("%d tunnels", n) }

// gatewayScenario is packets between two tunnels, at a rate or as many as go.
func gatewayScenario(rate int) string {
	if rate == 0 {
		return "tunnel to tunnel, flooded"
	}
	return fmt.Sprintf("tunnel to tunnel, %d/s", rate)
}

// mostTunnels is the greatest number of tunnels that was measured.
func (r *Report) mostTunnels() (most int) {
	for _, s := range r.Series {
		var n int
		if k, err := fmt.Sscanf(s.Scenario, "%d tunnels", &n); k == 1 && err == nil {
			most = max(most, n)
		}
	}
	return most
}
