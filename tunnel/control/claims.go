package control

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
)

const (
	// maxToken bounds a token. It travels in a header.
	maxToken = 8 << 10
	// maxTokenID bounds a token's id, which is kept as long as its binding.
	maxTokenID = 256
	// maxName bounds the name of a subject.
	maxName = 128
	// maxNumericDate is the end of the year 9999; later is as good as that.
	maxNumericDate = 253402300799
)

// tokenLike matches what can only be a JWT: its header begins with {" in
// base64.
var tokenLike = regexp.MustCompile(`eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*`)

// Claims are what a token says of its bearer.
type Claims struct {
	ID        string    // jti: what a registration is bound to
	Subject   UUID      // pssid: the pseudonym of the subscription
	Name      string    // sub: what the operator calls the bearer, if the token says
	Issuer    string    // iss; v0 has none
	Version   int       // of the token's format, 0 or 1
	IssuedAt  time.Time // iat; zero in v0
	NotBefore time.Time // nbf; zero in v0
	Expires   time.Time // exp

	signer string // public key that the signature was verified with
}

// A UUID names a subject (RFC 9562).
type UUID [16]byte

// ParseUUID reads a UUID in its canonical form, in whatever case.
func ParseUUID(s string) (u UUID, err error) {
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return u, errors.New("no UUID")
	}
	if n, err := hex.Decode(u[:], []byte(strings.ReplaceAll(s, "-", ""))); err != nil || n != len(u) {
		return UUID{}, errors.New("no UUID")
	}
	return u, nil
}

