package scion

// Generations is a bounded map that keeps what is used: once the young
// generation is full it becomes the old one, and what was old is forgotten. An
// entry found among the old is young again.
type generations[K comparable, V any] struct {
	young, old map[K]V
	limit      int // entries of a generation
}

func newGenerations[K comparable, V any](limit int) generations[K, V] {
	return generations[K, V]{young: make(map[K]V), limit: limit}
}

func (g *generations[K, V]) get(key K) (V, bool) {
	v, ok := g.young[key]
	if !ok {
		if v, ok = g.old[key]; ok {
			g.put(key, v)
		}
	}
	return v, ok
}

func (g *generations[K, V]) put(key K, v V) {
	if len(g.young) >= g.limit {
		g.young, g.old = make(map[K]V), g.young
	}
	g.young[key] = v
}
