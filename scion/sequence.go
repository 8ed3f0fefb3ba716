package scion

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// A hopSequence is a pattern of hops. Its language is that of the SCION tools
// (docs.scion.org, dev/design/PathPolicy.html; antlr/Sequence.g4 of the
// reference implementation), by falling strength:
//
//	hop      = isd [as ["#" interface ["," interface]]]
//	repeated = (hop | "(" sequence ")") {"?" | "+" | "*"}
//	either   = repeated {"|" repeated}
//	sequence = either {either}
//
// So "1 2|3 4" is 1, then 2 or 3, then 4. Like the reference it becomes a
// regular expression over the text of a path: what it matches is the same
// letter by letter, and the time it takes is linear.
type hopSequence struct{ re *regexp.Regexp }

// Patterns of what a zero stands for.
const (
	anyNumber = "([0-9]+)"
	anyAS     = "(([0-9]+)|([0-9a-fA-F]+:[0-9a-fA-F]+:[0-9a-fA-F]+))"
)

var errNoSequence = errors.New("is no sequence of hops like 1-ff00:0:111 0* 1-ff00:0:112#3")

// parseSequence parses a sequence.
func parseSequence(s string) (*hopSequence, error) {
	if s == "" {
		return nil, errEmptyPolicy
	}
	if tokens, ok := sequenceTokens(s); ok {
		p := sequenceParser{tokens: tokens}
		if pattern, ok := p.sequence(); ok && len(p.tokens) == 0 {
			if re, err := regexp.Compile("^" + pattern + "$"); err == nil {
				return &hopSequence{re}, nil // there are limits on depth and length
			}
		}
	}
	return nil, fmt.Errorf("%q %w", s, errNoSequence)
}

// allows reports whether a path over these interfaces matches.
func (s *hopSequence) allows(interfaces []Interface) bool {
	return len(interfaces)%2 == 0 && s.re.MatchString(sequenceText(interfaces))
}

// sequenceText writes a path as ASes with the interfaces where it enters and
// leaves, a space after each: "1-ff00:0:110#0,1 1-ff00:0:111#2,0 ".
func sequenceText(interfaces []Interface) string {
	var b strings.Builder
	for i, here := range interfaces {
		switch {
		case i == 0:
			fmt.Fprintf(&b, "%s#0,%d ", here.IA, here.ID)
		case i%2 == 0:
			fmt.Fprintf(&b, "%d ", here.ID)
		case i == len(interfaces)-1:
			fmt.Fprintf(&b, "%s#%d,0 ", here.IA, here.ID)
		default:
			fmt.Fprintf(&b, "%s#%d,", here.IA, here.ID)
		}
	}
	return b.String()
}

var (
	hexGroup      = `([1-9a-fA-F][0-9a-fA-F]*|0)`
	sequenceToken = regexp.MustCompile(`^(0|[1-9][0-9]*|-` + hexGroup + `:` + hexGroup + `:` + hexGroup + `|-0|-[1-9][0-9]*|[#,?+*|()])`)
)

// sequenceTokens cuts a sequence into numbers, ASes with their hyphen, and
// signs. White space may be anywhere but in a token: "1 -0" is one hop, and "01"
// is two.
func sequenceTokens(s string) (tokens []string, ok bool) {
	for {
		if s = strings.TrimLeft(s, " \t\r\n"); s == "" {
			return tokens, true
		}
		token := sequenceToken.FindString(s)
		if token == "" {
			return nil, false
		}
		tokens, s = append(tokens, token), s[len(token):]
	}
}

// A sequenceParser makes a regular expression of tokens. Each of its methods
// takes what it can from the front.
type sequenceParser struct{ tokens []string }

func (p *sequenceParser) next() string {
	if len(p.tokens) == 0 {
		return ""
	}
	return p.tokens[0]
}

// take takes the next token if it is one of these.
func (p *sequenceParser) take(these ...string) (string, bool) {
	token := p.next()
	if token == "" || !slices.Contains(these, token) {
		return "", false
	}
	p.tokens = p.tokens[1:]
	return token, true
}

func (p *sequenceParser) sequence() (string, bool) {
	pattern, ok := p.either()
	for ok && p.next() != "" && p.next() != ")" {
		var more string
		more, ok = p.either()
		pattern = "(" + pattern + more + ")"
	}
	return pattern, ok
}

func (p *sequenceParser) either() (string, bool) {
	pattern, ok := p.repeated()
	for ok {
		if _, or := p.take("|"); !or {
			break
		}
		var other string
		other, ok = p.repeated()
		pattern = "(" + pattern + "|" + other + ")"
	}
	return pattern, ok
}

func (p *sequenceParser) repeated() (pattern string, ok bool) {
	if _, ok = p.take("("); ok {
		if pattern, ok = p.sequence(); ok {
			_, ok = p.take(")")
		}
	} else {
		pattern, ok = p.hop()
	}
	for ok {
		times, more := p.take("?", "+", "*")
		if !more {
			break
		}
		pattern = "(" + pattern + ")" + times
	}
	return pattern, ok
}

func (p *sequenceParser) hop() (string, bool) {
	isd, ok := p.number()
	if !ok {
		return "", false
	}
	as := anyAS
	in, out := anyNumber, anyNumber
	if strings.HasPrefix(p.next(), "-") {
		if as = p.tokens[0][1:]; as == "0" {
			as = anyAS
		}
		p.tokens = p.tokens[1:]
		if _, of := p.take("#"); of {
			if in, ok = p.number(); !ok {
				return "", false
			}
			if _, two := p.take(","); two {
				out, ok = p.number()
			} else { // the interface of either side
				return "((" + isd + "-" + as + "#((" + anyNumber + "," + in + ")|(" + in + "," + anyNumber + "))) +)", true
			}
		}
	}
	return "((" + isd + "-" + as + "#" + in + "," + out + ") +)", ok
}

// number takes an ISD or an interface and returns a pattern of it.
func (p *sequenceParser) number() (string, bool) {
	token := p.next()
	if token == "" || token[0] < '0' || token[0] > '9' {
		return "", false
	}
	p.tokens = p.tokens[1:]
	if token == "0" {
		token = anyNumber
	}
	return token, true
}
