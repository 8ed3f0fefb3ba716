package main

import (
	"crypto/rand"
	"net/url"

	"github.com/snapproxy/snapproxy/socks"
)

// newCredential draws a user for the proxy of one command, so that other users
// of the machine cannot borrow it.
func newCredential() *url.Userinfo { return url.UserPassword("snapproxy", rand.Text()) }

// singleUser is the check that admits user alone.
func singleUser(user *url.Userinfo) (func(name, password string) bool, error) {
	password, _ := user.Password()
	users, err := socks.NewUsers(map[string]string{user.Username(): password})
	if err != nil {
		return nil, err
	}
	return users.Valid, nil
}
