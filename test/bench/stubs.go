//go:build linux

package main

import "errors"

func (b *bench) floors() error                                { return nil }
func (b *bench) idle() error                                  { return nil }
func (b *bench) scale() error                                 { return nil }
func (b *bench) profile(string) error                         { return nil }
func kernelPossible() error                                   { return errors.New("not yet") }
func newKernel(b *bench, between impairment) (*system, error) { return nil, errors.New("not yet") }
