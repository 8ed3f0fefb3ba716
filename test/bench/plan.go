package main

import "time"

// A plan says how much is measured. What is measured does not depend on how
// fast it goes.
type plan struct {
	rounds       int // in which the systems take turns
	slowRounds   int // likewise, through the shim
	warmup       time.Duration
	stream       time.Duration
	slowWarmup   time.Duration // through the shim: until the window has opened
	slowStream   time.Duration
	lossWarmup   time.Duration // where losses set the window: until it has come down
	lossStream   time.Duration
	latency      time.Duration // connections one after the other
	connections  time.Duration // several at a time
	idle         time.Duration
	many         int // streams at once
	starts       int // of an idle client
	tunnels      []int
	packets      time.Duration // packets between tunnels
	packetRounds int
	gateway      time.Duration // packets between two tunnels at a rate
	gatewayFlood int           // packets when flooded
	floor        time.Duration // each
	crowd        int           // connections at the same moment
}

var usual = plan{
	rounds: 5, slowRounds: 3,
	warmup: 700 * time.Millisecond, stream: 2500 * time.Millisecond,
	slowWarmup: 2500 * time.Millisecond, slowStream: 4 * time.Second,
	lossWarmup: 3 * time.Second, lossStream: 5 * time.Second,
	latency: 2 * time.Second, connections: 2 * time.Second,
	idle: 10 * time.Second, many: 200, starts: 5,
	tunnels: []int{10, 1000, 10000}, packets: 3 * time.Second, packetRounds: 3,
	gateway: time.Second, gatewayFlood: 300000,
	floor: time.Second, crowd: 10000,
}

var quickPlan = plan{
	rounds: 1, slowRounds: 1,
	warmup: 300 * time.Millisecond, stream: time.Second,
	slowWarmup: time.Second, slowStream: 1500 * time.Millisecond,
	lossWarmup: time.Second, lossStream: 1500 * time.Millisecond,
	latency: 500 * time.Millisecond, connections: 500 * time.Millisecond,
	idle: 2 * time.Second, many: 200, starts: 1,
	tunnels: []int{10, 1000}, packets: time.Second, packetRounds: 1,
	gateway: 300 * time.Millisecond, gatewayFlood: 150000,
	floor: 200 * time.Millisecond, crowd: 1000,
}

// atOnce is how many connections are made at a time to see how many go in a
// second.
const atOnce = 16
