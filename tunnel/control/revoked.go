package control

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"time"
)

const (
	// revokedPoll is how often a file of revoked tokens is read. Polling
	// follows swapped links and mounted secrets, which file notifications do
	// not.
	revokedPoll = time.Second
	maxRevoked  = 16 << 20
)

// A Revoked is a set of tokens that are good no more.
type Revoked struct {
	ids      map[string]bool
	subjects map[UUID]bool
}

// ParseRevoked reads the content of a file of revoked tokens. A line is one of
//
//	ID                  the token with this id (its claim jti)
//	TOKEN               that token
//	subject NAME        every token of the subject that snapproxy token --subject named so
//	subject UUID        every token of the subject with this UUID
//
// and a # that stands first or behind a space begins a comment. The first bad
// line is an error that names its number and does not quote it.
func ParseRevoked(b []byte) (Revoked, error) {
	r := Revoked{ids: make(map[string]bool), subjects: make(map[UUID]bool)}
	sc := bufio.NewScanner(bytes.NewReader(b))
	for n := 1; sc.Scan(); n++ {
		var fields []string
		for _, f := range strings.Fields(sc.Text()) {
			if f[0] == '#' {
				break
			}
			fields = append(fields, f)
		}
		if err := r.add(fields); err != nil {
			return Revoked{}, fmt.Errorf("line %d: %w", n, err)
		}
	}
	if err := sc.Err(); err != nil {
		return Revoked{}, err
	}
	return r, nil
}

func (r Revoked) add(fields []string) error {
	switch {
	case len(fields) == 0:
	case len(fields) == 2 && fields[0] == "subject":
		u, err := ParseUUID(fields[1])
		if err != nil {
			u = SubjectOf(fields[1])
		}
		r.subjects[u] = true
	case len(fields) > 1:
		return errors.New("more than one word (want ID, or subject NAME)")
	case tokenLike.MatchString(fields[0]):
		e, err := openEnvelope(fields[0])
		if err != nil {
			return err
		}
		c, err := e.claims()
		if err != nil {
			return err
		}
		r.ids[c.ID] = true
	default:
		r.ids[fields[0]] = true
	}
	return nil
}

// Has reports whether a token with claims c is revoked.
func (r Revoked) Has(c Claims) bool { return r.ids[c.ID] || r.subjects[c.Subject] }

// Len returns how many lines revoke something.
func (r Revoked) Len() int { return len(r.ids) + len(r.subjects) }

// A revokedFile follows a file of revoked tokens.
type revokedFile struct {
	path   string
	notify func() // called after the set has changed
	logger *slog.Logger
	set    atomic.Pointer[Revoked]
	wish   chan struct{}
	seen   []byte // content that the last poll read; owned by run
	taken  []byte // content that set was made of, or that was refused; owned by run
}

func openRevoked(path string, notify func(), logger *slog.Logger) (*revokedFile, error) {
	f := &revokedFile{path: path, notify: notify, logger: logger, wish: make(chan struct{}, 1)}
	b, err := f.read()
	if err != nil {
		return nil, err
	}
	r, err := ParseRevoked(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	f.set.Store(&r)
	f.seen, f.taken = b, b
	return f, nil
}

func (f *revokedFile) has(c Claims) bool { return f.set.Load().Has(c) }

func (f *revokedFile) reload() {
	select {
	case f.wish <- struct{}{}:
	default:
	}
}

// run follows the file until ctx ends. New content is taken when two reads
// agree, so that a file is never taken while it is written; content with a bad
// line leaves the old set in force, with a warning.
func (f *revokedFile) run(ctx context.Context) {
	ticker := time.NewTicker(revokedPoll)
	defer ticker.Stop()
	for {
		now := false
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-f.wish:
			now = true
		}
		f.poll(now)
	}
}

func (f *revokedFile) poll(now bool) {
	b, err := f.read()
	if err != nil {
		if now || f.seen != nil {
			f.logger.Warn("revoked tokens not readable, the old ones stay revoked", "error", err)
		}
		f.seen = nil
		return
	}
	settled := f.seen != nil && bytes.Equal(b, f.seen)
	f.seen = b
	if !now && !settled || bytes.Equal(b, f.taken) {
		return
	}
	f.taken = b
	r, err := ParseRevoked(b)
	if err != nil {
		f.logger.Warn("revoked tokens refused, the old ones stay in force", "file", f.path, "error", err)
		return
	}
	f.set.Store(&r)
	f.logger.Info("revoked tokens taken", "file", f.path, "lines", r.Len())
	f.notify()
}

func (f *revokedFile) read() ([]byte, error) {
	info, err := os.Stat(f.path)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxRevoked {
		return nil, fmt.Errorf("%s: larger than %d bytes", f.path, maxRevoked)
	}
	b, err := os.ReadFile(f.path)
	if b == nil {
		b = []byte{}
	}
	return b, err
}
