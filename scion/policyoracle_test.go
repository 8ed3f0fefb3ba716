package scion

import (
	"errors"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/scionproto/scion/pkg/addr"
	"github.com/scionproto/scion/pkg/segment/iface"
	"github.com/scionproto/scion/pkg/snet"
	"github.com/scionproto/scion/private/path/pathpol"
)

// theirSequence is the reference's parser, which panics on some texts.
func theirSequence(s string) (seq *pathpol.Sequence, err error) {
	defer func() {
		if recover() != nil {
			err = errors.New("it panics")
		}
	}()
	return pathpol.NewSequence(s)
}

// theirPath is a route as the reference sees it.
type theirPath struct {
	snet.Path // nil: nothing else is asked for
	metadata  *snet.PathMetadata
}

func (p theirPath) Metadata() *snet.PathMetadata { return p.metadata }

func theirPaths(interfaces []Interface) []snet.Path {
	m := &snet.PathMetadata{}
	for _, i := range interfaces {
		m.Interfaces = append(m.Interfaces, snet.PathInterface{IA: addr.IA(i.IA), ID: iface.ID(i.ID)})
	}
	return []snet.Path{theirPath{metadata: m}}
}

// compareSequences holds a sequence against the reference: both refuse it, or
// both make the same regular expression of it.
func compareSequences(t testing.TB, s string, paths [][]Interface) (ok bool) {
	t.Helper()
	if s == "" {
		return false
	}
	theirs, theirErr := theirSequence(s)
	ours, err := parseSequence(s)
	if (err == nil) != (theirErr == nil) {
		t.Fatalf("sequence %q: %v, the reference says %v", s, err, theirErr)
	}
	if err != nil {
		return false
	}
	if want := reflect.ValueOf(theirs).Elem().FieldByName("restr").String(); ours.re.String() != want {
		t.Fatalf("sequence %q: %s, the reference has %s", s, ours.re, want)
	}
	for _, p := range paths {
		if got, want := ours.allows(p), len(theirs.Eval(theirPaths(p))) > 0; got != want {
			t.Fatalf("sequence %q allows %v: %v, the reference says %v", s, p, got, want)
		}
	}
	return true
}

// theirACL lets the reference read entries, cut as ours are: the comma is not
// of its language.
func theirACL(s string) (*pathpol.ACL, error) {
	var texts []string
	for text := range strings.SplitSeq(s, ",") {
		text = strings.TrimSpace(text)
		if len(texts) > 0 && !strings.HasPrefix(text, "+") && !strings.HasPrefix(text, "-") {
			texts[len(texts)-1] += "," + text
			continue
		}
		texts = append(texts, text)
	}
	var list []*pathpol.ACLEntry
	for _, text := range texts {
		e := &pathpol.ACLEntry{}
		if err := e.LoadFromString(strings.Join(strings.Fields(text), " ")); err != nil {
			return nil, err
		}
		list = append(list, e)
	}
	return pathpol.NewACL(list...)
}

// compareACLs holds an ACL against the reference.
func compareACLs(t testing.TB, s string, paths [][]Interface) (ok bool) {
	t.Helper()
	theirs, theirErr := theirACL(s)
	ours, err := parseACL(s)
	if (err == nil) != (theirErr == nil) {
		t.Fatalf("ACL %q: %v, the reference says %v", s, err, theirErr)
	}
	if errors.Is(theirErr, pathpol.ErrNoDefault) != errors.Is(err, errNoDefault) || errors.Is(theirErr, pathpol.ErrExtraEntries) != errors.Is(err, errNotLast) {
		t.Fatalf("ACL %q: %v, the reference says %v", s, err, theirErr)
	}
	for _, p := range paths {
		if err != nil {
			return false
		}
		if got, want := ours.allows(p), len(theirs.Eval(theirPaths(p))) > 0; got != want {
			t.Fatalf("ACL %q allows %v: %v, the reference says %v", s, p, got, want)
		}
	}
	return true
}

func TestSequencesAgreeWithTheReference(t *testing.T) {
	for _, s := range []string{
		"0", "1", "00", "01", "10", "1 2", "1 2|3 4", "1|2*", "(1|2)*", "1?+*", "1 2 3", "((1))", "(1 2)|3", "1|2|3 4|5", "1 -0", "1- 0", "1-0", "1-01", "1-0 1",
		"1-ff00:0:110", "1-FF00:0:110", "1-ff00:0:0110", "1-0:0:1", "1-00:0:1", "1-1:2", "1-12a", "1-12:3", "1-559", "1-ff00:0:110#2", "1-ff00:0:110 # 2 , 3", "1-0#5",
		"1-0#0,0", "1#2", "1-0#", "1-0#2,", "1-0#2,3,4", "1-0#02", "", " ", "()", "(1", "1)", "|1", "1|", "*", "1||2", "-1", "1 --2", "1;2", "\x00", "1\v2", "1\u00a02",
		"99999999999999999999", "1-99999999999", "1-fffff:0:0", "é", "\xff", "1\xff", "(1 | 2)+ 0? 0*", "1 (2) (3|4)?", "0*\r\n0*",
		strings.Repeat("(", 1100) + "1" + strings.Repeat(")", 1100), "1" + strings.Repeat("?", 300), "1" + strings.Repeat("*", 1100), strings.Repeat("1 ", 500),
	} {
		compareSequences(t, s, nil)
	}
	r := newRand(1)
	accepted := 0
	for range 4000 {
		if compareSequences(t, randomSequence(r), randomPaths(r)) {
			accepted++
		}
	}
	if accepted < 1500 || accepted > 3500 {
		t.Errorf("%d of 4000 sequences are good", accepted)
	}
}

