package control

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"regexp"
	"time"
)

const (
	algorithm = "EdDSA"
	audience  = "snap"
	issuer    = "ssr" // by convention; nobody checks it
)

const (
	pemPrivate = "PRIVATE KEY" // PKCS #8 (RFC 5958)
	pemPublic  = "PUBLIC KEY"  // SubjectPublicKeyInfo (RFC 5280)
)

// subjects is the name space of subjects (RFC 9562 §6.6): a UUID drawn once.
var subjects = UUID{0x0c, 0x9d, 0x5c, 0x55, 0x3e, 0x4a, 0x4b, 0x0e, 0x9d, 0x0a, 0x2f, 0x5b, 0x8e, 0x6d, 0x71, 0x13}

// SubjectOf returns the UUID of the subject that an operator calls name. It is
// the same at all times and everywhere.
func SubjectOf(name string) UUID {
	sum := sha1.Sum(append(subjects[:], name...))
	u := UUID(sum[:16])
	u[6] = u[6]&0x0f | 0x50 // version 5
	u[8] = u[8]&0x3f | 0x80 // variant
	return u
}

var subjectName = regexp.MustCompile(`^[A-Za-z0-9._@+-]{1,128}$`)

// CheckSubject returns an error unless name can be that of a subject, in tokens
// and in a file of revoked ones.
func CheckSubject(name string) error {
	if !subjectName.MatchString(name) {
		return errors.New("no name of a subject (want at most 128 letters, digits and ._@+-)")
	}
	return nil
}

// NewTokenID draws an id for a token, a UUID.
func NewTokenID() string {
	var u UUID
	rand.Read(u[:])
	u[6] = u[6]&0x0f | 0x40 // version 4
	u[8] = u[8]&0x3f | 0x80
	return u.String()
}

// SignToken makes a token of version c.Version that says c. Its key id is that
// of the key. v0 says only ID, Subject and Expires. An empty Issuer means the
// usual one.
func SignToken(key ed25519.PrivateKey, c Claims) (string, error) {
	return signToken(key, KeyID(key.Public().(ed25519.PublicKey)), c)
}

// signToken is SignToken with a key id of choice; an empty one is left out. The
// members stand in the order of the reference, so that the bytes agree.
func signToken(key ed25519.PrivateKey, kid string, c Claims) (string, error) {
	header := struct {
		Typ string `json:"typ"`
		Alg string `json:"alg"`
		Kid string `json:"kid,omitempty"`
	}{"JWT", algorithm, kid}
	var claims any
	switch c.Version {
	case 0:
		claims = struct {
			PSSID string `json:"pssid"`
			Exp   int64  `json:"exp"`
			JTI   string `json:"jti"`
		}{c.Subject.String(), c.Expires.Unix(), c.ID}
	case 1:
		if c.Issuer == "" {
			c.Issuer = issuer
		}
		claims = struct {
			Ver   int    `json:"ver"`
			Iss   string `json:"iss"`
			Aud   string `json:"aud"`
			Exp   int64  `json:"exp"`
			Nbf   int64  `json:"nbf"`
			Iat   int64  `json:"iat"`
			JTI   string `json:"jti"`
			PSSID string `json:"pssid"`
			Sub   string `json:"sub,omitempty"`
		}{1, c.Issuer, audience, c.Expires.Unix(), c.NotBefore.Unix(), c.IssuedAt.Unix(), c.ID, formatPSSID(c.Subject), c.Name}
	default:
		return "", fmt.Errorf("token version %d is not known", c.Version)
	}
	if c.ID == "" || len(c.ID) > maxTokenID || len(c.Name) > maxName || c.Expires.Before(time.Unix(0, 0)) || c.Expires.Unix() > maxNumericDate {
		return "", errors.New("token that nobody would take: check its id, name and expiry")
	}
	h, err := json.Marshal(header)
	if err != nil {
		return "", err
	}
	p, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	signed := base64.RawURLEncoding.EncodeToString(h) + "." + base64.RawURLEncoding.EncodeToString(p)
	return signed + "." + base64.RawURLEncoding.EncodeToString(ed25519.Sign(key, []byte(signed))), nil
}

// KeyID returns the thumbprint of a public key (RFC 7638, RFC 8037 appendix
// A.3), which is its id in tokens and key sets of ours.
func KeyID(key ed25519.PublicKey) string {
	sum := sha256.Sum256([]byte(`{"crv":"Ed25519","kty":"OKP","x":"` + base64.RawURLEncoding.EncodeToString(key) + `"}`))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// NewSigningKey draws a key to sign tokens with.
func NewSigningKey() (ed25519.PrivateKey, error) {
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		return nil, fmt.Errorf("draw signing key: %w", err)
	}
	return key, nil
}

// MarshalSigningKey returns the PEM of a signing key, PKCS #8.
func MarshalSigningKey(key ed25519.PrivateKey) []byte {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		panic("control: " + err.Error()) // only another type of key
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemPrivate, Bytes: der})
}

// ParseSigningKey reads the PEM of a signing key. Errors do not quote it.
func ParseSigningKey(b []byte) (ed25519.PrivateKey, error) {
	block, _ := pem.Decode(b)
	if block == nil || block.Type != pemPrivate {
		return nil, errors.New("no signing key (want PEM with BEGIN PRIVATE KEY, as snapproxy keygen --token and openssl genpkey -algorithm ed25519 make it)")
	}
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("signing key is damaged")
	}
	key, ok := k.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("signing key is %T, not Ed25519", k)
	}
	return key, nil
}

// MarshalVerifyKey returns the PEM of the public half of a signing key.
func MarshalVerifyKey(key ed25519.PublicKey) []byte {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		panic("control: " + err.Error()) // only another type of key
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemPublic, Bytes: der})
}

// ParseVerifyKey reads the PEM of a public key to verify tokens with.
func ParseVerifyKey(b []byte) (ed25519.PublicKey, error) {
	block, _ := pem.Decode(b)
	switch {
	case block != nil && block.Type == pemPrivate:
		return nil, errors.New("a private key, which has no business here (want its public half: openssl pkey -pubout)")
	case block == nil || block.Type != pemPublic:
		return nil, errors.New("no public key (want PEM with BEGIN PUBLIC KEY, as snapproxy keygen --token prints it)")
	}
	k, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, errors.New("public key is damaged")
	}
	key, ok := k.(ed25519.PublicKey)
	if !ok {
		return nil, fmt.Errorf("public key is %T, not Ed25519", k)
	}
	return key, nil
}
