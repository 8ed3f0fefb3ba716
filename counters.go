package snapproxy

// Counters returns how often each thing worth counting happened since the SNAP
// was made, in all its parts; the prefix of a name is the part. The names are
// stable, and present from the start.
func (s *SNAP) Counters() map[string]uint64 {
	c := map[string]uint64{
		"snap_malformed":     s.counters.malformed.Load(),
		"snap_spoofed":       s.counters.spoofed.Load(),
		"snap_path_type":     s.counters.pathType.Load(),
		"snap_no_route":      s.counters.noRoute.Load(),
		"snap_undeliverable": s.counters.undeliverable.Load(),
	}
	if s.network != nil {
		s.network.addCounters(c)
	}
	addCounters(c, "tunnel_", s.listener.Counters())
	addCounters(c, "udp_", s.udp.Counters())
	return c
}

// Counters is as for SNAP.
func (e *Exit) Counters() map[string]uint64 {
	c := map[string]uint64{
		"exit_spoofed":       e.link.spoofed.Load(),
		"exit_unknown_inner": e.link.unknown.Load(),
	}
	e.att.addCounters(c)
	addCounters(c, "inner_", e.link.listener.Counters())
	addCounters(c, "stack_", e.stack.Counters())
	return c
}

// Counters is as for SNAP.
func (c *Client) Counters() map[string]uint64 {
	m := map[string]uint64{
		"socks_datagrams_foreign":     c.counters.foreignDatagrams.Load(),
		"socks_datagrams_bad":         c.counters.badDatagrams.Load(),
		"socks_datagrams_waiting":     c.counters.waitingDatagrams.Load(),
		"socks_datagrams_unresolved":  c.counters.unresolvedDatagrams.Load(),
		"socks_datagrams_undelivered": c.counters.undeliveredDatagrams.Load(),
	}
	m["scmp_foreign"] = c.foreign.Load()
	c.att.addCounters(m)
	addCounters(m, "inner_", c.inner.Counters())
	addCounters(m, "stack_", c.stack.Counters())
	return m
}

func addCounters(dst map[string]uint64, prefix string, src map[string]uint64) {
	for name, n := range src {
		dst[prefix+name] = n
	}
}
