package snaptun

import "container/heap"

// A schedule is a heap of peers by the time at which they want to be looked at.
// That time may be earlier than their deadline, never later: a deadline that
// moves later, as with every packet, costs nothing.
type schedule[A comparable] []*Peer[A]

// update moves a peer to the front of its deadline, if it is behind it.
func (s *schedule[A]) update(p *Peer[A]) {
	if !p.dirty {
		return
	}
	p.dirty = false
	switch d := p.next(); {
	case d == 0:
	case p.wake == 0:
		p.wake = d
		heap.Push(s, p)
	case d < p.wake:
		p.wake = d
		heap.Fix(s, p.place)
	}
}

func (s *schedule[A]) remove(p *Peer[A]) {
	if p.wake != 0 {
		heap.Remove(s, p.place)
	}
}

// due returns a peer to be looked at, after which it is not in the schedule, or
// nil.
func (s *schedule[A]) due(now instant) *Peer[A] {
	if len(*s) == 0 || (*s)[0].wake > now {
		return nil
	}
	return heap.Pop(s).(*Peer[A])
}

// Len, Less, Swap, Push and Pop are for container/heap.

func (s schedule[A]) Len() int           { return len(s) }
func (s schedule[A]) Less(i, j int) bool { return s[i].wake < s[j].wake }

func (s schedule[A]) Swap(i, j int) {
	s[i], s[j] = s[j], s[i]
	s[i].place, s[j].place = i, j
}

func (s *schedule[A]) Push(x any) {
	p := x.(*Peer[A])
	p.place = len(*s)
	*s = append(*s, p)
}

func (s *schedule[A]) Pop() any {
	last := len(*s) - 1
	p := (*s)[last]
	(*s)[last] = nil
	*s = (*s)[:last]
	p.wake = 0
	return p
}
