package snapproxy

import "sync"

// limits bounds how many connections there are, in all and of one user.
type limits struct {
	total, each int

	mu   sync.Mutex // guards what follows
	n    int
	user map[string]int
}

func newLimits(total, each int) *limits {
	return &limits{total: total, each: each, user: make(map[string]int)}
}

// take counts a connection in; it reports whether there is room.
func (l *limits) take() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.n >= l.total {
		return false
	}
	l.n++
	return true
}

func (l *limits) give() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.n--
}

// takeUser counts a stream of a user in; it reports whether there is room.
func (l *limits) takeUser(name string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.user[name] >= l.each {
		return false
	}
	l.user[name]++
	return true
}

func (l *limits) giveUser(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.user[name]--; l.user[name] == 0 {
		delete(l.user, name)
	}
}
