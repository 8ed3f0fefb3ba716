package scion

import (
	"fmt"
	"time"
)

// repeatedReport is how long after it was left a route that is used for want of
// a better is not left again, as reports of what was under way arrive.
const repeatedReport = time.Second

// Report takes a report about a packet that the caller recognizes as its own,
// and returns whether it changed anything. Down interfaces take all routes
// across them out, a refused hop field the route, and a packet too big lowers
// the MTU of the route. A report that names an interface which is not on the
// quoted packet's path is not believed.
func (p *Paths) Report(r Report) bool {
	t := p.clock()
	p.mu.Lock()
	defer p.mu.Unlock()
	if r.To.IA != p.cfg.Dst {
		return false
	}
	quoted := p.find(hopsKey(r.To.Path))
	if quoted == nil {
		return false
	}
	switch {
	case r.Type == scmpInterfaceDown || r.Type == scmpConnectivityDown:
		return p.interfaceDown(quoted, r, t)
	case r.Type == scmpParameterProblem && r.Code >= scmpInvalidPath && r.Code <= scmpSegmentChange && !r.IA.IsZero():
		if route := quoted.route.Load(); r.To.Path != route.Path {
			return false // that was about what is replaced
		}
		p.hurryUp(hurriedRefresh)
		if !p.reported(quoted, t, fmt.Sprintf("%s reports: %s", r.IA, r)) {
			return false
		}
		quoted.stale = true
		quoted.until = max(quoted.until, quoted.at+staleFor)
		p.rank(t)
		return true
	case r.Type == scmpPacketTooBig:
		return p.tooBig(quoted, r, t)
	}
	return false
}

// interfaceDown leaves all candidates that need what is down.
func (p *Paths) interfaceDown(quoted *candidate, r Report, t time.Time) (moved bool) {
	if !quoted.route.Load().needs(r) {
		return false
	}
	reason := fmt.Sprintf("%s reports: %s", r.IA, r)
	var hit []*candidate
	for _, c := range p.candidates {
		if c.route.Load().needs(r) {
			hit = append(hit, c)
		}
	}
	for _, c := range hit {
		moved = p.reported(c, t, reason) || moved
	}
	return moved
}

// reported leaves a candidate, unless it was just left.
func (p *Paths) reported(c *candidate, t time.Time, reason string) bool {
	now := p.instant(t)
	if c.left && now < c.until && (now-c.at < repeatedReport || c != p.best.Load()) {
		return false
	}
	p.leave(c, t, reason)
	c.reported = true
	return true
}

// needs reports whether the route needs what a report says is down.
func (r *Route) needs(down Report) bool {
	for i, at := range r.Interfaces {
		if at.IA != down.IA || at.ID != down.Egress {
			continue
		}
		if down.Type == scmpInterfaceDown {
			return true
		}
		// At odd places an AS is entered, and it is left at what follows. The
		// first AS is entered at no interface.
		if i == 0 && down.Ingress == 0 || i%2 == 0 && i > 0 && r.Interfaces[i-1].ID == down.Ingress {
			return true
		}
	}
	return false
}

// tooBig lowers the MTU of a candidate, and lets nobody use it if it is too
// little.
func (p *Paths) tooBig(c *candidate, r Report, t time.Time) bool {
	old := c.route.Load()
	if r.MTU >= old.MTU {
		return false
	}
	now := p.instant(t)
	c.mtu, c.mtuUntil = max(r.MTU, 1), now+mtuFor
	lower := *old
	lower.MTU = c.mtu
	c.route.Store(&lower)
	if c.tooSmall = p.small(&lower); c.tooSmall {
		c.reason = fmt.Sprintf("%s reports: %s", r.IA, r)
		p.say("path left", c, c.reason)
		p.rank(t)
		p.move(c)
	}
	return true
}

// MTU returns the MTU in bytes of the route that has the path, by its pointer,
// or zero if there is none. It does not lock.
func (p *Paths) MTU(path *Path) int {
	if c := p.best.Load(); c != nil {
		if r := c.route.Load(); r.Path == path {
			return r.MTU
		}
	}
	if c := p.candidate(path); c != nil {
		if r := c.route.Load(); r.Path == path {
			return r.MTU
		}
	}
	return 0
}
