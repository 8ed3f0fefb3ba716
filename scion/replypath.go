package scion

// maxReplyPaths bounds a generation of the paths that a host has seen. A path
// has 1,000 bytes at most.
const maxReplyPaths = 1024

// A replyPaths holds the reversals of received paths, so that a path costs an
// allocation when it is first seen and equal paths are one pointer, until more
// than maxReplyPaths others have been seen since. It has no lock.
type replyPaths struct {
	last     *replyPath
	received generations[string, *replyPath] // by the bytes received
}

type replyPath struct {
	received string
	path     *Path
}

func newReplyPaths() replyPaths {
	return replyPaths{
		last:     &replyPath{},
		received: newGenerations[string, *replyPath](maxReplyPaths),
	}
}

// reverse returns the way back over raw, a valid path of type SCION.
func (r *replyPaths) reverse(raw []byte) *Path {
	if r.last.received == string(raw) {
		return r.last.path
	}
	p, ok := r.received.young[string(raw)] // does not allocate the key
	if !ok {
		p = r.learn(raw)
	}
	r.last = p
	return p.path
}

func (r *replyPaths) learn(raw []byte) *replyPath {
	if p, ok := r.received.get(string(raw)); ok {
		return p
	}
	p := &replyPath{received: string(raw)}
	reversed := appendReversedPath(nil, raw)
	if clean := appendReversedPath(nil, reversed); string(clean) != p.received {
		p.path = r.learn(clean).path // the same but for reserved bits
	} else {
		p.path = &Path{raw: string(reversed)}
	}
	r.received.put(p.received, p)
	return p
}