// String returns the canonical form.
func (u UUID) String() string {
	h := hex.EncodeToString(u[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// An envelope is a token taken apart; nothing of it is verified.
type envelope struct {
	alg, kid  string
	hasKid    bool
	payload   []byte
	signed    string // what the signature is about
	signature []byte
}

// openEnvelope takes a token apart (RFC 7515 §3.1). It refuses extensions
// that must be understood (§4.1.11) and members that stand twice (§4).
func openEnvelope(token string) (e envelope, err error) {
	if len(token) > maxToken {
		return e, fmt.Errorf("%w: %d bytes, more than %d", ErrMalformed, len(token), maxToken)
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return e, fmt.Errorf("%w: not three parts", ErrMalformed)
	}
	header, err := decodeSegment(parts[0])
	if err != nil {
		return e, fmt.Errorf("%w: header: %w", ErrMalformed, err)
	}
	members, err := parseMembers(header)
	if err != nil {
		return e, fmt.Errorf("%w: header: %w", ErrMalformed, err)
	}
	if members["crit"] != nil || members["b64"] != nil {
		return e, fmt.Errorf("%w: header has extensions that are not known", ErrMalformed)
	}
	if e.alg, err = members.text("alg"); err != nil {
		return e, fmt.Errorf("%w: header: %w", ErrMalformed, err)
	}
	if _, e.hasKid = members["kid"]; e.hasKid {
		if e.kid, err = members.text("kid"); err != nil {
			return e, fmt.Errorf("%w: header: %w", ErrMalformed, err)
		}
	}
	if e.payload, err = decodeSegment(parts[1]); err != nil {
		return e, fmt.Errorf("%w: claims: %w", ErrMalformed, err)
	}
	if e.signature, err = decodeSegment(parts[2]); err != nil {
		return e, fmt.Errorf("%w: signature: %w", ErrMalformed, err)
	}
	e.signed = token[:len(parts[0])+1+len(parts[1])]
	return e, nil
}

func decodeSegment(s string) ([]byte, error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil || strings.ContainsAny(s, "\r\n") { // which the decoder skips
		return nil, errors.New("not base64url")
	}
	return b, nil
}

// claims reads the claims as snap.md §4.7 has them. The time is not looked at.
func (e envelope) claims() (c Claims, err error) {
	m, err := parseMembers(e.payload)
	if err != nil {
		return c, fmt.Errorf("%w: claims: %w", ErrMalformed, err)
	}
	if c, err = m.claims(); err != nil {
		return Claims{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return c, nil
}

func (m members) claims() (c Claims, err error) {
	if c.ID, err = m.text("jti"); err != nil {
		return c, err
	}
	if c.ID == "" || len(c.ID) > maxTokenID {
		return c, fmt.Errorf("claim jti has %d bytes (want 1 to %d)", len(c.ID), maxTokenID)
	}
	if c.Expires, err = m.date("exp"); err != nil {
		return c, err
	}
	pssid, err := m.text("pssid")
	if err != nil {
		return c, err
	}
	if m["sub"] != nil {
		c.Name, _ = m.text("sub")
		c.Name = printable(c.Name, maxName)
	}
	if m["ver"] == nil {
		if c.Subject, err = ParseUUID(pssid); err != nil {
			return c, errors.New("claim pssid is no UUID")
		}
		if aud := m["aud"]; aud != nil && !mentions(aud, audience) {
			return c, errors.New("claim aud is not snap")
		}
		if m["nbf"] != nil {
			c.NotBefore, err = m.date("nbf")
		}
		return c, err
	}
	if v := string(m["ver"]); v != "1" {
		return c, fmt.Errorf("version %s is not known", printable(v, 20))
	}
	c.Version = 1
	if c.Subject, err = parsePSSID(pssid); err != nil {
		return c, err
	}
	if aud, err := m.text("aud"); err != nil || aud != audience {
		return c, errors.New("claim aud is not snap")
	}
	if c.Issuer, err = m.text("iss"); err != nil {
		return c, err
	}
	if c.NotBefore, err = m.date("nbf"); err != nil {
		return c, err
	}
	c.IssuedAt, err = m.date("iat")
	return c, err
}

// parsePSSID reads base64url(0 || UUID), the pssid of v1.
func parsePSSID(s string) (u UUID, err error) {
	b, err := decodeSegment(s)
	if err != nil || len(b) != 1+len(u) || b[0] != 0 {
		return u, errors.New("claim pssid is no base64url of a zero byte and a UUID")
	}
	return UUID(b[1:]), nil
}

func formatPSSID(u UUID) string {
	return base64.RawURLEncoding.EncodeToString(append([]byte{0}, u[:]...))
}

// members are those of a JSON object, by their exact names.
type members map[string]json.RawMessage

// maxMembers bounds the members of an object.
const maxMembers = 256

// parseMembers reads a JSON object, in which no member may stand twice:
// readers disagree on which of them counts.
func parseMembers(b []byte) (members, error) {
	errJSON := errors.New("no JSON object")
	d := json.NewDecoder(bytes.NewReader(b))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, errJSON
	}
	m := make(members)
	for d.More() {
		t, err := d.Token()
		name, ok := t.(string)
		if err != nil || !ok {
			return nil, errJSON
		}
		var v json.RawMessage
		if err := d.Decode(&v); err != nil {
			return nil, errJSON
		}
		if _, twice := m[name]; twice {
			return nil, fmt.Errorf("%s stands twice", strconv.Quote(printable(name, 40)))
		}
		if len(m) == maxMembers {
			return nil, fmt.Errorf("more than %d members", maxMembers)
		}
		m[name] = v
	}
	if t, err := d.Token(); err != nil || t != json.Delim('}') {
		return nil, errJSON
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errJSON
	}
	return m, nil
}

// text returns a member that must be a string.
func (m members) text(name string) (s string, err error) {
	v, ok := m[name]
	if !ok {
		return "", fmt.Errorf("no %s", name)
	}
	if len(v) == 0 || v[0] != '"' || json.Unmarshal(v, &s) != nil {
		return "", fmt.Errorf("%s is no string", name)
	}
	return s, nil
}

// date returns a member that must be a NumericDate (RFC 7519 §2), rounded down
// to seconds.
func (m members) date(name string) (time.Time, error) {
	v, ok := m[name]
	if !ok {
		return time.Time{}, fmt.Errorf("no claim %s", name)
	}
	f, err := strconv.ParseFloat(string(v), 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) || math.IsNaN(f) || f < 0 {
		return time.Time{}, fmt.Errorf("claim %s is no time", name)
	}
	return time.Unix(int64(min(math.Floor(f), maxNumericDate)), 0), nil
}

// mentions reports whether v is the string s or an array with it.
func mentions(v json.RawMessage, s string) bool {
	var one string
	if json.Unmarshal(v, &one) == nil && v[0] == '"' {
		return one == s
	}
	var some []string
	if json.Unmarshal(v, &some) != nil {
		return false
	}
	for _, one := range some {
		if one == s {
			return true
		}
	}
	return false
}
