//go:build race

package snaptun

const raceEnabled = true
