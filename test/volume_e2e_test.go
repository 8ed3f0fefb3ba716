//go:build e2e && unix

package test

import "testing"

func TestVolumeArrivesWhole(t *testing.T) {
	testTransfer(t, volume{stream: 1 << 30, parallel: 200, each: 5 << 20})
}
