//go:build linux

package main

func (b *bench) profile(string) error { return nil }
