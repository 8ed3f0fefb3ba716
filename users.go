package snapproxy

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/snapproxy/snapproxy/socks"
)

// LoadUsers reads a file of NAME:PASSWORD lines. Blank lines and lines that
// begin with # are skipped; a password may hold colons and spaces.
func LoadUsers(path string) (*socks.Users, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	users, err := parseUsers(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return users, nil
}

// errNoUsers refuses a users file that would let nobody in.
var errNoUsers = errors.New("no users (want lines of NAME:PASSWORD)")

// parseUsers never repeats a line in an error: it may be a password.
func parseUsers(b []byte) (*socks.Users, error) {
	u := make(map[string]string)
	sc := bufio.NewScanner(bytes.NewReader(b))
	for n := 1; sc.Scan(); n++ {
		line := sc.Text()
		if trimmed := strings.TrimSpace(line); trimmed == "" || trimmed[0] == '#' {
			continue
		}
		name, password, ok := strings.Cut(line, ":")
		switch {
		case !ok:
			return nil, fmt.Errorf("line %d: no colon (want NAME:PASSWORD)", n)
		case name == "" || password == "":
			return nil, fmt.Errorf("line %d: empty name or password", n)
		case len(name) > 255 || len(password) > 255:
			return nil, fmt.Errorf("line %d: name or password longer than 255 bytes", n)
		}
		if _, twice := u[name]; twice {
			return nil, fmt.Errorf("line %d: user %q stands twice", n, name)
		}
		u[name] = password
	}
	if err := sc.Err(); err != nil {
		return nil, err
	}
	if len(u) == 0 {
		return nil, errNoUsers
	}
	return socks.NewUsers(u)
}
