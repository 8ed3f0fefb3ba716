package socks

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"

	socks5 "github.com/armon/go-socks5"
)

// ErrHalfCredential reports a user without a password or a password without a
// user: neither must turn authentication off or let anybody in.
var ErrHalfCredential = errors.New("user name and password must both be set")

// Users is a set of user names and passwords. It keeps only their SHA-256 and
// does not change once made.
type Users struct {
	entries []userDigest
}

type userDigest struct{ name, password [sha256.Size]byte }

// NewUsers returns the set of users in passwords, which is keyed by user name.
// It returns ErrHalfCredential if a name or a password is empty. A set of
// nobody lets nobody in.
func NewUsers(passwords map[string]string) (*Users, error) {
	u := &Users{entries: make([]userDigest, 0, len(passwords))}
	for name, password := range passwords {
		if name == "" || password == "" {
			return nil, ErrHalfCredential
		}
		u.entries = append(u.entries, userDigest{sha256.Sum256([]byte(name)), sha256.Sum256([]byte(password))})
	}
	return u, nil
}

// Valid reports whether password is that of the user called name. It compares
// with every user, so that its time tells neither who exists nor how much of a
// password was right. It is safe for concurrent use.
func (u *Users) Valid(name, password string) bool {
	n, p := sha256.Sum256([]byte(name)), sha256.Sum256([]byte(password))
	valid := 0
	for i := range u.entries {
		e := &u.entries[i]
		valid |= subtle.ConstantTimeCompare(e.name[:], n[:]) & subtle.ConstantTimeCompare(e.password[:], p[:])
	}
	return valid == 1
}

var (
	_ socks5.CredentialStore = (*Users)(nil)
	_ socks5.CredentialStore = credentials(nil)
)

// credentials is the configured check. RFC 1929 knows no empty names and
// passwords; they fail closed here, whatever the check would say.
type credentials func(name, password string) bool

func (c credentials) Valid(name, password string) bool {
	valid := c(name, password)
	return valid && name != "" && password != ""
}
