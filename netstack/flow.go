package netstack

// A flowCount bounds flows, altogether and per client. A client is a /112,
// which is what one key owns.
type flowCount struct {
	max, maxPerClient int
	total             int
	perClient         map[[14]byte]int
}

func newFlowCount(max, maxPerClient int) flowCount {
	return flowCount{max: max, maxPerClient: maxPerClient, perClient: make(map[[14]byte]int)}
}

func client(t tuple) [14]byte { return [14]byte(t[18:32]) }

// start counts a flow, or reports that there are too many.
func (f *flowCount) start(t tuple) bool {
	k := client(t)
	if f.total >= f.max || f.perClient[k] >= f.maxPerClient {
		return false
	}
	f.total++
	f.perClient[k]++
	return true
}

// done ends the count of a flow.
func (f *flowCount) done(t tuple) {
	k := client(t)
	f.total--
	if f.perClient[k]--; f.perClient[k] <= 0 {
		delete(f.perClient, k)
	}
}
