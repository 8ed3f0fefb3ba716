package scion

import (
	"bytes"
	"testing"

	slayerspath "github.com/scionproto/scion/pkg/slayers/path/scion"
)

func TestReversalIsTheReferences(t *testing.T) {
	r := newRand(1)
	for _, shape := range shapes {
		for range 50 {
			raw := randomPath(r, shape...)
			theirs := &slayerspath.Raw{}
			if err := theirs.DecodeFromBytes(bytes.Clone(raw)); err != nil {
				t.Fatal(err)
			}
			reversed, err := theirs.Reverse()
			if err != nil {
				t.Fatal(err)
			}
			want := make([]byte, reversed.Len())
			if err := reversed.SerializeTo(want); err != nil {
				t.Fatal(err)
			}
			p := mustPath(raw)
			if got := p.Reverse().Append(nil); !bytes.Equal(got, want) {
				t.Fatalf("%v: reversal of %x\n got %x\nwant %x", shape, raw, got, want)
			}
			if got := p.Reverse().Reverse().Append(nil); !bytes.Equal(got, raw) {
				t.Fatalf("%v: reversed twice\n got %x\nwant %x", shape, got, raw)
			}
		}
	}
}

func TestReversalClearsReservedBits(t *testing.T) {
	raw := randomPath(newRand(1), 2, 2)
	dirty := bytes.Clone(raw)
	dirty[1] |= 0xfc                        // meta
	dirty[metaLen] |= 0xfc                  // info flags
	dirty[metaLen+1] = 0xff                 // info
	dirty[metaLen+2*infoLen+hopLen] |= 0xfc // hop flags
	if got, want := mustPath(dirty).Reverse(), mustPath(raw).Reverse(); *got != *want {
		t.Errorf("got %x, want %x", got.raw, want.raw)
	}
}

func TestNewPathRefuses(t *testing.T) {
	r := newRand(1)
	edit := func(f func(b []byte) []byte) []byte { return f(randomPath(r, 2, 2)) }
	tests := map[string][]byte{
		"nothing":               {},
		"half a meta header":    {0, 0, 0},
		"no segment":            {0, 0, 0, 0},
		"no first segment":      edit(func(b []byte) []byte { b[2], b[3] = 0, 2<<6&0xff|2; return b }),
		"a gap":                 edit(func(b []byte) []byte { b[2], b[3] = 0x20, 2; return b }),
		"one byte less":         edit(func(b []byte) []byte { return b[:len(b)-1] }),
		"a hop more":            edit(func(b []byte) []byte { return append(b, make([]byte, hopLen)...) }),
		"info field outside":    edit(func(b []byte) []byte { b[0] = b[0]&0x3f | 2<<6; return b }),
		"hop field outside":     edit(func(b []byte) []byte { b[0] = b[0]&0xc0 | 4; return b }),
		"more hops than 6 bits": append([]byte{0, 3, 0xf0, 0x80}, make([]byte, 2*infoLen+65*hopLen)...),
	}
	for name, raw := range tests {
		if _, err := NewPath(raw); err == nil {
			t.Errorf("%s: NewPath(%x) succeeded", name, raw)
		}
	}
}

func TestPathDoesNotChange(t *testing.T) {
	raw := randomPath(newRand(1), 3)
	p := mustPath(raw)
	want := bytes.Clone(raw)
	clear(raw)
	clear(p.Append(nil))
	if got := p.Append(nil); !bytes.Equal(got, want) || p.Len() != len(want) || p.Type() != PathSCION {
		t.Errorf("got %x of type %d, want %x", got, p.Type(), want)
	}
}

func TestNilPathIsEmpty(t *testing.T) {
	var p *Path
	if p.Type() != PathEmpty || p.Len() != 0 || p.Append(nil) != nil || p.Reverse() != nil {
		t.Errorf("nil path has type %d, length %d", p.Type(), p.Len())
	}
}

func TestEqualReceivedPathsAreOnePointer(t *testing.T) {
	r := newRand(1)
	paths := newReplyPaths()
	a, b := randomPath(r, 2, 2), randomPath(r, 3)
	pa, pb := paths.reverse(a), paths.reverse(b)
	if pa == pb || *pa != *mustPath(a).Reverse() || *pb != *mustPath(b).Reverse() {
		t.Fatalf("paths are %p and %p", pa, pb)
	}
	for range 3 {
		for range maxReplyPaths - 2 { // strangers do not displace what is in use
			paths.reverse(randomPath(r, 1))
		}
		if got := paths.reverse(bytes.Clone(a)); got != pa {
			t.Errorf("path a became another pointer")
		}
		if got := paths.reverse(bytes.Clone(b)); got != pb {
			t.Errorf("path b became another pointer")
		}
	}
	dirty := bytes.Clone(a)
	dirty[1] |= 4 // a reserved bit
	if got := paths.reverse(dirty); got != pa {
		t.Errorf("reserved bits make another path")
	}
}

func TestReceivedPathsAreBounded(t *testing.T) {
	r := newRand(1)
	paths := newReplyPaths()
	for range 5 * maxReplyPaths {
		paths.reverse(randomPath(r, 1))
	}
	if n := len(paths.received.young) + len(paths.received.old); n > 2*maxReplyPaths {
		t.Errorf("%d entries, want at most %d", n, 2*maxReplyPaths)
	}
}