func TestACLsAgreeWithTheReference(t *testing.T) {
	for _, s := range []string{
		"", "+", "-", "+ 0", "- 0-0", "- 0-0#0,0", "+ 1", "+ 01", "+ 65535", "+ 65536", "+ 1-", "+ -1", "+ 1-2", "+ 1-4294967295", "+ 1-4294967296", "+ 1-ff00:0:110",
		"+ 1-FF00:0:110", "+ 1-ff00:0:0000110", "+ 1-ff00:0", "+ 1-ff00:0:110:1", "+ 1-::1", "+ 1-ff00:0:10000", "+ 1#2", "+ 1,2", "+ 1-0#1", "+ 1-0#0", "+ 1-2#", "+ 1-2#1,",
		"+ 1-2#1,2", "+ 1-2#,2", "+ 1-2,3", "+ 1-2#1#2", "+ 1-2#1-2", "+ 1-2#18446744073709551615", "+ 1-2#18446744073709551616", "+ 1-2#-1", "+ +1", "+1", "+ 1 2", "* 1", "+ 1-0:0:0#0,0",
		"+ 1_0", "+ 0x1",
	} {
		for _, s := range []string{s, s + ",+", "-, " + s} {
			compareACLs(t, s, nil)
		}
	}
	r := newRand(2)
	accepted := 0
	for range 10000 {
		if compareACLs(t, randomACL(r), randomPaths(r)) {
			accepted++
		}
	}
	if accepted < 3000 || accepted > 9000 {
		t.Errorf("%d of 10000 ACLs are good", accepted)
	}
}

func FuzzSequence(f *testing.F) {
	f.Add("1-ff00:0:110#2 0* 2-ff00:0:211#2,0 | (3 4)+ 5-0#0?", uint64(1))
	f.Fuzz(func(t *testing.T, s string, seed uint64) {
		if len(s) <= 60 {
			compareSequences(t, s, randomPaths(newRand(seed)))
		}
	})
}

func FuzzACL(f *testing.F) {
	f.Add("- 1-ff00:0:120#1,2,+ 1-559#3, +", uint64(1))
	f.Fuzz(func(t *testing.T, s string, seed uint64) { compareACLs(t, s, randomPaths(newRand(seed))) })
}

// randomSequence makes a sequence, often with a fault in it.
func randomSequence(r *rand.Rand) string {
	var b strings.Builder
	var write func(depth int)
	write = func(depth int) {
		switch n := r.IntN(9); {
		case n == 0 && depth > 0:
			b.WriteString("(")
			write(depth - 1)
			b.WriteString(")")
		case n == 1 && depth > 0:
			write(depth - 1)
			b.WriteString("|")
			write(depth - 1)
		case n < 5 && depth > 0:
			write(depth - 1)
			b.WriteString(" ")
			write(depth - 1)
		case n == 5 && depth > 0:
			write(depth - 1)
			b.WriteByte("?+*"[r.IntN(3)])
		default:
			b.WriteString(randomHop(r))
		}
	}
	write(4)
	return spoilt(r, b.String(), "012-:#,?+*|() ax")
}

// randomACL makes entries, often with a fault in one.
func randomACL(r *rand.Rand) string {
	var entries []string
	for range r.IntN(4) {
		entries = append(entries, spoilt(r, []string{"+ ", "-  "}[r.IntN(2)]+randomHop(r), "012-:#,+ ax"))
	}
	return strings.Join(append(entries, []string{"+", "-", "+ 0", "- 0-0"}[r.IntN(4)]), ",")
}

var someASes = []string{"0", "1", "559", "ff00:0:110", "ff00:0:111", "1:0:0", "0:1:1"}

func randomHop(r *rand.Rand) string {
	s := []string{"0", "1", "2"}[r.IntN(3)]
	if r.IntN(4) > 0 {
		s += "-" + someASes[r.IntN(len(someASes))]
		if r.IntN(2) > 0 {
			s += []string{"#0", "#1", "#2", "#0,1", "#1,2", "#2,0"}[r.IntN(6)]
		}
	}
	return s
}

// spoilt returns s, one time in three with a letter too many, too few, or
// another.
func spoilt(r *rand.Rand, s, letters string) string {
	at, with := r.IntN(len(s)), string(letters[r.IntN(len(letters))])
	switch r.IntN(9) {
	case 0:
		return s[:at] + s[at+1:]
	case 1:
		return s[:at] + with + s[at:]
	case 2:
		return s[:at] + with + s[at+1:]
	}
	return s
}

// randomPaths makes interfaces like those of paths, some of no path at all.
func randomPaths(r *rand.Rand) (paths [][]Interface) {
	for range 8 {
		var p []Interface
		for range r.IntN(5) {
			as, err := parseAS(someASes[r.IntN(len(someASes))])
			if err != nil {
				panic(err)
			}
			ia := IA(uint64(r.IntN(3))<<asBits | as)
			p = append(p, Interface{ia, uint16(r.IntN(3))}, Interface{ia, uint16(r.IntN(3))})
		}
		if len(p) > 2 && r.IntN(8) > 0 {
			p = p[1 : len(p)-1]
		}
		paths = append(paths, p[:max(0, len(p)-r.IntN(8)/7)])
	}
	return paths
}
