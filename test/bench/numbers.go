package main

import (
	"fmt"
	"strconv"
	"strings"
)

// parseNumbers reads numbers of tunnels, which a SNAP can hold.
func parseNumbers(s string) (all []int, err error) {
	for part := range strings.SplitSeq(s, ",") {
		n, err := strconv.Atoi(part)
		if err != nil || n < 2 || n > 130000 {
			return nil, fmt.Errorf("%q: want numbers from 2 to 130000", part)
		}
		all = append(all, n)
	}
	return all, nil
}
