package main

import (
	"math"
	"slices"
	"time"
)

// A Spread is the values of the rounds of one thing: the middle one, and the
// least and the greatest.
type Spread struct {
	Median float64   `json:"median"`
	Min    float64   `json:"min"`
	Max    float64   `json:"max"`
	Rounds []float64 `json:"rounds"`
}

// spreadOf is the spread of values, which may be none.
func spreadOf(values []float64) Spread {
	if len(values) == 0 {
		return Spread{}
	}
	return Spread{Median: quantile(values, .5), Min: slices.Min(values), Max: slices.Max(values), Rounds: slices.Clone(values)}
}

// ratioOf divides round by round: what disturbs a round disturbs both. Rounds
// that one of the two does not have, or in which the divisor is 0, do not count.
func ratioOf(of, to []float64) Spread {
	var ratios []float64
	for i := range min(len(of), len(to)) {
		if r := of[i] / to[i]; !math.IsInf(r, 0) && !math.IsNaN(r) {
			ratios = append(ratios, r)
		}
	}
	return spreadOf(ratios)
}

// quantile is the q-quantile of values, between two of them in proportion; of
// none it is 0.
func quantile(values []float64, q float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	at := q * float64(len(sorted)-1)
	low := int(at)
	high := min(low+1, len(sorted)-1)
	return sorted[low] + (at-float64(low))*(sorted[high]-sorted[low])
}

// milliseconds of durations.
func milliseconds(all []time.Duration) []float64 {
	ms := make([]float64, len(all))
	for i, d := range all {
		ms[i] = float64(d) / float64(time.Millisecond)
	}
	return ms
}
