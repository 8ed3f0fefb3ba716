package netstack

import "sync/atomic"

// A reason is why a packet or flow was counted.
type reason int

const (
	inPackets reason = iota
	inMalformed
	inBadSource
	inSpoofed
	inMulticast
	inBadDestination
	inNotOurs
	inExtension
	inProtocol
	inNeighbour
	inEchoForeign
	inICMPOther
	inICMPForged
	inICMPUnmatched
	inTooBigSmall
	inUDPOverflow
	inMerged
	outPackets
	outMalformed
	outMulticast
	outNeighbour
	outLink
	outFull
	outResent
	mssClamped
	dialsRefused
	udpErrors
	tcpFlowsStarted
	tcpFlowsRepeated
	tcpFlowsOverLimit
	udpFlowsStarted
	udpFlowsOverLimit
	flowsRefused
	flightsRevived
	outMended
	mendsAside
	probesVain
	reasons
)

var reasonNames = [reasons]string{
	inPackets:         "in_packets",
	inMalformed:       "in_malformed",
	inBadSource:       "in_bad_source",
	inSpoofed:         "in_own_source",
	inMulticast:       "in_multicast",
	inBadDestination:  "in_bad_destination",
	inNotOurs:         "in_not_ours",
	inExtension:       "in_extension_header",
	inProtocol:        "in_protocol",
	inNeighbour:       "in_neighbour_or_router",
	inEchoForeign:     "in_echo_not_ours",
	inICMPOther:       "in_icmp_other",
	inICMPForged:      "in_icmp_forged",
	inICMPUnmatched:   "in_icmp_unmatched",
	inTooBigSmall:     "in_packet_too_big_below_1280",
	inUDPOverflow:     "in_udp_overflow",
	inMerged:          "in_merged",
	outPackets:        "out_packets",
	outMalformed:      "out_malformed",
	outMulticast:      "out_multicast",
	outNeighbour:      "out_neighbour_or_router",
	outLink:           "out_link_dropped",
	outFull:           "out_queue_full",
	outResent:         "out_resent_after_silence",
	mssClamped:        "mss_clamped",
	dialsRefused:      "dials_refused_by_icmp",
	udpErrors:         "udp_icmp_errors",
	tcpFlowsStarted:   "tcp_flows",
	tcpFlowsRepeated:  "tcp_flows_repeated_syn",
	tcpFlowsOverLimit: "tcp_flows_over_limit",
	udpFlowsStarted:   "udp_flows",
	udpFlowsOverLimit: "udp_flows_over_limit",
	flowsRefused:      "flows_refused",
	flightsRevived:    "tcp_revived",
	outMended:         "out_resent_for_holes",
	mendsAside:        "tcp_congestion_told",
	probesVain:        "tcp_probes_in_vain",
}

type counters [reasons]atomic.Uint64

func (c *counters) add(r reason)         { c[r].Add(1) }
func (c *counters) addN(r reason, n int) { c[r].Add(uint64(n)) }

// Counters returns how often each thing worth counting happened: packets by
// direction, drops by reason, flows and refusals. Every name is present from
// the start.
func (s *Stack) Counters() map[string]uint64 {
	m := make(map[string]uint64, reasons)
	for r, name := range reasonNames {
		m[name] = s.counters[r].Load()
	}
	return m
}
