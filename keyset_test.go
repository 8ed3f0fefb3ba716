package snapproxy

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/snapproxy/snapproxy/tunnel/snaptun"
)

var keyA, keyB = snaptun.PublicKey{1}, snaptun.PublicKey{2}

func TestParseAuthorizedKeys(t *testing.T) {
	a, b := keyA.String(), keyB.String()
	for _, tt := range []struct {
		name, in string
		want     map[snaptun.PublicKey]string
		err      string
	}{
		{"empty", "", map[snaptun.PublicKey]string{}, ""},
		{"one", a, map[snaptun.PublicKey]string{keyA: ""}, ""},
		{"names and comments", "# ours\n" + a + " alice # laptop\r\n\n\t" + b + "\tci-1@example.org\n", map[snaptun.PublicKey]string{keyA: "alice", keyB: "ci-1@example.org"}, ""},
		{"bad key", a + "\nxyz", nil, "line 2: public key"},
		{"bad name", a + " a/b", nil, `line 1: name "a/b"`},
		{"option", a + " alice rate=1", nil, `line 1: option "rate=1"`},
		{"twice", a + "\n" + a, nil, "line 2: key"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParseAuthorizedKeys([]byte(tt.in))
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("error %v, want %q", err, tt.err)
				}
				return
			}
			if err != nil || len(got) != len(tt.want) {
				t.Fatalf("got %v, %v, want %v", got, err, tt.want)
			}
			for k, name := range tt.want {
				if got[k] != name {
					t.Errorf("name of %s = %q, want %q", k, got[k], name)
				}
			}
		})
	}
}

func FuzzParseAuthorizedKeys(f *testing.F) {
	f.Add([]byte(keyA.String() + " alice\n# x\n"))
	f.Add([]byte("\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		keys, err := ParseAuthorizedKeys(b)
		if err != nil && keys != nil {
			t.Error("keys beside an error")
		}
		for _, name := range keys {
			if name != "" && !keyName.MatchString(name) {
				t.Errorf("name %q", name)
			}
		}
	})
}

// The file is taken when two polls agree, at once on Reload, and never with a
// bad line; a link may be swapped.
func TestKeySetFollowsItsFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "keys")
	write := func(s string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(keyA.String())
	s, err := LoadKeySet(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	check := func(a, b bool) {
		t.Helper()
		if s.Authorized(keyA, time.Time{}) != a || s.Authorized(keyB, time.Time{}) != b {
			t.Fatalf("A %v, B %v, want %v, %v", s.Authorized(keyA, time.Time{}), s.Authorized(keyB, time.Time{}), a, b)
		}
	}
	check(true, false)

	write(keyB.String() + " bob")
	s.poll(false)
	check(true, false) // read once
	s.poll(false)
	check(false, true)
	if got := s.Name(keyB); got != "bob" {
		t.Errorf("name %q, want bob", got)
	}

	write("garbage")
	s.poll(false)
	s.poll(false)
	s.poll(true)
	check(false, true)

	os.Remove(path)
	s.poll(false)
	s.poll(true)
	check(false, true)

	other := filepath.Join(dir, "other")
	if err := os.WriteFile(other, []byte(keyA.String()+"\n"+keyB.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(other, path); err != nil {
		t.Skip("no symbolic links here")
	}
	s.poll(true)
	check(true, true)
}

// A file that looks the same is not read again, but one that was written so
// lately that its time would not tell is.
func TestKeySetReadsWhatChanged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	write := func(content string, age time.Duration) {
		t.Helper()
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		then := time.Now().Add(-age)
		if err := os.Chtimes(path, then, then); err != nil {
			t.Fatal(err)
		}
	}
	write(keyA.String(), time.Hour)
	s, err := LoadKeySet(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	polls := func(what string, want ...bool) {
		t.Helper()
		for i, want := range want {
			s.readAt = s.readAt.Add(-time.Nanosecond) // clocks may be coarse
			before := s.readAt
			s.poll(false)
			if read := !s.readAt.Equal(before); read != want {
				t.Errorf("%s: poll %d reads %v, want %v", what, i, read, want)
			}
		}
	}
	polls("an old file", false)
	write(keyB.String(), 30*time.Minute)
	polls("a file of another time", true, true, false)
	if !s.Authorized(keyB, time.Time{}) {
		t.Error("what was read is not in force")
	}
	write(keyB.String(), 0)
	polls("a file written just now", true, true)
	write(keyB.String(), time.Hour)
	polls("a file set back", true, false)
	s.readAt = s.readAt.Add(-keySetReread)
	polls("an old file after a while", true, false)
	os.Remove(path)
	polls("a file that is gone", true)
}

func TestUsers(t *testing.T) {
	u, err := parseUsers([]byte("# staff\nalice:s3cret:with colon\n\nbob: x\n"))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, password string
		want           bool
	}{
		{"alice", "s3cret:with colon", true},
		{"bob", " x", true},
		{"alice", "", false},
		{"alice", "S3cret:with colon", false},
		{"carol", "", false},
		{"", "", false},
	} {
		if got := u.Valid(tt.name, tt.password); got != tt.want {
			t.Errorf("Valid(%q, %q) = %v, want %v", tt.name, tt.password, got, tt.want)
		}
	}
	for _, bad := range []string{"", "alice", "alice:", ":secretsecret", "a:b\na:secretsecret", strings.Repeat("x", 256) + ":secretsecret"} {
		if _, err := parseUsers([]byte(bad)); err == nil {
			t.Errorf("parseUsers(%.20q): no error", bad)
		} else if strings.Contains(err.Error(), "secretsecret") {
			t.Errorf("error %q repeats a password", err)
		}
	}
}

func FuzzParseUsers(f *testing.F) {
	f.Add([]byte("alice:x\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		u, err := parseUsers(b)
		if err == nil && u.Valid("", "") {
			t.Error("the empty pair is let in")
		}
	})
}
