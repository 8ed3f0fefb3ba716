package control

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

var (
	farFuture  = time.Unix(4102444800, 0)
	sampleUUID = UUID{0x12, 0x3e, 0x45, 0x67, 0xe8, 0x9b, 0x12, 0xd3, 0xa4, 0x56, 0x42, 0x66, 0x14, 0x17, 0x40, 0x00}
)

func TestTokensAreThoseOfTheReference(t *testing.T) {
	v0 := Claims{ID: sampleUUID.String(), Subject: sampleUUID, Expires: farFuture}
	then := time.Unix(1767225600, 0)
	v1 := Claims{ID: "test-jti", Subject: sampleUUID, Version: 1, IssuedAt: then, NotBefore: then, Expires: farFuture}
	for _, tt := range []struct {
		name, kid string
		claims    Claims
	}{
		{"v0-no-kid", "", v0},
		{"v0", "insecure-const-test-key", v0},
		{"v1", "ssr-key-1", v1},
	} {
		got, err := signToken(testKey, tt.kid, tt.claims)
		if err != nil || got != vector(t, tt.name) {
			t.Errorf("%s: %v, got\n%s\nwant\n%s", tt.name, err, got, vector(t, tt.name))
		}
	}
}

func TestKeyIDIsTheThumbprint(t *testing.T) {
	// RFC 8037, appendix A.3.
	x, _ := base64.RawURLEncoding.DecodeString("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")
	if got, want := KeyID(x), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"; got != want {
		t.Errorf("KeyID = %s, want %s", got, want)
	}
}

func TestAnotherLibraryTakesOurTokens(t *testing.T) {
	for version := range 2 {
		s, err := SignToken(testKey, Claims{ID: "id", Subject: sampleUUID, Name: "alice", Version: version, IssuedAt: testTime, NotBefore: testTime, Expires: testTime.Add(time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		got, err := jwt.Parse(s, func(*jwt.Token) (any, error) { return publicOf(testKey), nil },
			jwt.WithValidMethods([]string{"EdDSA"}), jwt.WithTimeFunc(func() time.Time { return testTime }), jwt.WithExpirationRequired())
		if err != nil {
			t.Fatalf("version %d: %v", version, err)
		}
		if got.Header["kid"] != KeyID(publicOf(testKey)) || got.Claims.(jwt.MapClaims)["jti"] != "id" {
			t.Errorf("version %d: header %v, claims %v", version, got.Header, got.Claims)
		}
	}
}

func TestSubjectsAreUUIDsThatStay(t *testing.T) {
	u := SubjectOf("alice")
	if got, want := u.String(), "835b7318-52b2-59db-9d3f-0515d0b53f1f"; got != want {
		t.Errorf("SubjectOf(alice) = %s, want %s as ever", got, want)
	}
	if u == SubjectOf("Alice") {
		t.Error("two names, one subject")
	}
	back, err := ParseUUID(strings.ToUpper(u.String()))
	if err != nil || back != u {
		t.Errorf("ParseUUID gives %v, %v", back, err)
	}
	for _, s := range []string{"", "835b731852b259db9d3f0515d0b53f1f", "{835b7318-52b2-59db-9d3f-0515d0b53f1f}", "835b7318-52b2-59db-9d3f-0515d0b53f1g", "835b7318-52b2-59db-9d3f-0515d0b5-f1f"} {
		if u, err := ParseUUID(s); err == nil {
			t.Errorf("ParseUUID(%q) = %v", s, u)
		}
	}
	if a, b := NewTokenID(), NewTokenID(); a == b || len(a) != 36 {
		t.Errorf("token ids %s and %s", a, b)
	}
}

func TestSubjectNames(t *testing.T) {
	for _, s := range []string{"alice", "a.b_c@d-e+1"} {
		if err := CheckSubject(s); err != nil {
			t.Errorf("%q: %v", s, err)
		}
	}
	for _, s := range []string{"", "two words", "#alice", "alice\n", "ä", strings.Repeat("a", 129)} {
		if err := CheckSubject(s); err == nil {
			t.Errorf("%q passes", s)
		}
	}
}

func TestKeysGoThroughPEM(t *testing.T) {
	key, err := NewSigningKey()
	if err != nil {
		t.Fatal(err)
	}
	private, public := MarshalSigningKey(key), MarshalVerifyKey(publicOf(key))
	if got, err := ParseSigningKey(private); err != nil || !got.Equal(key) {
		t.Errorf("signing key: %v", err)
	}
	if got, err := ParseVerifyKey(public); err != nil || !got.Equal(publicOf(key)) {
		t.Errorf("public key: %v", err)
	}

	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ecPrivate, _ := x509.MarshalPKCS8PrivateKey(ec)
	ecPublic, _ := x509.MarshalPKIXPublicKey(ec.Public())
	encode := func(typ string, der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: typ, Bytes: der}) }
	for _, tt := range []struct {
		name  string
		parse func([]byte) error
		pem   []byte
		want  string
	}{
		{"public for private", signingKeyError, public, "no signing key (want PEM with BEGIN PRIVATE KEY"},
		{"no PEM", signingKeyError, []byte("open sesame"), "no signing key"},
		{"damaged", signingKeyError, encode("PRIVATE KEY", []byte("x")), "signing key is damaged"},
		{"ECDSA", signingKeyError, encode("PRIVATE KEY", ecPrivate), "signing key is *ecdsa.PrivateKey, not Ed25519"},
		{"private for public", verifyKeyError, private, "a private key, which has no business here"},
		{"no PEM, public", verifyKeyError, nil, "no public key (want PEM with BEGIN PUBLIC KEY"},
		{"damaged, public", verifyKeyError, encode("PUBLIC KEY", []byte("x")), "public key is damaged"},
		{"ECDSA, public", verifyKeyError, encode("PUBLIC KEY", ecPublic), "public key is *ecdsa.PublicKey, not Ed25519"},
	} {
		if err := tt.parse(tt.pem); err == nil || !strings.HasPrefix(err.Error(), tt.want) || strings.Contains(err.Error(), "sesame") {
			t.Errorf("%s: %v, want %s", tt.name, err, tt.want)
		}
	}
}

func signingKeyError(b []byte) error { _, err := ParseSigningKey(b); return err }
func verifyKeyError(b []byte) error  { _, err := ParseVerifyKey(b); return err }

func TestTokensNobodyWouldTakeAreNotSigned(t *testing.T) {
	good := Claims{ID: "id", Expires: testTime, Version: 1}
	if _, err := SignToken(testKey, good); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]Claims{
		"version": {ID: "id", Expires: testTime, Version: 2},
		"id":      {Expires: testTime, Version: 1},
		"long id": {ID: strings.Repeat("x", 257), Expires: testTime, Version: 1},
		"expiry":  {ID: "id", Version: 1},
		"name":    {ID: "id", Expires: testTime, Version: 1, Name: strings.Repeat("x", 129)},
	} {
		if s, err := SignToken(testKey, c); err == nil {
			t.Errorf("%s: %s", name, s)
		}
	}
}
