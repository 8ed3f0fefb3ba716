package scion

import "sync/atomic"

// maxKnown bounds the paths whose candidate is remembered.
const maxKnown = 64

// A knownPaths remembers the candidates of paths, until candidates come or go.
type knownPaths struct {
	last atomic.Pointer[knownPath]
	seen map[*Path]*knownPath // guarded by Paths.mu
}

type knownPath struct {
	path      *Path
	candidate *candidate // nil: of none
}

// candidate returns the candidate that crosses the same interfaces as a path,
// or nil. It does not lock if it was asked the same before.
func (p *Paths) candidate(path *Path) *candidate {
	if last := p.known.Load().last.Load(); last != nil && last.path == path {
		return last.candidate
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	k := p.known.Load()
	found := k.seen[path]
	if found == nil {
		if len(k.seen) >= maxKnown {
			clear(k.seen)
		}
		found = &knownPath{path, p.find(hopsKey(path))}
		k.seen[path] = found
	}
	k.last.Store(found)
	return found.candidate
}

// forget is called, with mu held, when candidates come or go.
func (p *Paths) forget() { p.known.Store(&knownPaths{seen: make(map[*Path]*knownPath)}) }

// find returns the candidate with the key, or nil. It is called with mu held.
func (p *Paths) find(key string) *candidate {
	for _, c := range p.candidates {
		if c.key == key {
			return c
		}
	}
	return nil
}

// hopsKey is the same for paths with the same hops.
func hopsKey(path *Path) string {
	if path == nil {
		return ""
	}
	var ids [2 * maxHops]uint16
	n := path.crossed(&ids)
	key := make([]byte, 0, 2*n)
	for _, id := range ids[:n] {
		key = append(key, byte(id>>8), byte(id))
	}
	return string(key)
}
