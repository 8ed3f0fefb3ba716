//go:build race

package scion

const raceEnabled = true
