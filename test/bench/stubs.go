//go:build linux

package main

func (b *bench) floors() error        { return nil }
func (b *bench) idle() error          { return nil }
func (b *bench) scale() error         { return nil }
func (b *bench) profile(string) error { return nil }
