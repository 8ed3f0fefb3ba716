package socks

import (
	"errors"
	"testing"
)

func TestUsersValid(t *testing.T) {
	valid := users(t)
	tests := []struct {
		name, password string
		want           bool
	}{
		{"alice", "wonderland", true},
		{"bob", "builder", true},
		{"alice", "builder", false},
		{"alice", "Wonderland", false},
		{"alice", "wonderland ", false},
		{"alice", "", false},
		{"", "", false},
		{"carol", "wonderland", false},
	}
	for _, tt := range tests {
		if got := valid(tt.name, tt.password); got != tt.want {
			t.Errorf("Valid(%q, %q) = %v, want %v", tt.name, tt.password, got, tt.want)
		}
	}
	if new(Users).Valid("", "") {
		t.Error("a set of nobody let somebody in")
	}
}

func TestNewUsersRefusesHalfCredentials(t *testing.T) {
	for _, m := range []map[string]string{{"alice": ""}, {"": "wonderland"}, {"": ""}} {
		if _, err := NewUsers(m); !errors.Is(err, ErrHalfCredential) {
			t.Errorf("NewUsers(%v): %v, want ErrHalfCredential", m, err)
		}
	}
}
