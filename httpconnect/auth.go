package httpconnect

import (
	"encoding/base64"
	"net/http"
	"strings"
)

// authenticate checks the credentials of a request and returns the user's name.
func (c *client) authenticate(h http.Header) (string, error) {
	if c.cfg.Users == nil {
		return "", nil
	}
	name, password, ok := basicCredentials(h["Proxy-Authorization"])
	// Asked in any case, so that the time does not tell what was missing.
	valid := c.cfg.Users(name, password)
	if !ok || !valid || name == "" || password == "" {
		return "", failure{status: http.StatusProxyAuthRequired, reason: errRequest, text: "user name and password required"}
	}
	return name, nil
}

// basicCredentials parses the one value of Proxy-Authorization (RFC 7617).
func basicCredentials(values []string) (name, password string, ok bool) {
	if len(values) != 1 {
		return "", "", false
	}
	scheme, encoded, _ := strings.Cut(values[0], " ")
	if !strings.EqualFold(scheme, "Basic") {
		return "", "", false
	}
	decoded, err := base64.StdEncoding.DecodeString(strings.TrimLeft(encoded, " "))
	if err != nil {
		return "", "", false
	}
	return strings.Cut(string(decoded), ":")
}
