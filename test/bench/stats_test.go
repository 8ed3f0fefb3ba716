package main

import (
	"math"
	"testing"
)

func TestQuantile(t *testing.T) {
	for _, tt := range []struct {
		values []float64
		q      float64
		want   float64
	}{
		{nil, .5, 0},
		{[]float64{7}, .99, 7},
		{[]float64{3, 1, 2}, .5, 2},
		{[]float64{4, 1, 3, 2}, .5, 2.5},
		{[]float64{1, 2}, 1, 2},
		{[]float64{1, 2}, 0, 1},
	} {
		if got := quantile(tt.values, tt.q); got != tt.want {
			t.Errorf("quantile(%v, %v) = %v, want %v", tt.values, tt.q, got, tt.want)
		}
	}
}

func TestRatiosAreRoundByRound(t *testing.T) {
	// The machine was twice as fast in the second round.
	if got := ratioOf([]float64{3, 6, 9}, []float64{1, 2, 3}); got.Median != 3 || got.Min != 3 || got.Max != 3 {
		t.Errorf("ratio %+v, want 3 throughout", got)
	}
	if got := ratioOf([]float64{3, 6}, []float64{0, 2, 3}); len(got.Rounds) != 1 || got.Median != 3 {
		t.Errorf("ratio %+v, want only that of the second round", got)
	}
	if got := ratioOf(nil, []float64{1}); len(got.Rounds) != 0 || math.IsNaN(got.Median) {
		t.Errorf("ratio of nothing %+v", got)
	}
}

func TestParseNumbers(t *testing.T) {
	for in, want := range map[string]int{"10": 1, "10,1000": 2, "": 0, "1": 0, "10,": 0, "ten": 0, "200000": 0} {
		got, err := parseNumbers(in)
		if (err == nil) != (want > 0) || err == nil && len(got) != want {
			t.Errorf("parseNumbers(%q) = %v, %v; want %d numbers", in, got, err, want)
		}
	}
}
